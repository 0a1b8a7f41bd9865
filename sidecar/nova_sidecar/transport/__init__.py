"""Ring three: sockets. Connections down and up, flow control both ways, the pool and its timers.

Connections know bytes and heads, never policies; they hand what they read to the handler that the pipeline gave
them. The pool decides synchronously and returns what to do.
"""
