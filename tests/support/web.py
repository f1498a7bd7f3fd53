"""Asking a node over HTTP, with what Python brings along."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

from quorumlog.client.tls import Tls
from tests.support.waiting import UNIT_S

TIMEOUT_S = 20 * UNIT_S


@dataclass(frozen=True)
class Answer:
    """What a node answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body as a value."""
        return json.loads(self.body)


def context_of(authority: Path, tls: Tls | None = None) -> ssl.SSLContext:
    """A context that believes the authority, and shows a client's certificate or none."""
    context = ssl.create_default_context(cafile=str(authority))
    if tls is not None:
        context.load_cert_chain(tls.cert, tls.key)
    return context


def fetch(
    address: str,
    path: str,
    *,
    tls: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    body: bytes | None = None,
) -> Answer:
    """Ask once, on this thread."""
    with opened(address, path, tls=tls, headers=headers, method=method, body=body) as response:
        return Answer(response.status, dict(response.getheaders()), response.read())


async def get(address: str, path: str, **options: Any) -> Answer:
    """Ask a node that runs on this loop."""
    return await asyncio.to_thread(lambda: fetch(address, path, **options))


@contextmanager
def opened(
    address: str,
    path: str,
    *,
    tls: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    body: bytes | None = None,
) -> Iterator[HTTPResponse]:
    """An answer whose body is still to be read."""
    if tls is None:
        connection = HTTPConnection(address, timeout=TIMEOUT_S)
    else:
        connection = HTTPSConnection(address, timeout=TIMEOUT_S, context=tls)
    try:
        connection.request(method, path, body, dict(headers or {}))
        yield connection.getresponse()
    finally:
        connection.close()


class Events:
    """The server-sent events of an answer."""

    def __init__(self, response: HTTPResponse) -> None:
        self._response = response

    def next(self) -> tuple[str, Any, str]:
        """Return name, data and id of the next event; comments and pauses are passed over.

        Raises EOFError at the end.
        """
        fields: dict[str, str] = {}
        while line := self._response.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "event" in fields:
                return fields["event"], json.loads(fields["data"]), fields.get("id", "")
            else:
                fields = {}
        raise EOFError
