"""`quorumlog health`: does the node serve? For HEALTHCHECK, so it loads little and never waits long."""

from __future__ import annotations

import argparse

from quorumlog.command.connecting import add_connection, add_output, servers_of, tls_of
from quorumlog.command.numbers import MAX_SECONDS, real
from quorumlog.command.output import complain, print_structured
from quorumlog.command.parser import examples


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "health",
        help="exit 0 if the node serves, else 1",
        description="Ask the first of the servers whether it serves. Exit code 0: it does, 1: not.",
        epilog=examples(
            "quorumlog health -s localhost:9650", "quorumlog health --service leader     does it lead?"
        ),
    )
    add_connection(parser)
    add_output(parser)
    parser.add_argument(
        "--service", default="", help='what to ask for: "" (default) serves reads; "leader" leads'
    )
    parser.add_argument(
        "--timeout",
        type=real(MAX_SECONDS, above_zero=True),
        default=3.0,
        metavar="SECONDS",
        help="default: 3",
    )
    parser.set_defaults(run=health)


def health(options: argparse.Namespace) -> int:
    """Ask the first of the servers by the gRPC health protocol."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from quorumlog.client.endpoints import parse_servers

    address = parse_servers(servers_of(options))[0]
    request = health_pb2.HealthCheckRequest(service=options.service)
    tls = tls_of(options)
    more = [("grpc.enable_http_proxy", 0)]
    if tls is None:
        opened = grpc.insecure_channel(address, options=more)
    else:
        opened = grpc.secure_channel(address, tls.credentials(), options=more)
    with opened as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=options.timeout)
        except grpc.RpcError as error:
            complain(f"{address}: {error.code().name.lower()}: {error.details()}")
            return 1
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    value = {"address": address, "service": options.service, "status": status}
    if not print_structured(value, options):
        print(f"{address}: {status.lower().replace('_', ' ')}")
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1
