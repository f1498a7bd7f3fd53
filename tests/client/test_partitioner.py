"""Keys land where Kafka's clients put them; records without a key stick to a partition for a batch."""

from __future__ import annotations

import pytest

from quorumlog.client.batches import PendingBatch, State
from quorumlog.client.partitioner import StickyPartitioner, murmur2, partition_of_key
from quorumlog.proto import batch_pb2

# From Kafka's own UtilsTest.testMurmur2, which gives them as signed numbers.
KAFKA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), KAFKA.items())
def test_the_hash_is_kafkas(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32


def test_a_key_always_goes_to_the_same_partition() -> None:
    assert {partition_of_key(b"foobar", 7) for _ in range(3)} == {(-790332482 & 0x7FFFFFFF) % 7}
    assert StickyPartitioner(3).choose(b"foobar", 7) == partition_of_key(b"foobar", 7)


def test_records_without_a_key_stay_until_their_batch_leaves() -> None:
    partitioner = StickyPartitioner()
    batch = PendingBatch("t", 0, 0.0, batch_pb2.CODEC_NONE)
    first = partitioner.choose(None, 3)
    partitioner.batch_opened(batch)
    assert partitioner.choose(None, 3) == first
    batch.state = State.SENT
    assert partitioner.choose(None, 3) == (first + 1) % 3


def test_a_batch_that_follows_a_full_one_sends_what_comes_elsewhere() -> None:
    partitioner = StickyPartitioner()
    first = partitioner.choose(None, 3)
    partitioner.batch_opened(PendingBatch("t", first, 0.0, batch_pb2.CODEC_NONE))
    partitioner.batch_opened(PendingBatch("t", first, 0.0, batch_pb2.CODEC_NONE))
    assert partitioner.choose(None, 3) == (first + 1) % 3
