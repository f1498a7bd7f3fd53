"""Batches of records to stdout: values as they are, JSON lines, or as a template says."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, TypeAlias

from quorumlog.client.errors import UnknownOption
from quorumlog.client.records import Record, RecordBatch
from quorumlog.command.record_format import RecordFormat

Show: TypeAlias = Callable[[RecordBatch, int], int]  # at most so many of a batch; returns how many


def show_of(format_: str, *, meta_only: bool = False) -> Show:
    """Return what prints a batch: "text", "json", or a template with %-letters. Raises UnknownOption."""
    if meta_only:
        if "%" in format_:
            raise UnknownOption("--meta-only: with a template, leave out %v instead")
        return lambda batch, limit: _show_lines(batch, limit, _object_without_value)
    if format_ == "text":
        return _show_text
    if format_ == "json":
        return lambda batch, limit: _show_lines(batch, limit, _object)
    try:
        template = RecordFormat(format_)
    except ValueError as error:
        raise UnknownOption(f"--format: {error}") from None
    return lambda batch, limit: _show_template(batch, limit, template)


def _show_text(batch: RecordBatch, limit: int) -> int:
    values = [value or b"" for value in batch.values[:limit]]
    _write(b"\n".join(values) + b"\n")
    return len(values)


def _show_template(batch: RecordBatch, limit: int, template: RecordFormat) -> int:
    records = _first(batch.records(), limit)
    _write(b"".join(map(template.render, records)))
    return len(records)


def _show_lines(batch: RecordBatch, limit: int, made: Callable[[Record], dict[str, Any]]) -> int:
    lines = [json.dumps(made(record), ensure_ascii=False) for record in _first(batch.records(), limit)]
    _write("\n".join(lines).encode("utf-8", "replace") + b"\n")
    return len(lines)


def _first(records: Iterable[Record], limit: int) -> list[Record]:
    return list(islice(records, limit))


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()  # whoever reads the pipe follows, too


def _object(record: Record) -> dict[str, Any]:
    """Return a record as JSON has it; what is not UTF-8 stands under *_base64 instead."""
    return _record(record, _bytes("value", record.value))


def _object_without_value(record: Record) -> dict[str, Any]:
    return _record(record, {"value_size": None if record.value is None else len(record.value)})


def _record(record: Record, value: dict[str, Any]) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "append_time_ms": record.append_time_ms,
        **_bytes("key", record.key),
        **value,
        "headers": [{"name": name, **_bytes("value", content)} for name, content in record.headers],
    }


def _bytes(name: str, content: bytes | None) -> dict[str, str | None]:
    if content is None:
        return {name: None}
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}
