"""A DNS server on loopback that says what a test wants: right, wrong, late, in part or nothing (RFC 1035)."""

import socket
import struct
import threading
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, NamedTuple

TYPES: Final = {"A": 1, "CNAME": 5, "SOA": 6, "AAAA": 28}
NXDOMAIN: Final = 3
SERVFAIL: Final = 2
_NAMES: Final = {number: name for name, number in TYPES.items()}


class Question(NamedTuple):
    """What was asked, and how."""

    name: str
    type: str
    transport: str
    message: bytes

    @property
    def key(self) -> str:
        """Type and name, as tests write them."""
        return f"{self.type} {self.name}"


class Record(NamedTuple):
    """A resource record; `data` is an address or, for CNAME, a name."""

    name: str
    type: str
    data: str
    ttl: int = 60


Answer = Callable[[Question], bytes | list[bytes] | None]


class NameServer:
    """Answers over UDP and TCP on one port. `answer` gives the message or messages to send back, None for silence."""

    def __init__(self, answer: Answer, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.answer = answer
        self.questions: list[Question] = []
        self._tcp = socket.create_server((host, port))
        self.host = host
        self.port = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((host, self.port))
        self._threads = [threading.Thread(target=serve, daemon=True) for serve in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    @property
    def asked(self) -> list[str]:
        """Type and name of every question, in order."""
        return [question.key for question in self.questions]

    def close(self) -> None:
        """Stop serving."""
        self._udp.sendto(b"", (self.host, self.port))
        socket.create_connection((self.host, self.port)).close()
        for thread in self._threads:
            thread.join(5)
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            message, client = self._udp.recvfrom(4096)
            if not message:
                return
            for reply in self._replies(message, "udp"):
                self._udp.sendto(reply, client)

    def _serve_tcp(self) -> None:
        while True:
            client, _ = self._tcp.accept()
            with client:
                length = client.recv(2, socket.MSG_WAITALL)
                if not length:
                    return
                message = client.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL)
                for reply in self._replies(message, "tcp"):
                    client.sendall(len(reply).to_bytes(2, "big") + reply)

    def _replies(self, message: bytes, transport: str) -> list[bytes]:
        name, end = _read_name(message, 12)
        (kind,) = struct.unpack_from(">H", message, end)
        question = Question(name.lower(), _NAMES.get(kind, str(kind)), transport, message)
        self.questions.append(question)
        replies = self.answer(question)
        return replies if isinstance(replies, list) else [replies] if replies is not None else []


def reply(
    question: Question, *records: Record, code: int = 0, truncated: bool = False, message: bytes | None = None
) -> bytes:
    """An answer to a question, or to the question in another `message`."""
    asked = question.message if message is None else message
    _, end = _read_name(asked, 12)
    flags = 0x8180 | code | (0x0200 if truncated else 0)
    header = asked[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0)
    return header + asked[12 : end + 4] + b"".join(_record(record) for record in records)


def from_table(*records: Record) -> Answer:
    """Answers from these records: NXDOMAIN for a name that has none, an empty answer for a type it lacks."""

    def answer(question: Question) -> bytes:
        if not any(record.name == question.name for record in records):
            return reply(question, code=NXDOMAIN)
        return reply(question, *(r for r in records if r.name == question.name and r.type in (question.type, "CNAME")))

    return answer


def _record(record: Record) -> bytes:
    data = _name(record.data) if record.type == "CNAME" else ip_address(record.data).packed
    return _name(record.name) + struct.pack(">HHIH", TYPES[record.type], 1, record.ttl, len(data)) + data


def _name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _read_name(message: bytes, at: int) -> tuple[str, int]:
    labels = []
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), at + 1
