"""Ring two: HTTP as bytes and values, without sockets, clocks or tasks.

Heads, body framing, hop-by-hop rules and the writer. Strict where HTTP leaves a choice: what two parsers could
read differently is refused here, so that it never reaches the app (RFC 9112 section 11.2, request smuggling).
"""
