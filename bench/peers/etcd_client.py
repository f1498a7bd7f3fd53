"""The few calls of etcd's gRPC API that are used here, with the fields that are needed, by hand.

etcd's Python clients are no longer maintained; its API is stable, and these messages are a few fields each
(https://etcd.io/docs/v3.4/dev-guide/api_reference_v3/).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc.aio

from quorumlog.proto.varint import varint

_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    # As our client has it: gRPC's own pauses between connection attempts would be most of a failover.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@dataclass(frozen=True, slots=True)
class Status:
    """A member as it sees itself; `leader` is 0 where it knows none."""

    member_id: int
    leader: int
    raft_index: int


class EtcdClient:
    """One channel to one member. `async with` closes it."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._put: Any = self._channel.unary_unary("/etcdserverpb.KV/Put")
        self._status: Any = self._channel.unary_unary("/etcdserverpb.Maintenance/Status")
        self._move_leader: Any = self._channel.unary_unary("/etcdserverpb.Maintenance/MoveLeader")

    async def __aenter__(self) -> EtcdClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def put(self, key: bytes, value: bytes, timeout_s: float = 30.0) -> None:
        """Return when a majority has it. Raises grpc.aio.AioRpcError."""
        await self._put(bytes_field(1, key) + bytes_field(2, value), timeout=timeout_s)

    async def status(self, timeout_s: float = 1.0) -> Status:
        """Raises grpc.aio.AioRpcError."""
        answer = dict(fields(await self._status(b"", timeout=timeout_s)))
        header = dict(fields(answer[1]))
        return Status(header.get(2, 0), answer.get(4, 0), answer.get(5, 0))

    async def move_leader(self, target: int, timeout_s: float = 10.0) -> None:
        """To be asked of the leader. Raises grpc.aio.AioRpcError."""
        await self._move_leader(varint(1 << 3) + varint(target), timeout=timeout_s)


def bytes_field(number: int, value: bytes) -> bytes:
    """Return a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of varint and length-delimited fields; there are no others here."""
    position = 0

    def number() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(message):
        tag = number()
        if tag & 7 == 0:
            yield tag >> 3, number()
        else:
            assert tag & 7 == 2, f"field {tag >> 3} has wire type {tag & 7}"
            size = number()
            yield tag >> 3, message[position : position + size]
            position += size
