"""Errors, named by what the caller can do. Foreign errors (gRPC's) become these in translate.py.

    QuorumlogError
      Unavailable            nobody could take the request now: the same request may work later
        ConnectionFailed       no endpoint answered at all; `attempts` says who was asked and why each failed
        NoLeader               the cluster is electing, or has no majority
        NotLeader              another node leads (followed by the client itself; seen only with route="any")
        Busy                   the server's queue is full
        NoSpace                the server's disk is full
        Dropped                a new leader put another entry in its place
        SlowReader             a stream's answers were not read for too long (a consumer goes on by itself)
        ShuttingDown           the node is stopping
        NotCaughtUp            a session read met a replica that lags
        NotConfirmed           a linearizable read met a node that no majority confirms
      OutcomeUnknown         a write may or may not have been applied
        DeliveryTimeout        records were not acknowledged within the delivery timeout
      InvalidRequest         the request can never work as it is
        UnknownTopic, UnknownPartition, TopicExists, InvalidName
        RecordTooLarge, InvalidBatch, UnknownOption, Unsupported, UnknownNode
      MembershipRefused      the members cannot be changed so, or not now
      TransferFailed         leadership stays, or went to another node than was asked
      PermissionDenied       the certificate's owner is not granted this
      Unauthenticated        the certificate speaks for nobody, or has expired
      OffsetOutOfRange       before the log's start or after its end; has `earliest` and `latest`
      LogFailed              an embedded log has stopped: its disk failed: close it, open it again
      DirectoryRefused       a directory cannot be opened as an embedded log; nothing was changed
        DirectoryLocked        another process, or this one, has it open
      DataDamaged            the asked replica's bytes are damaged: another replica may have good ones
      ProducerError          the producer's place in its stream is lost
        ProducerFenced         a newer epoch of the same producer is at work: stop this one
        UnknownProducer        the cluster has forgotten it
        OutOfSequence          a batch before this one is missing
      DeliveryFailed         flush() or close(): records were not delivered; has `count` and `errors`
      DeserializationFailed  a record that the consumer's deserializer cannot read; has `record` and `part`
      BufferTimeout          no room in the producer's buffer within the time given
      ClientClosed           the client, producer or consumer was closed

Every error has `code` (the wire's reason), `retriable` (the same request may work later; the client has
already retried within its timeouts), `outcome_unknown`, `hint` (what to do next) and `attempts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from quorumlog.client.records import Record


@dataclass(frozen=True, slots=True)
class Attempt:
    """One endpoint that was asked, and why it did not do."""

    address: str
    cause: str

    def __str__(self) -> str:
        return f"{self.address}: {self.cause}"


class QuorumlogError(Exception):
    """Root of all that the client raises."""

    code: ClassVar[str] = "ERROR"
    retriable: ClassVar[bool] = False
    outcome_unknown: bool = False
    default_hint: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        attempts: Sequence[Attempt] = (),
        metadata: Mapping[str, str] | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.attempts = tuple(attempts)
        self.metadata = dict(metadata or {})
        self.hint = hint or self.default_hint
        self.answered = False  # True: a node said so; False: it was found out here
        self.repeated = False  # True: an earlier attempt of the same request may have been applied

    def __str__(self) -> str:
        if not self.attempts or (self.answered and len(self.attempts) == 1):
            return self.message
        tried = "; ".join(str(attempt) for attempt in self.attempts)
        return f"{self.message} (tried {tried})"


class Unavailable(QuorumlogError):
    """Nobody could take the request now."""

    code = "UNAVAILABLE"
    retriable = True
    default_hint = "see `quorumlog cluster status`"


class ConnectionFailed(Unavailable):
    """No endpoint answered."""

    code = "CONNECTION_FAILED"
    default_hint = "check that the nodes run, and --servers or QUORUMLOG_SERVERS"


class NoLeader(Unavailable):
    """The cluster is electing a leader, or has no majority."""

    code = "NO_LEADER"
    default_hint = "a majority of the nodes must run and reach each other: see `quorumlog cluster status`"


class NotLeader(Unavailable):
    """Another node leads: `leader_address`, where it is known."""

    code = "NOT_LEADER"

    @property
    def leader_id(self) -> str:
        """The leader's node id, or an empty string."""
        return self.metadata.get("leader_id", "")

    @property
    def leader_address(self) -> str:
        """The leader's advertised address, or an empty string."""
        return self.metadata.get("leader_address", "")


class Busy(Unavailable):
    """The server's queue of proposals is full."""

    code = "BUSY"


