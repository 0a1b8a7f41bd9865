"""h2spec as the oracle for HTTP/2 and HPACK."""
