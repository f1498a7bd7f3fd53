"""W3C trace context in headers: `traceparent`, `tracestate`, where OpenTelemetry's API is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

Headers: TypeAlias = Mapping[str, bytes] | Iterable[tuple[str, bytes]] | None
Inject: TypeAlias = Callable[[Headers], Headers]

_FIELDS = ("traceparent", "tracestate")


def trace_injector() -> Inject | None:
    """Return what adds the active span to headers; None, where OpenTelemetry is not installed.

    It never replaces a trace that the user has given, and does nothing while no span is active.
    """
    try:
        found = find_spec("opentelemetry.trace.propagation.tracecontext")
    except ModuleNotFoundError:
        found = None
    if found is None:
        return None
    propagator = import_module("opentelemetry.trace.propagation.tracecontext").TraceContextTextMapPropagator()
    return _Injector(propagator, import_module("opentelemetry.context").get_current).headers


class _Injector:
    def __init__(self, propagator: Any, current_context: Callable[[], Mapping[str, object]]) -> None:
        self._propagator = propagator
        self._current_context = current_context

    def headers(self, headers: Headers) -> Headers:
        """Return the headers with the trace, or as they are."""
        if not self._current_context():  # nothing is active: the quick way out of most programs
            return headers
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        if not carrier:
            return headers
        given = list(headers.items() if isinstance(headers, Mapping) else headers or ())
        if any(str(pair[0]).lower() in _FIELDS for pair in given if isinstance(pair, tuple) and pair):
            return given
        return [*given, *((name, value.encode()) for name, value in carrier.items())]
