"""The sidecar proxy: policies, wire, transport and pipeline, in four rings that import only inward."""
