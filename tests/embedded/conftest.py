"""An embedded log in both flavours, each behind the awaits of AsyncClient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import quorumlog
from tests.support.flavours import Awaitable

Open = Callable[..., Any]


@pytest.fixture(params=["async", "sync"])
def open_log(request: pytest.FixtureRequest) -> Open:
    """Return what opens a log: used with `async with`, whichever flavour it is."""
    if request.param == "async":
        return quorumlog.open_async

    return lambda path, **options: Awaitable(quorumlog.open(path, **options))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.log"
