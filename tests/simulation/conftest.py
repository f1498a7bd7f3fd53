"""What simulations share: silence."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    """What simulated nodes log is no news: the trace tells it."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
