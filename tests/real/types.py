# SPDX-License-Identifier: LGPL-2.1-or-later
"""Answers of one dump by types of different origin, made comparable.

``info`` declares which fields of each verb's JSON are lost without types. All others
have to be equal; a lost one has to be null, or equal all the same, but never a zero
that stands for "unknown".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .dumps import Answer, Dump

__all__ = ["VERBS", "false_answers", "interesting_pages", "reduced"]

VERBS = (
    ("summary",),
    ("sections",),
    ("zones", "--all"),
    ("map",),
    ("map", "--leaves"),
    ("hvo",),
    ("hvo", "--folios"),
    ("dax",),
)
Row = dict[str, Any]


def interesting_pages(dump: Dump) -> list[str]:
    """Targets of ``page``: heads, tails and aliases, devices, starts of sections."""
    pfns: set[int] = set()
    for folio in dump.rows("hvo", "--folios")[:: len(dump.rows("hvo")) + 1]:
        last = (1 << folio["order"]) - 1
        pfns.update(folio["pfn"] + i for i in (0, 1, 64, 65, last))
        frames = folio["head_frame_pfn"], folio["tail_frame_pfn"]
        pfns.update(frame for frame in frames if frame is not None)
    for dax in dump.rows("dax"):
        pfns.update((dax["start_pfn"], dax["start_pfn"] + 65, dax["end_pfn"] - 1))
    pfns.update(section["start_pfn"] + 1 for section in dump.rows("sections"))
    return [f"pfn:{pfn}" for pfn in sorted(pfns)]


def reduced(verb: str, answer: Answer, lost: Sequence[str]) -> dict[str, Any]:
    """An answer without its lost fields, rows merged that differ in nothing else."""
    whole = {key: answer[key] for key in ("schema", "rows", "totals", "missing")}
    rows = [row for row in answer["rows"] if _is_told(verb, row)]
    if "rows" in lost:
        rows = []
    whole["rows"] = [_without(row, _below("rows", lost)) for row in rows]
    totals = {} if "totals" in lost else answer["totals"]
    whole["totals"] = _without(totals, _below("totals", lost))
    if verb == "summary":
        whole["rows"] = _merged(whole["rows"])
    return whole


def _is_told(verb: str, row: Mapping[str, Any]) -> bool:
    """Whether VMCOREINFO alone lets this row be there at all."""
    if verb == "summary":
        return bool(row["kind"] != "dax")
    if verb == "hvo" and "found" in row:
        return bool(row["found"])
    return True


def _merged(rows: Iterable[Row]) -> list[Row]:
    """Rows of different zones as one."""
    merged: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = row["node"], row["kind"], row["order"]
        if key not in merged:
            merged[key] = dict(row)
            continue
        for name in ("count", "optimised", "saved_bytes"):
            merged[key][name] += row[name]
    return list(merged.values())


def _below(part: str, fields: Iterable[str]) -> list[list[str]]:
    return [f.split(".")[1:] for f in fields if f.startswith(f"{part}.")]


def _without(row: Mapping[str, Any], paths: list[list[str]]) -> Row:
    """A copy of a row without the fields that these paths lead to."""
    result = {}
    for name, value in row.items():
        deeper = [path[1:] for path in paths if path[0] == name]
        if [] in deeper:
            continue
        is_row = isinstance(value, Mapping) and deeper
        result[name] = _without(value, deeper) if is_row else value
    return result


def false_answers(
    verb: str, known: Answer, bare: Answer, lost: Sequence[str]
) -> list[str]:
    """Lost fields that are neither null nor what they would be with types."""
    wrong = [
        f"totals.{'.'.join(path)}"
        for path in _below("totals", lost)
        if _is_false(known["totals"], bare["totals"], path)
    ]
    if verb in ("summary", "map"):
        return wrong  # rows do not correspond to each other
    rows = [row for row in known["rows"] if _is_told(verb, row)]
    for mine, its in zip(rows, bare["rows"]):
        for path in _below("rows", lost):
            if path not in (["verdict"], ["explanation"]) and _is_false(
                mine, its, path
            ):
                wrong.append(f"rows.{'.'.join(path)} of {its}")
    return wrong


def _is_false(known: Any, bare: Any, path: list[str]) -> bool:
    for name in path:
        if not isinstance(bare, Mapping):
            return False
        known = known.get(name) if isinstance(known, Mapping) else None
        bare = bare.get(name)
    # "unknown" is what a reason says that null says of a number.
    is_unknown = isinstance(bare, Mapping) and set(bare) == {"unknown"}
    if bare in (None, known, "unknown") or is_unknown:
        return False
    # Bits without a name lack their letter, and are shown by number.
    if path[-1] in ("state", "flags"):
        return any(part not in known and part[:4] != "bit " for part in bare)
    return True
