"""All targets by name."""

from collections.abc import Callable

from .chunked import Chunked
from .driver import Target
from .hpack import Hpack
from .http1_requests import Requests
from .http1_responses import Responses
from .http2 import Http2
from .huffman import Huffman
from .websocket import WebSocket

_ALL: tuple[Callable[[], Target], ...] = (Requests, Responses, Chunked, Http2, Hpack, Huffman, WebSocket)
TARGETS = {make().name: make for make in _ALL}
