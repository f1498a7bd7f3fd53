"""What a producer hands out for records on their way: awaitables of where they stand in the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable
from copy import copy
from typing import Any, TypeAlias

from quorumlog.client.batches import BatchMetadata, PendingBatch, RecordMetadata
from quorumlog.client.errors import QuorumlogError

log = logging.getLogger("quorumlog.client")

# Told once for each record: None and where it stands; or why it failed, and metadata with an offset of -1.
OnDelivery: TypeAlias = Callable[[QuorumlogError | None, RecordMetadata], None]


class Delivery:
    """A record on its way. Await it for its RecordMetadata; raises what became of it otherwise."""

    __slots__ = ("_batch", "_position")

    def __init__(self, batch: PendingBatch, position: int) -> None:
        self._batch = batch
        self._position = position

    @property
    def count(self) -> int:
        """How many records it is about: one."""
        return 1

    @property
    def done(self) -> bool:
        """True once it is acknowledged or has failed."""
        return self._batch.done

    def __await__(self) -> Generator[Any, None, RecordMetadata]:
        metadata = yield from _outcome(self._batch, 1).__await__()
        return metadata.record(self._position)


class BatchDelivery:
    """Many records of one batch on their way. Await it for their BatchMetadata."""

    __slots__ = ("_batch",)

    def __init__(self, batch: PendingBatch) -> None:
        self._batch = batch

    @property
    def count(self) -> int:
        """How many records it is about."""
        return self._batch.count

    @property
    def done(self) -> bool:
        """True once the batch is acknowledged or has failed."""
        return self._batch.done

    def __await__(self) -> Generator[Any, None, BatchMetadata]:
        return _outcome(self._batch, self._batch.count).__await__()


async def _outcome(batch: PendingBatch, records: int) -> BatchMetadata:
    """Wait until a batch is done; who is told of a failure here is not told again by flush()."""
    if not batch.done:
        waiter = asyncio.get_running_loop().create_future()
        batch.on_done.append(lambda: None if waiter.done() else waiter.set_result(None))
        await waiter
    if batch.error is not None:
        batch.told += records
        # A copy: each of those who wait adds a traceback of its own.
        raise copy(batch.error) from batch.error.__cause__
    assert batch.result is not None
    return batch.result


async def ended(batch: PendingBatch) -> None:
    """Wait until a batch is done, however it ends."""
    if not batch.done:
        waiter = asyncio.get_running_loop().create_future()
        batch.on_done.append(lambda: None if waiter.done() else waiter.set_result(None))
        await waiter


def tell(on_delivery: OnDelivery, batch: PendingBatch, positions: Iterable[int]) -> None:
    """Call back for these records of a batch that is done; an error of the callback's is logged."""
    result = batch.result or BatchMetadata(batch.topic, batch.partition, -1, 1, -1, 0, 0, False, "")
    for position in positions:
        try:
            on_delivery(batch.error, result.record(position if batch.result else 0))
        except Exception:
            log.exception("on_delivery failed for a record of %s/%s", batch.topic, batch.partition)


def tell_of_one(on_delivery: OnDelivery, batch: PendingBatch, position: int) -> None:
    """Call back for one record when its batch is done."""
    # Not where records are taken: a lambda there would make cells of its variables for every record.
    batch.on_done.append(lambda: tell(on_delivery, batch, (position,)))
