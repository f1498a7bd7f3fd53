"""Bad networks for containers: iptables and tc of this machine, run in their network namespaces, as root.

So the containers need neither these programs nor a capability. Rules go with the namespace when a container
stops. What the kernel can do is measured before anything is promised: `missing`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence

from tests.chaos import plan
from tests.support.waiting import UNIT_S

_NOBODY = "192.0.2.1"  # an address that is kept for examples


class CannotShape(Exception):
    """A command failed; the message is what it said."""


def run_in(pid: int, command: Sequence[str]) -> str:
    """Run a command in the network namespace of a process; returns what it printed."""
    return _run(["nsenter", "--target", str(pid), "--net", *command])


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10 * UNIT_S, check=False)
    if done.returncode != 0:
        raise CannotShape(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def missing(pid: int) -> dict[str, str]:
    """The faults that cannot be done to the container of this process, each with the reason."""
    absent = [name for name in ("nsenter", "iptables", "tc", "ip") if shutil.which(name) is None]
    if os.geteuid() != 0 or absent:
        reason = f"needs {', '.join(absent)}" if absent else "entering a network namespace needs root"
        kinds = (*plan.LINKS, *plan.LOSSES, *plan.DELAYS, *plan.REORDERS, *plan.RATES)
        return dict.fromkeys(kinds, reason)
    card = _card(pid)[0]
    probes: dict[tuple[str, ...], list[list[str]]] = {
        plan.LINKS: [_drop("-A", _NOBODY), _drop("-D", _NOBODY)],
        plan.LOSSES: [_lose("-A", _NOBODY, 0.1), _lose("-D", _NOBODY, 0.1)],
        (*plan.DELAYS, *plan.REORDERS): [_qdisc("add", card, ["netem", "delay", "1ms"]), _qdisc("del", card)],
        plan.RATES: [_qdisc("add", card, _rate(1_000_000)), _qdisc("del", card)],
    }
    found: dict[str, str] = {}
    for kinds, commands in probes.items():
        try:
            for command in commands:
                run_in(pid, command)
        except CannotShape as error:
            found |= dict.fromkeys(kinds, str(error).partition(": ")[2])
    return found


def drop(pid: int, sources: Iterable[str]) -> None:
    """Let nothing in from these addresses."""
    for source in sources:
        run_in(pid, _drop("-A", source))


def lose(pid: int, sources: Iterable[str], share: float) -> None:
    """Drop a share of the packets from these addresses."""
    for source in sources:
        run_in(pid, _lose("-A", source, share))


def netem(pid: int, what: Sequence[str]) -> None:
    """Treat all that leaves the container in one of netem's ways."""
    run_in(pid, _qdisc("replace", _card(pid)[0], ["netem", *what]))


def limit_arriving(pid: int, bytes_per_s: float) -> str:
    """Limit what reaches the container, at the other end of its cable; returns that end's name."""
    number = _card(pid)[1]
    for line in _run(["ip", "-oneline", "link"]).splitlines():
        match = re.match(rf"{number}: ([^@:]+)", line)
        if match is not None:
            _run(_qdisc("replace", match[1], _rate(bytes_per_s)))
            return match[1]
    raise CannotShape(f"no interface {number} here")


def heal(pid: int) -> None:
    """Undo all of it but `limit_arriving`."""
    run_in(pid, ["iptables", "--wait", "-F", "INPUT"])
    if "netem" in run_in(pid, ["tc", "qdisc", "show"]):
        run_in(pid, _qdisc("del", _card(pid)[0]))


def lift_limit(interface: str) -> None:
    """Undo `limit_arriving`, where the interface is still there."""
    subprocess.run(_qdisc("del", interface), capture_output=True, check=False)


def shape_of(kind: str, strength: float) -> Mapping[str, object]:
    """What `strength` 0 to 1 means: netem's words, a share, or bytes per second."""
    far_ms, spread_ms = round(5 + 150 * strength), round(10 + 90 * strength)
    return {
        "delay": {"netem": ["delay", f"{far_ms}ms"]},
        "jitter": {"netem": ["delay", f"{spread_ms}ms", f"{round(spread_ms / 2)}ms"]},
        "reorder": {"netem": ["delay", "20ms", "reorder", f"{round(75 - 50 * strength)}%", "50%"]},
        "duplicate": {"netem": ["duplicate", f"{round(1 + 29 * strength)}%"]},
        "loss": {"share": round(0.01 + 0.29 * strength, 2)},
        "slow_follower_link": {"rate": round(1_000_000 - 875_000 * strength)},
    }[kind]


def _drop(action: str, source: str) -> list[str]:
    return ["iptables", "--wait", action, "INPUT", "-s", source, "-j", "DROP"]


def _lose(action: str, source: str, share: float) -> list[str]:
    chance = ["-m", "statistic", "--mode", "random", "--probability", f"{share:.3f}"]
    return ["iptables", "--wait", action, "INPUT", "-s", source, *chance, "-j", "DROP"]


def _qdisc(action: str, card: str, what: Sequence[str] = ()) -> list[str]:
    return ["tc", "qdisc", action, "dev", card, "root", *what]


def _card(pid: int) -> tuple[str, str]:
    """The network card of a container, and the number of the other end of its cable.

    It has another name after the container was disconnected and connected again.
    """
    links = run_in(pid, ["ip", "-oneline", "link"])
    match = re.search(r"(eth\d+)@if(\d+):", links)
    if match is None:
        raise CannotShape(f"no cable in {links!r}")
    return match[1], match[2]


def _rate(bytes_per_s: float) -> list[str]:
    return ["tbf", "rate", f"{round(bytes_per_s * 8)}bit", "burst", "32kb", "latency", "400ms"]
