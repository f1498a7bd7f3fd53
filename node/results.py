"""What applying one operation gave. Plain values, equal on every replica.

The result of a command is a tuple with one of these per operation, or a Refused (then none of its
operations took effect).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from quorumlog.node.reasons import Refused


@dataclass(frozen=True, slots=True)
class Appended:
    """A batch has its place. A duplicate carries what the first append gave."""

    base_offset: int
    time_ms: int  # of the entry that holds the batch
    raft_index: int  # of that entry
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class TopicCreated:
    """The topic exists and is empty."""

    topic_id: int


@dataclass(frozen=True, slots=True)
class TopicDeleted:
    """Nothing of the topic can be read any more."""

    topic_id: int


@dataclass(frozen=True, slots=True)
class ProducerOpened:
    """Appends of this producer under older epochs are refused from now on."""

    producer_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Acknowledgements after this entry are given under `policy` (entry_pb2.SyncPolicy)."""

    policy: int


@dataclass(frozen=True, slots=True)
class LogStartMoved:
    """Entries before `raft_index` are not readable any more."""

    raft_index: int


OperationResult: TypeAlias = (
    Appended | TopicCreated | TopicDeleted | ProducerOpened | PolicySet | LogStartMoved
)
CommandResult: TypeAlias = tuple[OperationResult, ...] | Refused
