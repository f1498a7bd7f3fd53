"""What becomes of a record before it is bytes: the user's serializers, the trace that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeAlias

from quorumlog.client.errors import InvalidRequest
from quorumlog.client.records import K, V
from quorumlog.client.tracing import Inject

HeadersArgument: TypeAlias = Mapping[str, bytes] | Iterable[tuple[str, bytes]] | None
# Half of what 64 bits hold: so that the distance between two of a batch fits, too.
MIN_TIMESTAMP_MS = -(1 << 62)
MAX_TIMESTAMP_MS = (1 << 62) - 1

Prepare: TypeAlias = Callable[[Any, Any, HeadersArgument], tuple[Any, Any, HeadersArgument]]


class ProducerRecord(NamedTuple, Generic[K, V]):
    """A record to send, for send_records(): everything that send() takes, but the topic."""

    value: V | None = None
    key: K | None = None
    headers: HeadersArgument = None
    partition: int | None = None
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Preparation:
    """Makes bytes of value and key, where there are serializers, and adds the trace's headers."""

    key_serializer: Callable[[Any], bytes] | None
    value_serializer: Callable[[Any], bytes] | None
    inject: Inject | None

    def __call__(self, value: Any, key: Any, headers: HeadersArgument) -> tuple[Any, Any, HeadersArgument]:
        """Return them as they are sent. What a serializer raises passes through."""
        if value is not None and self.value_serializer is not None:
            value = self.value_serializer(value)
        if key is not None and self.key_serializer is not None:
            key = self.key_serializer(key)
        return value, key, headers if self.inject is None else self.inject(headers)


def preparation(
    key_serializer: Callable[[Any], bytes] | None,
    value_serializer: Callable[[Any], bytes] | None,
    inject: Inject | None,
) -> Prepare | None:
    """Return what has to be done to each record; None, where nothing has: the fast path."""
    if key_serializer is None and value_serializer is None:
        return None if inject is None else lambda value, key, headers: (value, key, inject(headers))
    return Preparation(key_serializer, value_serializer, inject)


def check_timestamp(timestamp_ms: int) -> None:
    """Refuse a time that a batch cannot hold. Raises InvalidRequest, which says the limits."""
    if not MIN_TIMESTAMP_MS <= timestamp_ms <= MAX_TIMESTAMP_MS:
        raise InvalidRequest(
            f"timestamp_ms: expected {MIN_TIMESTAMP_MS} to {MAX_TIMESTAMP_MS}, got {timestamp_ms}"
        )
