"""The nova command: local cluster, demo, dev mode and manifests."""
