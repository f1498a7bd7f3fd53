"""Serializers and deserializers that come along. Any callable does as well:

    value_serializer=Order.SerializeToString, value_deserializer=Order.FromString              protobuf
    value_serializer=lambda order: order.model_dump_json().encode(),
    value_deserializer=Order.model_validate_json                                               pydantic
    value_serializer=msgspec.json.encode, value_deserializer=msgspec.json.Decoder(Order).decode    msgspec

A serializer takes a value and returns bytes; a deserializer takes bytes. Neither is shown None, a tombstone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


class JsonSerializer:
    """Anything that json can write, to compact UTF-8. `default` as for json.dumps()."""

    def __init__(self, default: Callable[[Any], Any] | None = None) -> None:
        self._encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=default).encode

    def __call__(self, value: Any) -> bytes:
        """Return the JSON. Raises TypeError, ValueError."""
        return self._encode(value).encode()


class JsonDeserializer:
    """JSON, to dictionaries, lists and so on."""

    def __call__(self, content: bytes) -> Any:
        """Return what it says. Raises ValueError."""
        return json.loads(content)


class StringSerializer:
    """A str, to bytes."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._encoding = encoding

    def __call__(self, value: str) -> bytes:
        """Return the bytes. Raises UnicodeEncodeError."""
        return value.encode(self._encoding)


class StringDeserializer:
    """Bytes, to a str."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._encoding = encoding

    def __call__(self, content: bytes) -> str:
        """Return the text. Raises UnicodeDecodeError."""
        return content.decode(self._encoding)
