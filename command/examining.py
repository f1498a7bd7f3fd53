"""Collecting what checkup.py judges: every address is asked from here, and every node's HTTP side."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import time
from collections.abc import Iterable
from importlib import metadata

import grpc.aio

from quorumlog.client.channels import Channels, Stubs
from quorumlog.client.describe import ClusterStatus, NodeStatus, cluster_status, node_status
from quorumlog.client.tls import Tls
from quorumlog.client.translate import from_rpc
from quorumlog.command.checkup import Clock, Evidence, HttpProbe, Probe
from quorumlog.proto import service_pb2

_ANSWER_S = 3.0  # connecting included
_PEERS_MS = 1_000
_ROUND_TRIPS = 5  # the quickest counts
_HTTP_S = 2.0
_TEXT_BYTES = 16_384


async def collect(addresses: list[str], tls: Tls | None) -> Evidence:
    """Ask everybody; it takes some seconds at most. Raises UnknownOption where a TLS file cannot be read."""
    channels = Channels("quorumlog-cli", tls)
    try:
        given = await _probe_all(channels, addresses, given=True)
        status = await _status(channels, given)
        nodes = status.nodes if status is not None else ()
        advertised = {node.client_address for node in nodes if node.client_address} - set(addresses)
        others = await _probe_all(channels, sorted(advertised), given=False)
        served = [node for node in nodes if node.http_address]
        answers = await asyncio.gather(*(asyncio.to_thread(_ready, node, tls) for node in served))
    finally:
        await channels.close()
    return Evidence(
        time_ms=time.time_ns() // 1_000_000,
        version=metadata.version("quorumlog"),
        probes=(*given, *others),
        status=status,
        http=tuple(answers),
        speaks_tls=tls is not None,
        certificate_expires_ms=_expires_ms(tls) if tls is not None else 0,
    )


async def _probe_all(channels: Channels, addresses: Iterable[str], *, given: bool) -> list[Probe]:
    asking = (_probe(channels.stubs(address), given=given) for address in addresses)
    return list(await asyncio.gather(*asking))


async def _probe(stubs: Stubs, *, given: bool) -> Probe:
    """Ask one address a few times; the first time opens the connection."""
    trips = []
    try:
        for _ in range(1 + _ROUND_TRIPS):
            trips.append(await _ask(stubs))
    except grpc.aio.AioRpcError as error:
        return Probe(stubs.address, given, from_rpc(error, stubs.address).message)
    round_trip_s, node, clock = min(trips[1:], key=lambda trip: trip[0])
    return Probe(stubs.address, given, "", node, round_trip_s, clock)


async def _ask(stubs: Stubs) -> tuple[float, NodeStatus, Clock | None]:
    request = service_pb2.StatusRequest(local=True)
    sent_s, start_s = time.time(), time.perf_counter()
    answer = await stubs.cluster.Status(request, timeout=_ANSWER_S)
    round_trip_s = time.perf_counter() - start_s
    (node,) = answer.nodes
    clock = None
    if node.clock_ms:
        # It answered at some moment of the round trip, and says so to a millisecond.
        clock = Clock(node.clock_ms / 1000 - (sent_s + round_trip_s / 2), round_trip_s / 2 + 0.001)
    return round_trip_s, node_status(node), clock


async def _status(channels: Channels, probes: Iterable[Probe]) -> ClusterStatus | None:
    """Return what the leader says of all, where it was reached; else what the first says that answers."""
    answering = [probe for probe in probes if probe.node is not None]
    answering.sort(
        key=lambda probe: probe.node is None or (probe.node.role != "leader", not probe.node.leader_id)
    )
    request = service_pb2.StatusRequest(timeout_ms=_PEERS_MS)
    for probe in answering:
        try:
            answer = await channels.stubs(probe.address).cluster.Status(request, timeout=_ANSWER_S)
        except grpc.aio.AioRpcError:
            continue
        return cluster_status(answer)
    return None


def _ready(node: NodeStatus, tls: Tls | None) -> HttpProbe:
    """Ask a node's /readyz."""
    try:
        connection = _connection(node.http_address, tls)
        try:
            connection.request("GET", "/readyz?verbose")
            answer = connection.getresponse()
            text = answer.read(_TEXT_BYTES).decode(errors="replace")
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return HttpProbe(node.node_id, node.http_address, 0, why)
    return HttpProbe(node.node_id, node.http_address, answer.status, text)


def _connection(address: str, tls: Tls | None) -> http.client.HTTPConnection:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if tls is None:
        return http.client.HTTPConnection(host, int(port), timeout=_HTTP_S)
    context = ssl.create_default_context(cafile=tls.ca)
    context.load_cert_chain(tls.cert, tls.key)
    return http.client.HTTPSConnection(host, int(port), timeout=_HTTP_S, context=context)


def _expires_ms(tls: Tls) -> int:
    from cryptography import x509

    with open(tls.cert, "rb") as opened:
        certificate = x509.load_pem_x509_certificate(opened.read())
    return round(certificate.not_valid_after_utc.timestamp() * 1000)