class NoSpace(Unavailable):
    """The server's disk is full."""

    code = "NO_SPACE"
    default_hint = "free disk space on the nodes: see the alarms in `quorumlog cluster status`"


class Dropped(Unavailable):
    """A new leader put another entry in its place: surely not applied."""

    code = "DROPPED"


class SlowReader(Unavailable):
    """The answers of a stream were not read for too long."""

    code = "SLOW_READER"


class ShuttingDown(Unavailable):
    """The node is stopping."""

    code = "SHUTTING_DOWN"


class NotCaughtUp(Unavailable):
    """The replica has not applied what the session asks for, within the time given."""

    code = "NOT_CAUGHT_UP"


class NotConfirmed(Unavailable):
    """No majority confirmed, within the time given, who leads: what is newest cannot be known."""

    code = "NOT_CONFIRMED"
    default_hint = "a majority of the nodes must run and reach each other: see `quorumlog cluster status`"


class OutcomeUnknown(QuorumlogError):
    """A write may or may not have been applied."""

    code = "OUTCOME_UNKNOWN"
    retriable = True
    outcome_unknown = True
    default_hint = "read back to see whether it was applied"


class DeliveryTimeout(OutcomeUnknown):
    """Not acknowledged in time; `outcome_unknown` is False where the records were surely not applied."""

    code = "DELIVERY_TIMEOUT"
    retriable = False

    def __init__(
        self, message: str, *, attempts: Sequence[Attempt] = (), outcome_unknown: bool = True
    ) -> None:
        hint = "read back to see whether it was applied" if outcome_unknown else Unavailable.default_hint
        super().__init__(message, attempts=attempts, hint=hint)
        self.outcome_unknown = outcome_unknown


class InvalidRequest(QuorumlogError):
    """The request can never work as it is."""

    code = "BAD_REQUEST"


class UnknownTopic(InvalidRequest):
    """There is no topic of that name."""

    code = "UNKNOWN_TOPIC"

    def __init__(
        self,
        message: str,
        *,
        attempts: Sequence[Attempt] = (),
        metadata: Mapping[str, str] | None = None,
        hint: str = "",
    ) -> None:
        name = (metadata or {}).get("topic", "NAME")
        default = f"create it: quorumlog topic create {name}; see what there is: quorumlog topic ls"
        super().__init__(message, attempts=attempts, metadata=metadata, hint=hint or default)


class UnknownPartition(InvalidRequest):
    """The topic has no partition of that number."""

    code = "UNKNOWN_PARTITION"
    default_hint = "see its partitions: quorumlog topic describe NAME"


class TopicExists(InvalidRequest):
    """There is a topic of that name already."""

    code = "TOPIC_EXISTS"


class InvalidName(InvalidRequest):
    """A topic's name is 1 to 249 of A-Z a-z 0-9 . _ - and neither '.' nor '..'."""

    code = "BAD_NAME"
    default_hint = "a topic's name is 1 to 249 of A-Z a-z 0-9 . _ - and neither '.' nor '..'"


class RecordTooLarge(InvalidRequest):
    """A record or batch is above the limit."""

    code = "BATCH_TOO_LARGE"


class InvalidBatch(InvalidRequest):
    """A batch contradicts itself or its checksum."""

    code = "BAD_BATCH"


class UnknownOption(InvalidRequest):
    """An option or argument that does not exist, or a value that it cannot have."""

    code = "UNKNOWN_OPTION"


class Unsupported(InvalidRequest):
    """The server does not know the request: another version, or not a quorumlog node."""

    code = "UNSUPPORTED"
    default_hint = "check that the address is a quorumlog client port and that versions match"


class UnknownNode(InvalidRequest):
    """No member of the cluster has that name."""

    code = "UNKNOWN_NODE"
    default_hint = "see who takes part: quorumlog cluster members"


class MembershipRefused(QuorumlogError):
    """The members cannot be changed so, or not now: the message says why. Nothing was changed."""

    code = "MEMBERSHIP_REFUSED"
    default_hint = "see who takes part and who answers: quorumlog cluster members"


class TransferFailed(QuorumlogError):
    """Leadership stays, or went to another node than was asked: the message says how far it came."""

    code = "TRANSFER_FAILED"
    default_hint = "see who leads and who lags: quorumlog cluster members"


class PermissionDenied(QuorumlogError):
    """The certificate's owner is not granted what was asked for; nothing was done."""

    code = "PERMISSION_DENIED"
    default_hint = "ask whoever keeps the nodes' table of grants; the certificate names who you are"


