"""The node's HTTP side, put together: imported only where `http.listen` is set, since it costs memory."""

from __future__ import annotations

from concurrent.futures import Executor

from quorumlog.node.calls import Calls
from quorumlog.node.checks import Checks
from quorumlog.node.config import Config, Endpoint
from quorumlog.node.grants import Grants
from quorumlog.node.http_app import HttpApp
from quorumlog.node.http_server import HttpServer
from quorumlog.node.live_tail import LiveTails
from quorumlog.node.machine import LogMachine
from quorumlog.node.metrics import Metrics
from quorumlog.node.reading import Reader
from quorumlog.node.status import Statuses
from quorumlog.node.tails import Tails
from quorumlog.node.tls import Certificates
from quorumlog.node.viewers import Viewers
from quorumlog.raft.engine import Engine

# Whatever is answered here is done in milliseconds; live tails end at once.
_GRACE_S = 1.0


class Web:
    """Probes, metrics, status and page of one node."""

    def __init__(
        self,
        config: Config,
        endpoint: Endpoint,
        engine: Engine,
        machine: LogMachine,
        statuses: Statuses,
        calls: Calls,
        reader: Reader,
        tails: Tails,
        executor: Executor,
        certificates: Certificates | None,
        grants: Grants,
    ) -> None:
        self._endpoint = endpoint
        self._statuses = statuses
        self._tls = certificates is not None
        self._checks = Checks(engine)
        self._live_tails = LiveTails(reader, tails, executor)
        app = HttpApp(
            endpoint,
            self._checks,
            statuses,
            machine,
            reader,
            self._live_tails,
            Metrics(engine, machine, calls, statuses, certificates, str(config.data)),
            Viewers(config.cluster, grants, tls=self._tls),
        )
        self._server = HttpServer(
            endpoint.listen, app.asgi, certificates.serving if certificates is not None else None
        )

    async def start(self) -> None:
        """Answer; the node is alive, and not ready. Raises OSError."""
        listening = await self._server.start()
        advertised = self._endpoint.advertised
        address = advertised.with_port(listening.port) if advertised.port == 0 else advertised
        self._statuses.http_address = str(address)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"{'https' if self._tls else 'http'}://{self._statuses.http_address}/"

    def ready(self) -> None:
        """The node serves from now on."""
        self._checks.unready = ""

    def draining(self) -> None:
        """The node stops: let nobody send it more."""
        self._checks.unready = "the node is stopping"
        self._live_tails.stop()

    async def stop(self) -> None:
        """Answer no more."""
        await self._server.stop(_GRACE_S)
