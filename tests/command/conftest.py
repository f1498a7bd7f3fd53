"""The fake clusters of the client's tests."""

from __future__ import annotations

from tests.client.conftest import both, cluster, distant

__all__ = ["both", "cluster", "distant"]
