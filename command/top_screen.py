"""The screen of `quorumlog cluster top`, made from a View: the same for terminals, pipes and tests."""

from __future__ import annotations

import datetime as dt

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quorumlog.command.cluster_notes import ROLE_STYLES
from quorumlog.command.output import sized
from quorumlog.command.top_view import Event, NodeRow, TopicRow, View, duration

_EVENT_STYLES = {"good": "green", "bad": "red", "note": ""}
_EVENTS_SHOWN = 8
_TOPICS_SHOWN = 20  # where there is no height to fill
_NODE_TITLES = ("NODE", "ROLE", "TERM", "COMMIT", "APPLIED", "LAG", "SIZE", "ENTRIES/S")
_TOPIC_TITLES = ("TOPIC", "PARTITIONS", "RECORDS", "RECORDS/S")
_FRAME_LINES = 9  # headline, titles, blank lines, "and 3 more", the line of keys


def screen(view: View, height: int | None = None, keys: str = "") -> RenderableType:
    """Return what to show; with a height in lines as many topics as fit, else the 20 that grow fastest."""
    notes = [(row.node_id, note) for row in view.nodes for note in row.notes]
    events = view.events[-_EVENTS_SHOWN:]
    room = _TOPICS_SHOWN
    if height is not None:
        room = max(1, height - _FRAME_LINES - len(view.nodes) - len(notes) - len(events))
    parts: list[RenderableType] = [_headline(view), Text(), _nodes(view)]
    parts += [_line(f"  {node_id}: {note}", "yellow") for node_id, note in notes]
    parts += [Text(), _topics(view.topics[:room])]
    if len(view.topics) > room:
        parts.append(Text(f"  and {len(view.topics) - room} more", "dim"))
    if events:
        parts += [Text(), Text("EVENTS", "bold"), *map(_event, events)]
    if keys:
        parts += [Text(), Text(keys, "dim")]
    return Group(*parts)


def _headline(view: View) -> Text:
    answering = sum(node.reachable for node in view.look.nodes)
    text = Text.assemble((f"{view.look.cluster or '?'} ", "bold"), f"{time_of(view.look.time_ms)[:8]}  ")
    if view.leader_id:
        text.append(f"leader {view.leader_id}", "bold green")
    elif view.without_leader_s is not None:
        text.append(f"NO LEADER for {duration(view.without_leader_s)}", "bold red")
    else:
        text.append("NO LEADER", "bold red")
    text.append(f"  term {view.term}  sync {view.look.sync_policy}  ")
    everyone = len(view.look.nodes)
    text.append(f"{answering} of {everyone} nodes answer", "" if answering == everyone else "red")
    return text


def _nodes(view: View) -> Table:
    table = _table(_NODE_TITLES, left=2)
    for row in view.nodes:
        table.add_row(row.node_id, _role(row), *map(_number, _figures(row)))
    return table


def _role(row: NodeRow) -> Text:
    return Text("leader *" if row.role == "leader" else row.role, ROLE_STYLES.get(row.role, ""))


def _figures(row: NodeRow) -> tuple[object, ...]:
    size = None if row.log_bytes is None else sized(row.log_bytes)
    lag = None if row.role == "leader" else row.lag
    return row.term, row.commit_index, row.applied_index, lag, size, row.entries_per_s


def _topics(rows: tuple[TopicRow, ...]) -> Table | Text:
    if not rows:
        return Text("no topics", "dim")
    table = _table(_TOPIC_TITLES, left=1)
    for row in rows:
        style = "" if row.records_per_s else "dim"
        figures = (row.partitions, f"{row.records:,}", row.records_per_s)
        table.add_row(row.name, *map(_number, figures), style=style)
    return table


def _table(titles: tuple[str, ...], left: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column, title in enumerate(titles):
        table.add_column(
            title, justify="left" if column < left else "right", no_wrap=True, min_width=len(title)
        )
    return table


def _event(event: Event) -> Text:
    return _line(f"  {time_of(event.time_ms)}  {event.text}", _EVENT_STYLES[event.severity])


def _line(text: str, style: str) -> Text:
    """Return what takes one line, however long it is."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _number(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"
    return str(value)


def time_of(time_ms: int) -> str:
    """Return the time of day here, to a millisecond."""
    return dt.datetime.fromtimestamp(time_ms / 1000).astimezone().strftime("%H:%M:%S.%f")[:-3]
