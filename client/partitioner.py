"""Which partition a record goes to. Kafka's hash, so that keys land where Kafka users expect them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from quorumlog.client.batches import PendingBatch, State
from quorumlog.client.errors import UnknownPartition

# Key (as bytes; None: none) and how many partitions the topic has, to the partition.
Partitioner: TypeAlias = Callable[[bytes | None, int], int]

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Return the 32-bit murmur2 hash of Kafka's Java client (org.apache.kafka.common.utils.Utils)."""
    size = len(data)
    whole = size & ~3
    hashed = (_SEED ^ size) & _MASK
    for position in range(0, whole, 4):
        word = int.from_bytes(data[position : position + 4], "little") * _M & _MASK
        word = (word ^ (word >> 24)) * _M & _MASK
        hashed = (hashed * _M & _MASK) ^ word
    if size > whole:
        hashed = (hashed ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    hashed = (hashed ^ (hashed >> 13)) * _M & _MASK
    return hashed ^ (hashed >> 15)


def partition_of_key(key: bytes, partitions: int) -> int:
    """Return the partition of a keyed record, as Kafka's default partitioner does."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


class GivenPartitioner:
    """The user's own choice."""

    def __init__(self, partitioner: Partitioner) -> None:
        self._partitioner = partitioner

    def choose(self, key: bytes | None, partitions: int) -> int:
        """Return the partition. Raises UnknownPartition where the topic has none such."""
        chosen = self._partitioner(key, partitions)
        if not (isinstance(chosen, int) and 0 <= chosen < partitions):
            raise UnknownPartition(f"partitioner: expected 0 to {partitions - 1}, got {chosen!r}")
        return chosen

    def batch_opened(self, batch: PendingBatch) -> None:
        """Take note of a new batch."""


class StickyPartitioner:
    """Where records without a key go: to one partition until its batch leaves, then to the next.

    One large batch costs less than many small ones, and over time all partitions get the same.
    """

    def __init__(self, first: int = 0) -> None:
        self._current = first
        self._batch: PendingBatch | None = None

    def choose(self, key: bytes | None, partitions: int) -> int:
        """Return the partition for a record with this key."""
        if key is not None:
            return partition_of_key(key, partitions)
        if self._batch is not None and self._batch.state is not State.GATHERING:
            self._advance()
        return self._current % partitions

    def batch_opened(self, batch: PendingBatch) -> None:
        """Take note of a new batch; the one before it, if it still gathers, was full."""
        if self._batch is not None:
            self._advance()
        self._batch = batch

    def _advance(self) -> None:
        self._current += 1
        self._batch = None