class Unauthenticated(QuorumlogError):
    """The certificate speaks for nobody in this cluster, or has expired."""

    code = "UNAUTHENTICATED"
    default_hint = "show a certificate that is valid and of this cluster: see `quorumlog certs client --help`"


class OffsetOutOfRange(QuorumlogError):
    """The offset is before `earliest` or after `latest`."""

    code = "OFFSET_OUT_OF_RANGE"

    @property
    def earliest(self) -> int:
        """First readable offset, or -1 where the server did not say."""
        return int(self.metadata.get("earliest", -1))

    @property
    def latest(self) -> int:
        """Offset after the last readable record, or -1 where the server did not say."""
        return int(self.metadata.get("latest", -1))


class DataDamaged(QuorumlogError):
    """The replica's bytes are damaged; it does not serve them."""

    code = "DATA_DAMAGED"
    retriable = True  # another replica may have good bytes


class LogFailed(QuorumlogError):
    """An embedded log has stopped for good: what is on its disk is not known until it is opened again.

    What was acknowledged is safe; what was under way may have been appended or not.
    """

    code = "LOG_FAILED"
    outcome_unknown = True
    default_hint = "close it, look at the disk, and open it again"


class DirectoryRefused(QuorumlogError):
    """A directory cannot be opened as an embedded log; nothing in it was changed."""

    code = "DIRECTORY_REFUSED"


class DirectoryLocked(DirectoryRefused):
    """Another process, or this one, has the directory open."""

    code = "DIRECTORY_LOCKED"
    default_hint = "one process at a time opens it; several can share a node: `quorumlog serve`"


class ProducerError(QuorumlogError):
    """The producer's place in its stream is lost."""

    code = "PRODUCER_ERROR"


class ProducerFenced(ProducerError):
    """A newer epoch of this producer is at work."""

    code = "FENCED_PRODUCER"


class UnknownProducer(ProducerError):
    """The cluster has forgotten this producer id."""

    code = "UNKNOWN_PRODUCER"


class OutOfSequence(ProducerError):
    """A batch before this one is missing from the log."""

    code = "OUT_OF_SEQUENCE"


class DeliveryFailed(QuorumlogError):
    """Records were not delivered: how many, and the distinct reasons (at most ten)."""

    code = "DELIVERY_FAILED"

    def __init__(self, count: int, errors: Sequence[QuorumlogError]) -> None:
        reasons = "; ".join(dict.fromkeys(str(error) for error in errors))
        hint = next((error.hint for error in errors if error.hint), "")
        super().__init__(f"{count} records were not delivered: {reasons}", hint=hint)
        self.count = count
        self.errors = tuple(errors)
        self.outcome_unknown = any(error.outcome_unknown for error in errors)

    def __reduce__(self) -> tuple[type[DeliveryFailed], tuple[int, tuple[QuorumlogError, ...]]]:
        return DeliveryFailed, (self.count, self.errors)


class DeserializationFailed(QuorumlogError):
    """A deserializer raised (`__cause__`): `record` has the bytes, `part` is "key" or "value".

    The consumer's position is still this record; reading on goes behind it.
    """

    code = "DESERIALIZATION_FAILED"

    def __init__(self, record: Record, part: str, cause: Exception) -> None:
        place = f"{record.topic}/{record.partition} at offset {record.offset}"
        super().__init__(
            f"{place}: the {part}: {cause!r}",
            hint="read on to leave it out, or read it without a deserializer",
        )
        self.record = record
        self.part = part
        self.__cause__ = cause

    def __reduce__(self) -> tuple[type[DeserializationFailed], tuple[Record, str, BaseException | None]]:
        return DeserializationFailed, (self.record, self.part, self.__cause__)


class BufferTimeout(QuorumlogError):
    """The producer's buffer had no room within the time given: nothing of the record was taken."""

    code = "BUFFER_TIMEOUT"
    retriable = True


class ClientClosed(QuorumlogError):
    """The client, producer or consumer was closed before or while it was used."""

    code = "CLIENT_CLOSED"


# Reasons on the wire (ErrorInfo.reason, Failure.reason) that are not simply a class's own code.
_ALIASES: dict[str, type[QuorumlogError]] = {"BAD_CHECKSUM": InvalidBatch}


def _tree(root: type[QuorumlogError]) -> list[type[QuorumlogError]]:
    return [root, *(below for child in root.__subclasses__() for below in _tree(child))]


BY_REASON: Mapping[str, type[QuorumlogError]] = {
    **{
        cls.code: cls
        for cls in _tree(QuorumlogError)
        if cls not in (DeliveryFailed, DeliveryTimeout, DeserializationFailed)
    },
    **_ALIASES,
}
