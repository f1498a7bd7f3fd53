"""Which partition of which topic."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

Place: TypeAlias = tuple[str, int]  # topic, partition


class TopicPartition(NamedTuple):
    """A partition of a topic. It is a tuple: wherever one is asked for, ("orders", 0) does as well.

    Methods that take `topic, partition` take it with a star: consumer.position(*place).
    """

    topic: str
    partition: int
