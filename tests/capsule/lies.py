# SPDX-License-Identifier: LGPL-2.1-or-later
"""Something else in the place of something that a capsule says."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

__all__ = ["lie"]

LIES: list[Any] = [None, -1, 0, 1, 7, 1 << 31, 1 << 63, 1 << 70, "", "x", [], {}, 1.5]


def lie(data: st.DataObject, value: Any) -> Any:
    """The value with something else somewhere in it."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 9)):
        key = data.draw(st.sampled_from(sorted(value)))
        return {**value, key: lie(data, value[key])}
    if isinstance(value, (list, tuple)) and value and data.draw(st.integers(0, 9)):
        at = data.draw(st.integers(0, len(value) - 1))
        return [*value[:at], lie(data, value[at]), *value[at + 1 :]]
    return data.draw(st.sampled_from(LIES))
