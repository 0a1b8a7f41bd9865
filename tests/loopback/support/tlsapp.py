"""An app behind TLS, which tells what the handshake of each connection said."""

import contextlib
import ssl
import threading
from pathlib import Path

from .app import Answer, App, ok
from .certificates import Pair
from .peer import Peer


class TlsApp(App):
    """Serves with `pair`; `client_ca`, where given, must have issued the client's certificate."""

    def __init__(
        self,
        directory: Path,
        pair: Pair,
        answer: Answer = ok,
        *,
        client_ca: bytes = b"",
        alpn: str = "http/1.1",
        newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> None:
        self._directory = directory
        self._alpn = alpn
        self._newest = newest
        self.names: list[str | None] = []
        """SNI of each handshake."""
        self.failed: list[str] = []
        """Handshakes that came to nothing."""
        self.protocols: list[str | None] = []
        """ALPN of each handshake."""
        self._turn = threading.Lock()
        self.use(pair, client_ca)
        super().__init__(answer)

    def use(self, pair: Pair, client_ca: bytes = b"") -> None:
        """Serve with this certificate from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = self._newest
        context.set_alpn_protocols([self._alpn])
        file = self._directory / "server.pem"
        file.write_bytes(pair.certificate + pair.key)
        context.load_cert_chain(file)
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=client_ca.decode())
        context.sni_callback = lambda _sock, name, _context: self.names.append(name)
        self._context = context

    def _serve(self, peer: Peer, number: int) -> None:
        plain = peer.socket
        try:
            peer.socket = self._context.wrap_socket(plain, server_side=True)
        except OSError as error:
            self.failed.append(str(error))
            with contextlib.suppress(OSError):
                plain.close()
            return
        self.protocols.append(peer.socket.selected_alpn_protocol())
        super()._serve(peer, number)
