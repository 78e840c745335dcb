# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine in memory that is altered while it is looked at."""

from __future__ import annotations

from typing import Any

from vmemmap_tools.target.base import Fault

__all__ = ["Altered"]

PAGE = 4096


class Altered:
    """A target that is said to run, with frames that are lost or hold other bytes."""

    live = True

    def __init__(self, inner: Any, lost: int | None = None):
        self._inner, self.lost = inner, lost
        self.changed: dict[int, bytes] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read_physical(self, address: int, size: int) -> bytes:
        if address // PAGE == self.lost:
            raise Fault(address, size, "excluded", physical=True)
        known = self.changed.get(address // PAGE)
        if known is not None:
            return known[address % PAGE :][:size]
        data: bytes = self._inner.read_physical(address, size)
        return data
