"""The operator: turns NovaServices into Kubernetes objects and keeps them so."""
