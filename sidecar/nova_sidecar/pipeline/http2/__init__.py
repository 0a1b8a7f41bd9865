"""gRPC and HTTP/2 through the same policies as HTTP/1.1: one call for each stream, one port for all its connections."""
