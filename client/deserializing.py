"""From a record's bytes to what the user wants to see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic

from quorumlog.client.errors import DeserializationFailed
from quorumlog.client.records import K, Record, V


class Deserializing(Generic[K, V]):
    """Two callables, either of which may be missing. What is null stays None and is shown to neither."""

    def __init__(self, key: Callable[[bytes], Any] | None, value: Callable[[bytes], Any] | None) -> None:
        self._key = key
        self._value = value

    def records(self, records: Iterator[Record]) -> Iterator[Record[K, V]]:
        """Return the records as the user sees them. Raises DeserializationFailed, and goes on behind it."""
        return map(self._record, records)  # a generator would end at the first error

    def _record(self, record: Record) -> Record[K, V]:
        try:
            part = "key"
            key = record.key if self._key is None or record.key is None else self._key(record.key)
            part = "value"
            value = record.value if self._value is None or record.value is None else self._value(record.value)
        except Exception as error:
            raise DeserializationFailed(record, part, error) from error
        topic, partition, offset, timestamp_ms, append_time_ms, _, _, headers = record
        return Record(topic, partition, offset, timestamp_ms, append_time_ms, key, value, headers)
