# SPDX-License-Identifier: LGPL-2.1-or-later
"""Comparisons: what a verb says against what a judge says, each worth a printed line.

A test makes them through the fixture ``compare``; ``conftest.py`` prints them, whether
they come out equal or not, so that the log of a run shows what was compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Compare", "Comparison", "difference"]

_SHOWN = 4
_WIDTH = 160


@dataclass(frozen=True)
class Comparison:
    """One comparison: *what*, and *said*, the numbers of it or how they differ."""

    what: str
    said: str
    is_equal: bool

    def __str__(self) -> str:
        mark = "ok    " if self.is_equal else "DIFFER"
        return f"{mark} {self.what}: {self.said}"


class Compare:
    """Makes comparisons and keeps them; *place* names the dump they are about."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.made: list[Comparison] = []

    def equal(self, what: str, ours: Any, judge: Any, said: str | None = None) -> None:
        """Assert that *ours* is what the *judge* says.

        :param what: the two sides, as ``free 2M pages = sysfs``
        :param said: what to print when they are; by default the value
        """
        if ours == judge:
            self.made.append(Comparison(what, said or _brief(judge), True))
            return
        self.made.append(Comparison(what, difference(ours, judge), False))
        raise AssertionError(f"{self.place}: {self.made[-1]}")

    def true(self, what: str, is_true: bool, said: str) -> None:
        """Assert a statement about what a verb said."""
        self.made.append(Comparison(what, said, is_true))
        assert is_true, f"{self.place}: {what}: {said}"


def difference(ours: Any, judge: Any) -> str:
    """Return in a line where *ours* leaves what the *judge* says."""
    if isinstance(ours, Mapping) and isinstance(judge, Mapping):
        return "; ".join(_shortened(list(_of_mappings(ours, judge))))
    if isinstance(ours, (set, frozenset)) and isinstance(judge, (set, frozenset)):
        return _of_sets(ours, judge)
    if _is_list(ours) and _is_list(judge):
        return _of_lists(ours, judge)
    return f"the tool {_brief(ours)}, the judge {_brief(judge)}"


def _of_mappings(ours: Mapping[Any, Any], judge: Mapping[Any, Any]) -> Iterator[str]:
    for key in [*judge, *(key for key in ours if key not in judge)]:
        if key not in ours or key not in judge:
            yield f"{key} only with {'the judge' if key in judge else 'the tool'}"
        elif ours[key] != judge[key]:
            yield f"{key}: {difference(ours[key], judge[key])}"


def _of_sets(ours: Collection[Any], judge: Collection[Any]) -> str:
    parts = []
    for name, more in (
        ("only the tool", set(ours) - set(judge)),
        ("only the judge", set(judge) - set(ours)),
    ):
        if more:
            shown = ", ".join(_shortened([_brief(item) for item in sorted(more)]))
            parts.append(f"{name} has {len(more)}: {shown}")
    return "; ".join(parts)


def _of_lists(ours: list[Any], judge: list[Any]) -> str:
    pairs = zip(ours, judge)
    at = next(
        (i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(judge))
    )
    sides = [
        _brief(side[at]) if at < len(side) else "nothing more" for side in (ours, judge)
    ]
    return (
        f"{len(ours)} and {len(judge)} entries; at {at} the tool has {sides[0]}, "
        f"the judge {sides[1]}"
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _shortened(items: list[str]) -> list[str]:
    more = len(items) - _SHOWN
    return items if more <= 0 else [*items[:_SHOWN], f"and {more} more"]


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
