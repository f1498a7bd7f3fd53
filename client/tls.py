"""What a client shows to nodes, and whom it believes: three PEM files, read again when they change."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TypeAlias

import grpc

from quorumlog.client import errors

Stamp: TypeAlias = tuple[tuple[int, int, int], ...]  # what changes when a file is replaced


@dataclass(frozen=True, slots=True)
class Tls:
    """Mutual TLS: paths of the authority's certificate, and of the client's own with its key.

    Nodes ask every client for a certificate, so all three are needed. `quorumlog certs` makes them. A file
    that was replaced serves new connections; those that are open stay.
    """

    ca: str | os.PathLike[str]
    cert: str | os.PathLike[str]
    key: str | os.PathLike[str]

    def stamp(self) -> Stamp:
        """Return what changes when a file is replaced. Raises UnknownOption where one is missing."""
        return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in map(self._stat, self._files))

    def credentials(self) -> grpc.ChannelCredentials:
        """Return what channels are opened with. Raises UnknownOption where a file cannot be read."""
        ca, cert, key = map(self._read, self._files)
        return grpc.ssl_channel_credentials(ca, key, cert)

    @property
    def _files(self) -> tuple[tuple[str, str | os.PathLike[str]], ...]:
        return ("ca", self.ca), ("cert", self.cert), ("key", self.key)

    def _stat(self, file: tuple[str, str | os.PathLike[str]]) -> os.stat_result:
        option, path = file
        try:
            return os.stat(path)
        except OSError as error:
            raise errors.UnknownOption(f"tls: {option}: {path}: {error.strerror}") from error

    def _read(self, file: tuple[str, str | os.PathLike[str]]) -> bytes:
        option, path = file
        try:
            with open(path, "rb") as opened:
                content = opened.read()
        except OSError as error:
            raise errors.UnknownOption(f"tls: {option}: {path}: {error.strerror}") from error
        if b"-----BEGIN " not in content:
            raise errors.UnknownOption(f"tls: {option}: {path}: expected a PEM file")
        return content
