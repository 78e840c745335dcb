# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rows hold objects and lists, a table has neither: dotted paths lead across.

``{"node": 0, "tails": [{"order": 9}, {"order": 18}]}`` has the paths ``node`` and
``tails.order``, the second with one value per element.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .report import Row

__all__ = ["Spread", "flat_lines", "lookup"]


_SCALARS = frozenset({int, str, bool, type(None)})
"""Nearly all that rows hold; the tests for objects and lists are dear."""


class Spread(list[Any]):
    """The values of a path that leads through a list, one per element."""


def lookup(row: Row, path: str) -> Any:
    """Look up a dotted path; None if it leads nowhere, `Spread` through a list."""
    return _follow(row, path.split("."))


def _follow(value: Any, parts: list[str]) -> Any:
    for position, part in enumerate(parts):
        if isinstance(value, (list, tuple)):
            return _spread([_follow(item, parts[position:]) for item in value])
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _spread(values: list[Any]) -> Spread:
    spread = Spread()
    for value in values:
        if isinstance(value, Spread):
            spread.extend(value)
        else:
            spread.append(value)
    return spread


def flat_lines(row: Row) -> list[dict[str, Any]]:
    """Flatten a row: objects into dotted keys, lists into one line per element.

    Every line repeats the plain values of its parent. Where a row holds several lists
    they follow one another; they are never multiplied. An empty list or object keeps
    its key, with None.
    """
    plain: dict[str, Any] = {}
    below: list[dict[str, Any]] = []
    _flatten("", row, plain, below)
    return [{**plain, **line} for line in below] or [plain]


def _flatten(
    prefix: str, row: Row, plain: dict[str, Any], below: list[dict[str, Any]]
) -> None:
    for name, value in row.items():
        key = f"{prefix}{name}"
        if type(value) in _SCALARS:
            plain[key] = value
        elif isinstance(value, Mapping) and value:
            _flatten(f"{key}.", value, plain, below)
        elif isinstance(value, (list, tuple)) and value:
            for item in value:
                below.extend(flat_lines({key: item}))
        else:
            plain[key] = None if isinstance(value, (Mapping, list, tuple)) else value
