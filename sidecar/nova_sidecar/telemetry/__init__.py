"""What the sidecar says about itself: log lines, the access log, and the one writer both go through.

It knows no sockets, no policies and no metrics library; the rings above hand it values.
"""
