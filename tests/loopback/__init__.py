"""The real sidecar process on real sockets, seen from outside: what callers and apps put on the wire and get back."""
