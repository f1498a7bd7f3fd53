"""A producer that sends numbered records all the time, and judges replicas by what it was promised."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from quorumlog.client import AsyncClient
from quorumlog.client.batches import RecordMetadata
from tests.support.replica import Replica
from tests.support.waiting import UNIT_S, eventually

# Enough to keep several batches under way when the leader dies, few enough that an ack names a recent record.
_UNDER_WAY_MAX = 64


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What the cluster promised: this value stands at this offset."""

    value: bytes
    offset: int
    raft_index: int


class Load:
    """Produces `<name>-<number>` to one partition from a thread of its own, from entering to `finish`.

    It is idempotent and never gives up within a test, so every record must be acknowledged in the end, once.
    """

    def __init__(
        self, name: str, servers: Sequence[str], topic: str, partition: int = 0, *, route: str = "leader"
    ) -> None:
        self.name = name
        self.acknowledged: list[Acknowledged] = []  # appended to by the thread alone
        self._servers = list(servers)
        self._topic = topic
        self._partition = partition
        self._route = route
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._cancel: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._run, name=f"load-{name}", daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if error is not None and self._cancel is not None:
            self._cancel()  # what is under way may never be acknowledged, and nobody asks any more
        self._thread.join(60 * UNIT_S)

    def wait_for_more(self, count: int = 50, units: float = 30) -> None:
        """Wait until `count` further records are acknowledged: the cluster makes progress."""
        wanted = len(self.acknowledged) + count

        def enough() -> bool:
            self._check()
            return len(self.acknowledged) >= wanted

        eventually(enough, f"load {self.name} gets {count} more acknowledgements", units)

    def finish(self) -> list[Acknowledged]:
        """Send no more, wait until everything sent is acknowledged, and return all of it."""
        self._stopping.set()
        self._thread.join(60 * UNIT_S)
        assert not self._thread.is_alive(), f"load {self.name}: records are still not acknowledged"
        self._check()
        return self.acknowledged

    def _check(self) -> None:
        if self._failure is not None:
            raise AssertionError(f"load {self.name} failed") from self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._produce())
        except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001  (the test raises it)
            self._failure = failure

    async def _produce(self) -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None, "asyncio.run makes one"
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        async with AsyncClient(self._servers, route=self._route) as client, client.producer() as producer:
            under_way = asyncio.Semaphore(_UNDER_WAY_MAX)
            async with asyncio.TaskGroup() as waiting:
                number = 0
                while not self._stopping.is_set():
                    await under_way.acquire()
                    value = f"{self.name}-{number}".encode()
                    delivery = await producer.submit(self._topic, value, partition=self._partition)
                    waiting.create_task(self._remember(value, delivery, under_way))
                    number += 1

    async def _remember(
        self, value: bytes, delivery: Awaitable[RecordMetadata], under_way: asyncio.Semaphore
    ) -> None:
        metadata = await delivery
        self.acknowledged.append(Acknowledged(value, metadata.offset, metadata.raft_index))
        under_way.release()


def check_replica(replica: Replica, topic: str, promised: Sequence[Acknowledged], partition: int = 0) -> None:
    """Check that promised records stand at their offsets, once, and each producer's in their order."""
    latest = max((one.raft_index for one in promised), default=0)
    values = replica.values(topic, partition, at_least_index=latest)
    for one in promised:
        found = values[one.offset] if one.offset < len(values) else None
        assert found == one.value, f"offset {one.offset}: {one.value!r} was acknowledged, {found!r} is there"
    repeated = [value for value, count in Counter(values).items() if count > 1]
    assert not repeated, f"appended more than once: {repeated[:10]}"
    for name, numbers in _numbers(values).items():
        assert numbers == sorted(numbers), f"records of {name} are out of order"


def _numbers(values: Sequence[bytes]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for value in values:
        name, _, number = value.decode().rpartition("-")
        numbers.setdefault(name, []).append(int(number))
    return numbers
