"""Options by name: ours, Kafka's where they mean the same, and for anything else the nearest valid one.

Names may be dotted or with underscores: "linger.ms" is linger_ms.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from quorumlog.client.errors import UnknownOption

_Options = TypeVar("_Options")

CLIENT_NAMES = {"bootstrap_timeout_ms": "connect_timeout_ms", "metadata_broker_list": "bootstrap_servers"}
PRODUCER_NAMES = {
    "batch_size": "max_batch_size",
    "queue_buffering_max_ms": "linger_ms",
    "compression_codec": "compression_type",
    "message_timeout_ms": "delivery_timeout_ms",
    "max_request_size": "max_record_size",
    "message_max_bytes": "max_record_size",
}
CONSUMER_NAMES = {
    "auto_offset_reset": "start",
    "max_partition_fetch_bytes": "max_fetch_bytes",
    "fetch_message_max_bytes": "max_fetch_bytes",
}

_NO_GROUPS = "there are no consumer groups yet: keep position() with what you make of the records"

# What Kafka's clients have and this one has not: why, rather than a name that looks like it.
_NOT_HERE = {
    "retries": "a record is sent again until delivery_timeout_ms is over",
    "max_in_flight_requests_per_connection": "the order is kept whatever is under way",
    "transactional_id": "there are no transactions",
    "isolation_level": "there are no transactions; nothing uncommitted is ever readable",
    "group_id": _NO_GROUPS,
    "enable_auto_commit": _NO_GROUPS,
    "security_protocol": "give the client tls=Tls(ca, cert, key)",
    "ssl_cafile": "give the client tls=Tls(ca, cert, key)",
    "ssl_ca_location": "give the client tls=Tls(ca, cert, key)",
    "ssl_context": "give the client tls=Tls(ca, cert, key)",
}


def with_given(options: _Options, given: Mapping[str, Any], names: Mapping[str, str]) -> _Options:
    """Return the options (a dataclass) with those given by name. Raises UnknownOption.

    `names`: other names that mean the same.
    """
    if not given:
        return options
    known = {field.name: field for field in fields(options)}  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    for name, value in given.items():
        plain = name.replace(".", "_")
        if plain == "acks":
            _check_acks(value)
            continue
        target = names.get(plain, plain)
        if target not in known:
            raise _unknown(name, plain, [*known, *names])
        if target in found or getattr(options, target) != known[target].default:
            raise UnknownOption(f"{name}: {target} is given twice")
        found[target] = value
    return replace(options, **found)  # type: ignore[type-var]


def check_numbers(options: object, least: Mapping[str, int]) -> None:
    """Check that fields are whole numbers, each at least so much. Raises UnknownOption."""
    for name, smallest in least.items():
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
            raise UnknownOption(f"{name}: expected a whole number of at least {smallest}, got {value!r}")


def _check_acks(value: object) -> None:
    if value not in ("all", -1, "-1"):
        raise UnknownOption(f"acks: every acknowledgement is a majority's: expected 'all', got {value!r}")


def _unknown(name: str, plain: str, valid: list[str]) -> UnknownOption:
    if plain in _NOT_HERE:
        return UnknownOption(f"{name}: there is no such option: {_NOT_HERE[plain]}")
    (nearest,) = difflib.get_close_matches(plain, valid, n=1, cutoff=0.0)
    return UnknownOption(f"{name}: there is no such option; did you mean {nearest}?")
