"""python -m quorumlog.node: run one node until SIGTERM or SIGINT.

Prints one line of JSON on stdout when it serves: node_id, client_address, peer_address, data,
and http_address where there is one. Logs go to
stderr. Exit codes: 0 stopped as asked, 1 it could not start, 2 the configuration is wrong; raft/errors.py has
those of a node that must not go on.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence

import uvloop

from quorumlog.node.config import Config, ConfigError, add_flags, build, effective, gather
from quorumlog.node.directory import DirectoryRefused
from quorumlog.node.listening import raise_descriptor_limit
from quorumlog.node.machine import UnknownEntry
from quorumlog.node.server import build as build_node
from quorumlog.node.server import stop_requested
from quorumlog.raft.errors import EXIT_DAMAGED, EXIT_SYNC_FAILED, WHEN_DAMAGED, DamagedHardState
from quorumlog.storage.errors import Damaged, StorageError, SyncFailed

EXIT_CANNOT_START = 1
EXIT_USAGE = 2

# Requests leave little that only the collector frees: it need not look after every 700 new objects.
GC_THRESHOLDS = (10_000, 20, 20)

logger = logging.getLogger("quorumlog.node")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="quorumlog serve", description="Run one node.", allow_abbrev=False)
    add_flags(parser)
    options = parser.parse_args(arguments)
    try:
        given = gather(options, os.environ)
        config = build(given)
    except ConfigError as error:
        print(f"quorumlog: {error}", file=sys.stderr)
        return EXIT_USAGE
    if options.print_config:
        print(effective(given))
        return 0
    logging.basicConfig(
        level=config.logging_level,
        stream=sys.stderr,
        format=f"%(asctime)s %(levelname)s {config.node_id} %(name)s: %(message)s",
    )
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)
    return run(config)


def _is_news(record: logging.LogRecord) -> bool:
    """gRPC logs a trace for whatever callers do to its own services, and where they hang up.

    A client could fill the log with these; what goes wrong in our services is logged by errors.py.
    """
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ not in ("ExecuteBatchError", "DecodeError")


def run(config: Config) -> int:
    """Run a node until it is asked to stop; return the exit code."""
    raise_descriptor_limit(config.limits.connections)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config))
    except (DamagedHardState, Damaged) as error:
        logger.critical("cannot start: %s; %s", error, WHEN_DAMAGED)
        return EXIT_DAMAGED
    except SyncFailed as error:
        logger.critical("cannot start, what is on disk is not known: %s", error)
        return EXIT_SYNC_FAILED
    except (ConfigError, DirectoryRefused, UnknownEntry, StorageError, OSError) as error:
        logger.critical("cannot start: %s", error)
        return EXIT_CANNOT_START
    return 0


async def _serve(config: Config) -> None:
    # Registered first: a signal that comes while the node starts is obeyed as soon as it has.
    stopping = asyncio.ensure_future(stop_requested((signal.SIGTERM, signal.SIGINT)))
    await asyncio.sleep(0)  # let it register
    node = await build_node(config)
    await node.start()
    # What is there now stays: looking through it again and again would hold up the loop for milliseconds.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    ready = {
        "node_id": config.node_id,
        "client_address": str(node.client_address),
        "peer_address": node.peer_address,
        "data": str(config.data),
    }
    if node.http_address:
        ready["http_address"] = node.http_address
    print(json.dumps(ready), flush=True)
    await stopping
    await node.stop()


if __name__ == "__main__":
    sys.exit(main())
