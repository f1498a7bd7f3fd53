"""HTTP/2 by hand, for what no well-behaved client would send: no flow control, no limits, no manners."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame that the server sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame's bytes."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: str, value: str | bytes) -> bytes:
    """A header in HPACK, uncompressed and not to be indexed."""
    raw = value.encode() if isinstance(value, str) else value
    return b"\x00" + _integer(len(name)) + name.encode() + _integer(len(raw)) + raw


def request_headers(method: str, *more: tuple[str, str | bytes]) -> bytes:
    """The header block of a gRPC call."""
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *more,
    )
    return b"".join(literal(name, value) for name, value in fields)


def message(payload: bytes) -> bytes:
    """A gRPC message: not compressed, with its size."""
    return b"\x00" + struct.pack(">I", len(payload)) + payload


def _integer(value: int) -> bytes:
    if value < 127:
        return bytes((value,))
    out = bytearray((127,))
    value -= 127
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


class RawHttp2:
    """One connection. It announces the flow-control window that it is given, and never opens it further."""

    def __init__(
        self,
        address: str,
        tls: ssl.SSLContext | None = None,
        *,
        window: int = 65535,
        timeout_s: float = 20.0,
    ) -> None:
        host, _, port = address.rpartition(":")
        self._socket: socket.socket = socket.create_connection((host, int(port)), timeout=timeout_s)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname=host)
        self._received = b""
        self._next_stream = 1
        self.send(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window)))

    def __enter__(self) -> RawHttp2:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, raw: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(raw)

    def call(self, method: str, request: bytes, *more: tuple[str, str | bytes], end: bool = True) -> int:
        """Begin a call with one message; return its stream."""
        stream = self._next_stream
        self._next_stream += 2
        body = message(request)
        self.send(
            frame(HEADERS, END_HEADERS, stream, request_headers(method, *more))
            + frame(DATA, END_STREAM if end else 0, stream, body)
        )
        return stream

    def read(self) -> Frame | None:
        """The next frame, or None at the end of the connection. SETTINGS and PING are answered."""
        head = self._take(9)
        if head is None:
            return None
        size = int.from_bytes(head[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = self._take(size)
        if payload is None:
            return None
        if kind in (SETTINGS, PING) and not flags & ACK:
            with contextlib.suppress(ConnectionError):  # what came before the end is still to be read
                self.send(frame(kind, ACK, 0, payload if kind == PING else b""))
        return Frame(kind, flags, stream, payload)

    def read_until(self, kind: int, stream: int | None = None) -> Frame | None:
        """Read until a frame of this kind (on this stream); None where the connection ends first."""
        while (got := self.read()) is not None:
            if got.kind == kind and stream in (None, got.stream):
                return got
        return None

    def _take(self, size: int) -> bytes | None:
        while len(self._received) < size:
            try:
                more = self._socket.recv(65536)
            except ConnectionError:
                return None
            if not more:
                return None
            self._received += more
        taken, self._received = self._received[:size], self._received[size:]
        return taken
