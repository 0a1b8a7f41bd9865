"""The reference services that the demo and the end-to-end tests run behind sidecars."""
