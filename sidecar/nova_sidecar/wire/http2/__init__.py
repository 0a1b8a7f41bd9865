"""HTTP/2 as bytes and values: frames (RFC 9113), header compression (RFC 7541), and the heads of streams.

A proxy needs little of HTTP/2: it takes frames apart, rewrites a few header fields and writes frames again. So there
is no state machine of streams here, only what the bytes alone can tell; what a frame means for a stream is decided
where streams live. Header blocks that leave are encoded without dynamic table, so they are the same bytes each time,
can be remembered whole, and take another field by having its bytes appended.
"""
