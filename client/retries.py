"""Whether to try again, and when. No I/O: clock and randomness are arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from quorumlog.client import errors
from quorumlog.client.errors import Attempt, QuorumlogError

MAX_ATTEMPTS_KEPT = 16  # of the attempts that an error lists: enough for every endpoint and the last rounds


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential pauses with jitter: between half of the full pause and all of it.

    An election takes 0.4 to 0.8 s, so that pauses above 100 ms would be most of a failover.
    """

    first_s: float = 0.01
    most_s: float = 0.1
    factor: float = 2.0

    def pause_s(self, failures: int, random: Callable[[], float]) -> float:
        """Return the pause after the `failures`-th failure in a row (from 1)."""
        full = min(self.most_s, self.first_s * self.factor ** min(failures - 1, 32))
        return full * (0.5 + 0.5 * random())


@dataclass(slots=True)
class Retry:
    """The course of one request over its attempts.

    - It ends at `deadline_s`, whatever happens.
    - An error that says that the request can never work ends it at once.
    - `ambiguous` is true from the first attempt on that may have been applied without our knowing.
    """

    deadline_s: float
    random: Callable[[], float]
    backoff: Backoff = field(default_factory=Backoff)
    failures: int = 0
    ambiguous: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    strangers: set[str] = field(default_factory=set)

    def after(self, error: QuorumlogError, now_s: float) -> float | None:
        """Return the seconds to wait before the next attempt, or None: give up and raise `verdict`."""
        self.failures += 1
        self.attempts.extend(error.attempts)
        del self.attempts[:-MAX_ATTEMPTS_KEPT]
        self.ambiguous = self.ambiguous or may_be_applied(error)
        if self._is_new_stranger(error):
            return 0.0
        if not error.retriable:
            return None
        pause_s = self._pause_s(error)
        return pause_s if now_s + pause_s < self.deadline_s else None

    def _is_new_stranger(self, error: QuorumlogError) -> bool:
        """True where no node said this, but something else that listens there: once each, ask another."""
        if not isinstance(error, errors.Unsupported) or error.answered:
            return False
        addresses = {attempt.address for attempt in error.attempts}
        is_new = not addresses <= self.strangers
        self.strangers |= addresses
        return is_new

    def _pause_s(self, error: QuorumlogError) -> float:
        # A follower that names its leader costs no pause, unless nodes keep pointing at each other.
        if isinstance(error, errors.NotLeader) and error.leader_address and self.failures <= 2:
            return 0.0
        return self.backoff.pause_s(self.failures, self.random)

    def verdict(self, error: QuorumlogError, *, write: bool) -> QuorumlogError:
        """Return what to raise in the end: the last error, with every endpoint tried and why."""
        if write and self.ambiguous and error.retriable:
            message = f"no answer in time; it may or may not have been applied: {error.message}"
            return errors.OutcomeUnknown(message, attempts=unique(self.attempts))
        error.attempts = unique(self.attempts)
        error.repeated = write and self.ambiguous
        return error


def may_be_applied(error: QuorumlogError) -> bool:
    """Say whether a write that failed with `error` may have been applied nevertheless.

    A lost connection does not tell whether the request was read; a refused one does.
    """
    if isinstance(error, errors.ConnectionFailed):
        return not all(attempt.cause.startswith(_NEVER_SENT) for attempt in error.attempts)
    return error.outcome_unknown or type(error) is errors.Unavailable or type(error) is QuorumlogError


def was_silent(error: QuorumlogError) -> bool:
    """Say whether a node was waited for in vain, so that asking it again may cost as much time.

    A connection that is refused, reset or closed shows at once, and a node that was started again answers.
    """
    if isinstance(error, errors.ConnectionFailed):
        return not all(attempt.cause.startswith(_SEEN_AT_ONCE) for attempt in error.attempts)
    return isinstance(error, errors.OutcomeUnknown)


_NEVER_SENT = (
    "connection refused",
    "the name does not resolve",
    "no route to host",
    "network is unreachable",
    "TLS handshake failed",
    "not a gRPC server",
    "it takes connections and says nothing",
)
_SEEN_AT_ONCE = (*_NEVER_SENT, "connection closed by the other side", "connection reset")


def unique(attempts: list[Attempt]) -> tuple[Attempt, ...]:
    """Return each endpoint and cause once, the latest ones, oldest first."""
    return tuple(reversed(dict.fromkeys(reversed(attempts))))
