# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compares the answer to an incomplete dump with the answer to the whole dump.

A field may be null where something is missing, but no field may say anything else than
the whole dump says. A row may be absent only where the totals that count it are null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["compare"]

IDENTITY: Mapping[str, tuple[str, ...]] = {
    "summary": ("node", "zone", "kind", "order"),
    "info": ("subject",),
    "sections": ("nr",),
    "zones": ("node", "start_pfn"),
    "hvo": ("order", "node", "pfn"),
    "dax": ("start_pfn",),
    "page": ("target",),
    "walk": ("level",),
}
"""Fields that name a row: rows of two answers are matched by them.

One that is null in the incomplete answer matches any.
"""

COUNTED_BY: Mapping[str, tuple[str, ...]] = {
    "summary": ("saved_hugetlb_bytes", "saved_dax_bytes"),
    "sections": ("sections",),
    "zones": ("shared_tail_pages",),
    "hvo": ("folios",),
    "dax": ("ranges",),
    "walk": ("pa",),
}
"""Totals that count rows: one of them is null where a row is absent."""

PROSE = frozenset({"explanation", "source", "evidence", "verdict"})
"""Sentences, which describe what is missing in their own words."""

ACCOUNT = frozenset({"checked", "partly", "not_checked", "not_applicable", "rules"})
"""What `check` says about its own work."""

OF_THE_FILE = frozenset({"memory", "dump", "types", "symbols"})
"""Subjects of `info` that are about the sources, and what they lack."""

LOST = frozenset({"lost", "losses", "unknown_parts"})
"""Totals of `info` that name what is missing."""

Answer = Mapping[str, Any]
PER_PAGE = ("backing", "readonly", "owner")


def compare(
    verb: str, whole: Answer, part: Answer, leaves: bool = False
) -> Iterator[str]:
    """What ``part`` says that ``whole`` contradicts, in words.

    ``leaves`` is for the leaves that `map` lists.
    """
    yield from _kernel(whole["kernel"], part["kernel"])
    if verb == "check":
        yield from _check(whole, part)
        return
    if verb == "map" and leaves:
        whole_rows = {row["va"]: row for row in whole["rows"]}
        for row in part["rows"]:
            yield from _values(f"leaf {row['va']}", whole_rows.get(row["va"]), row)
        return
    if verb == "map":
        yield from _map(whole, part)
        return
    totals = {k: v for k, v in part["totals"].items() if k not in LOST}
    yield from _values("totals", whole["totals"], totals)
    yield from _rows(verb, whole, part)


def _kernel(whole: Answer, part: Answer) -> Iterator[str]:
    for name in part["features"]:
        if name not in whole["features"]:
            yield f"kernel.features has {name}"
    for name in whole["features"]:
        if name not in (*part["features"], *part.get("unknown_features", [])):
            yield f"kernel.features denies {name}"
    skipped = ("features", "unknown_features")
    for key in part:
        if key not in skipped:
            yield from _values(f"kernel.{key}", whole[key], part[key])


def _rows(verb: str, whole: Answer, part: Answer) -> Iterator[str]:
    names = IDENTITY[verb]
    left = list(whole["rows"])
    for row in part["rows"]:
        if verb == "info" and row["subject"] in OF_THE_FILE:
            continue
        if verb == "summary" and row["zone"] is None:
            left = list(_without_zones(left, row))
        same = [w for w in left if all(_agrees(w.get(n), row.get(n)) for n in names)]
        label = f"{verb} {[row.get(n) for n in names]}"
        if not same:
            yield f"{label}: no such row in the whole dump"
            continue
        best = min(same, key=lambda w: len(list(_values(label, w, row))))
        left.remove(best)
        yield from _values(label, best, row)
    left = [row for row in left if row.get("subject") not in OF_THE_FILE]
    if left and not any(
        part["totals"].get(name, 0) is None for name in COUNTED_BY.get(verb, ())
    ):
        yield f"{verb}: {len(left)} rows are absent, and no total is null"


def _without_zones(rows: list[Any], like: Answer) -> Iterator[Any]:
    """Rows of one node, kind and order as one row: where zones have no names."""
    joined: dict[str, Any] = {}
    for row in rows:
        if all(row[name] == like[name] for name in ("node", "kind", "order")):
            sums = ("count", "optimised", "saved_bytes", "savable_bytes")
            old = {name: joined.get(name, 0) for name in sums}
            joined = {**row, **{n: old[n] + (row[n] or 0) for n in sums}, "zone": None}
        else:
            yield row
    if joined:
        yield joined


def _agrees(whole: Any, part: Any) -> bool:
    return part is None or whole == part


def _values(path: str, whole: Any, part: Any) -> Iterator[str]:
    if part is None:
        return
    if isinstance(part, Mapping) and isinstance(whole, Mapping):
        for key, value in part.items():
            if key not in PROSE:
                yield from _values(f"{path}.{key}", whole.get(key), value)
    elif isinstance(part, list) and isinstance(whole, list):
        if len(part) != len(whole):
            yield f"{path}: {part!r} instead of {whole!r}"
            return
        for i, (w, p) in enumerate(zip(whole, part)):
            yield from _values(f"{path}[{i}]", w, p)
    elif part != whole:
        yield f"{path}: {part!r} instead of {whole!r}"


def _check(whole: Answer, part: Answer) -> Iterator[str]:
    for row in part["rows"]:
        known = [w for w in whole["rows"] if w["rule"] == row["rule"]]
        if row["severity"] != "I" and not known:
            yield f"check finds {row['rule']}: {row['message']}"
    counts = {k: v for k, v in part["totals"].items() if k not in ACCOUNT}
    yield from _values("totals", whole["totals"], counts)


def _map(whole: Answer, part: Answer) -> Iterator[str]:
    """Runs may be cut differently: what they say of each page is compared."""
    pages = list(_spans(whole["rows"]))
    i = 0
    for start, end, row in _spans(part["rows"]):
        while i and pages[i - 1][1] > start:
            i -= 1
        while i < len(pages) and pages[i][1] <= start:
            i += 1
        j = i
        while j < len(pages) and pages[j][0] < end:
            for key in PER_PAGE:
                label = f"map {row['start_va']}.{key}"
                yield from _values(label, pages[j][2][key], row[key])
            j += 1
        if j == i and row["backing"] not in (None, "hole"):
            yield f"map {row['start_va']}: no such page in the whole dump"


def _spans(rows: Sequence[Answer]) -> Iterator[tuple[int, int, Answer]]:
    for row in rows:
        yield int(row["start_va"], 16), int(row["end_va"], 16), row
