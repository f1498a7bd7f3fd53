"""Options by name: Kafka's spellings where they mean the same; others are told with the nearest name."""

from __future__ import annotations

import re
from typing import Any

import pytest

from quorumlog.client import AsyncClient, Client, errors

CLIENTS = [AsyncClient, Client]


@pytest.mark.parametrize("client", CLIENTS)
def test_kafkas_names_dotted_or_not(client: Any) -> None:
    made = client(config={"bootstrap.servers": "a:1,b:2", "client.id": "me", "request.timeout.ms": 7})
    options = inner(made)._connection.options
    assert (options.bootstrap_servers, options.client_id, options.request_timeout_ms) == ("a:1,b:2", "me", 7)
    given = {
        "linger.ms": 5,
        "batch.size": 1000,
        "compression.type": "lz4",
        "acks": "all",
        "max_request_size": 9,
    }
    options = inner(made.producer(config=given))._options
    assert (options.linger_ms, options.max_batch_size, options.compression_type) == (5, 1000, "lz4")
    assert options.max_record_size == 9
    options = inner(made.producer(batch_size=2000))._options
    assert options.max_batch_size == 2000
    options = inner(made.consumer("t", config={"auto.offset.reset": "latest"}))._options
    assert options.start == "latest"


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"linger": 5}, "linger: there is no such option; did you mean linger_ms?"),
        ({"max.batch.sizes": 5}, "did you mean max_batch_size?"),
        (
            {"retries": 5},
            "retries: there is no such option: a record is sent again until delivery_timeout_ms",
        ),
        ({"acks": 1}, "acks: every acknowledgement is a majority's: expected 'all', got 1"),
        ({"linger.ms": 5, "linger_ms": 6}, "linger_ms is given twice"),
        ({"batch.size": "16384"}, "max_batch_size: expected a whole number of at least 1, got '16384'"),
        ({"linger.ms": -1}, "linger_ms: expected a whole number of at least 0, got -1"),
    ],
)
def test_what_a_producer_does_not_know(client: Any, given: dict[str, object], message: str) -> None:
    with pytest.raises(errors.UnknownOption, match=re.escape(message)):
        client().producer(config=given)


@pytest.mark.parametrize("client", CLIENTS)
def test_what_clients_and_consumers_do_not_know(client: Any) -> None:
    with pytest.raises(errors.UnknownOption, match="did you mean connect_timeout_ms"):
        client(conect_timeout_ms=5)
    with pytest.raises(errors.UnknownOption, match="tls=Tls"):
        client(config={"ssl.ca.location": "ca.pem"})
    with pytest.raises(errors.UnknownOption, match="did you mean consistency"):
        client().consumer("t", consistancy="session")
    with pytest.raises(errors.UnknownOption, match="no consumer groups yet"):
        client().consumer("t", config={"group.id": "g"})
    with pytest.raises(errors.UnknownOption, match="start is given twice"):
        client().consumer("t", start=5, config={"auto.offset.reset": "latest"})


def inner(made: Any) -> Any:
    """Return the asynchronous one behind a synchronous one."""
    return next(
        (getattr(made, name) for name in ("_client", "_producer", "_consumer") if hasattr(made, name)), made
    )
