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

__all__ = ["VERBS", "false_answers", "false_losses", "questions", "reduced"]

VERBS = (
    ("summary",),
    ("sections",),
    ("zones",),
    ("zones", "--all"),
    ("map",),
    ("map", "--leaves"),
    ("hvo",),
    ("hvo", "--folios"),
    ("dax",),
)
FILTERED = (
    ("summary", "--node", "0"),
    ("summary", "--kind", "hugetlb"),
    ("sections", "0-3", "0x40", "--state", "O"),
    ("hvo", "--order", "9"),
    ("hvo", "--folios", "--optimised", "--node", "1"),
    ("dax", "--optimised"),
    ("map", "--section", "0"),
)
WORDS = ("_text", "va:_text", "vmemmap_base", "phys:0x100000", "0xffffffffff600000")
"""Targets of ``page`` of every spelling: symbols, and an address of no RAM."""
Row = dict[str, Any]


def questions(dump: Dump) -> list[tuple[str, ...]]:
    """What types of every origin are asked: each verb, with pages of this dump.

    ``page`` is asked about many at once and about some alone, ``walk`` about the
    vmemmap, its end, the direct map and the kernel's text.
    """
    start = int(dump.ask("summary")["kernel"]["vmemmap_va"], 16)
    addresses = [hex(start + offset) for offset in (0, 1 << 21, 1 << 26, 1 << 38)]
    pages = interesting_pages(dump)
    return [
        *VERBS,
        *FILTERED,
        ("page", *pages),
        ("page", pages[0]),
        ("page", *WORDS, *addresses),
        *(("walk", address) for address in (*addresses, "_text", "vmemmap_base", "0")),
    ]


def interesting_pages(dump: Dump) -> list[str]:
    """Targets of ``page``: heads, tails and aliases, devices, starts of sections.

    And a page of each type that there is.
    """
    pfns: set[int] = set()
    for folio in dump.rows("hvo", "--folios")[:: len(dump.rows("hvo")) + 1]:
        last = (1 << folio["order"]) - 1
        pfns.update(folio["pfn"] + i for i in (0, 1, 64, 65, last))
        frames = folio["head_frame_pfn"], folio["tail_frame_pfn"]
        pfns.update(frame for frame in frames if frame is not None)
    for dax in dump.rows("dax"):
        pfns.update((dax["start_pfn"], dax["start_pfn"] + 65, dax["end_pfn"] - 1))
    pfns.update(section["start_pfn"] + 1 for section in dump.rows("sections"))
    pfns.update(_by_page_type(dump).values())
    return [f"pfn:{pfn}" for pfn in sorted(pfns)]


def _by_page_type(dump: Dump) -> dict[int, int]:
    """{top byte of ``page_type``: a pfn that has it}, in memory that is online."""
    kernel, found = dump.kernel, {}
    page = kernel.pages.struct
    step, at = page.size // 4, page.offset("_mapcount") // 4
    for section in dump.rows("sections", "--state", "O"):
        start = section["start_pfn"]
        data = kernel.memory.read(kernel.pages.va(start), section["pages"] * page.size)
        words = memoryview(data).cast("I")[at::step]
        found.update({word >> 24: start + i for i, word in enumerate(words)})
    return found


def reduced(verb: str, answer: Answer, lost: Sequence[str]) -> dict[str, Any]:
    """An answer without its lost fields, rows merged that differ in nothing else."""
    whole = {key: answer[key] for key in ("schema", "rows", "totals", "missing")}
    whole["kernel"] = _without(answer["kernel"], _below("kernel", lost))
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


def false_losses(
    lost: Mapping[str, Sequence[str]],
    asked: Iterable[tuple[str, Answer, Answer]],
) -> list[str]:
    """Fields declared lost that are told all the same, in every row of every answer.

    ``asked`` are (verb, answer with types, answer without). A field that is null with
    types too counts as lost: without them null does not mean "there is none".
    """
    told: dict[str, bool] = {}
    for verb, known, bare in asked:
        for field in lost[verb]:
            part, *path = field.split(".")
            ours, its = (_values(answer[part], path) for answer in (known, bare))
            if any(ours) or any(its):
                name = f"{verb}: {field}"
                told[name] = told.get(name, True) and ours == its
    return [name for name, is_told in told.items() if is_told]


def _values(part: Any, path: Sequence[str]) -> list[Any]:
    """What a path leads to, in every row."""
    found = part if isinstance(part, list) else [part]
    for name in path:
        found = [v.get(name) if isinstance(v, Mapping) else None for v in found]
    return found


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
