"""Which node to ask: the table of endpoints, who leads, who failed. No I/O; the clock is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from quorumlog.client.errors import UnknownOption
from quorumlog.client.retries import Backoff

Route: TypeAlias = Literal["leader", "any"]

DEFAULT_PORT = 9650
MAX_ENDPOINTS = 64  # bounds what answers can make us remember; the largest clusters have 7 members

# A follower may name a leader that has just fallen silent for about an election timeout (0.8 s by default).
STALE_HINT_S = 3.0


def parse_servers(servers: str | Iterable[str]) -> list[str]:
    """Return "host:port" for each of "h1:p,h2" or a list of such; raises UnknownOption on nonsense."""
    parts = servers.split(",") if isinstance(servers, str) else list(servers)
    addresses = [_with_port(part.strip()) for part in parts if part.strip()]
    if not addresses:
        raise UnknownOption(f"servers: expected host:port[,host:port...], got {servers!r}")
    return list(dict.fromkeys(addresses))


def _with_port(address: str) -> str:
    host, colon, port = address.rpartition(":")
    if address.endswith("]") or not colon:  # "[::1]" or "name"
        return f"{address}:{DEFAULT_PORT}"
    if host and port.isdecimal() and 0 < int(port) < 65536 and (":" not in host or host.startswith("[")):
        return address
    raise UnknownOption(f"server address: expected host:port, got {address!r}")


@dataclass(slots=True)
class Endpoint:
    """What is known of one address."""

    address: str
    node_id: str = ""
    failures: int = 0  # in a row
    not_before_s: float = 0.0  # others come first until then
    failed_s: float = float("-inf")  # when it last failed
    reached: bool = False  # ever
    silent: bool = False  # when it last failed it was waited for in vain: asking again may cost as much time


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes; `no_forward`: the node shall name the leader instead of forwarding."""

    address: str
    no_forward: bool


@dataclass(slots=True)
class Endpoints:
    """The table, in order of preference: what the user gave first, then what the cluster told.

    - There is always at least one endpoint; what the user gave is never dropped.
    - An endpoint that failed comes last until its pause is over.
    - A leader that fell silent is not asked again while whoever names it may not know that yet.
    - A leader that cannot be reached from here (it advertises an address of another network) is not
      insisted on: any reachable node forwards. Where none is reachable, it is asked again in its turn.
    """

    addresses: list[str]
    random: Callable[[], float]
    backoff: Backoff = field(default_factory=Backoff)
    leader: str | None = None
    _table: dict[str, Endpoint] = field(default_factory=dict)
    _turn: int = 0  # grows with each node that could not take a write: whoever is asked next is another one

    def __post_init__(self) -> None:
        self._table = {address: Endpoint(address) for address in self.addresses}
        assert self._table

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._table.values())

    def learn(self, address: str, node_id: str = "") -> None:
        """Remember an address that the cluster told."""
        if not address:
            return
        known = self._table.get(address)
        if known is None and len(self._table) < MAX_ENDPOINTS:
            known = self._table[address] = Endpoint(address)
        if known is not None and node_id:
            known.node_id = node_id

    def leads(self, address: str, node_id: str = "") -> None:
        """Take note that a node named this one as the leader, or that it said so itself."""
        self.learn(address, node_id)
        self.leader = address if address in self._table else None

    def leads_not(self, address: str) -> None:
        """Take note that this one does not lead and knows nobody who does."""
        if self.leader == address:
            self.leader = None
        self._turn += 1

    def succeeded(self, address: str) -> None:
        """Take note that this one answered."""
        endpoint = self._table.get(address)
        if endpoint is not None:
            endpoint.failures = 0
            endpoint.not_before_s = 0.0
            endpoint.reached = True

    def failed(self, address: str, now_s: float, *, silent: bool = False) -> None:
        """Take note that this one did not answer, because nothing came (`silent`) or as was seen at once."""
        endpoint = self._table.get(address)
        if endpoint is None:
            return
        endpoint.failures += 1
        endpoint.failed_s = now_s
        endpoint.silent = silent
        endpoint.not_before_s = now_s + self.backoff.pause_s(endpoint.failures, self.random)
        if self.leader == address and endpoint.reached:
            self.leader = None  # it has probably died; an unreached one stays named: see for_write
        self._turn += 1

    def for_write(self, now_s: float, route: Route) -> Target:
        """Return whom a write goes to."""
        if route == "any":
            return Target(self._in_order(now_s, self._turn).address, no_forward=False)
        leader = self._table.get(self.leader or "")
        if leader is None:
            return Target(self._in_order(now_s, self._turn).address, no_forward=True)
        if leader.failures == 0:
            return Target(leader.address, no_forward=True)
        if not leader.reached:  # named by others, but not to be reached from here
            other = self._in_order(now_s, self._turn, avoid=leader)
            if other.failures and now_s >= leader.not_before_s:  # nor are they, now: it may be by this time
                return Target(leader.address, no_forward=True)
            return Target(other.address, no_forward=False)
        if not leader.silent and now_s >= leader.not_before_s:  # it may be back, and elected
            return Target(leader.address, no_forward=True)
        hint_is_fresh = now_s - leader.failed_s < STALE_HINT_S
        return Target(self._in_order(now_s, self._turn, avoid=leader).address, no_forward=hint_is_fresh)

    def for_read(self, now_s: float, start: int = 0) -> str:
        """Return whom a read goes to; `start` spreads readers over the nodes."""
        return self._in_order(now_s, start).address

    def address_of(self, node: str) -> str | None:
        """Return the address of a node given by id or by address, or None where it is not known."""
        if node in self._table:
            return node
        return next((known.address for known in self._table.values() if known.node_id == node), None)

    def _in_order(self, now_s: float, start: int = 0, avoid: Endpoint | None = None) -> Endpoint:
        table = [endpoint for endpoint in self._table.values() if endpoint is not avoid]
        if not table:
            return next(iter(self._table.values()))
        turned = table[start % len(table) :] + table[: start % len(table)]
        # Stable: among those that may be asked now the order decides, else the one whose pause ends first.
        return min(turned, key=lambda endpoint: max(endpoint.not_before_s, now_s))
