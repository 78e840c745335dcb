# SPDX-License-Identifier: LGPL-2.1-or-later
"""Totals of a machine of which something is missing: what they are whole, or unknown.

A sum over what is left would be smaller, and look like an answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.analysis.check.overlay import Bench, Holes
from tests.analysis.machines import busy
from tests.commands.asking import ask, text
from tests.model.kernels import varied
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.base import TargetError

VERBS = (
    ("summary",),
    ("summary", "--kind", "dax"),
    ("sections",),
    ("sections", "--node", "0"),
    ("zones",),
    ("hvo",),
    ("hvo", "--folios"),
    ("dax",),
)
PAGE = 4096


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(varied("7.3"))


def values(part: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in part.items():
        if isinstance(value, Mapping):
            yield from values(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def wrong(bench: Bench, pfn: int, truth: Mapping[Any, Any]) -> list[Any]:
    """Totals that are neither unknown nor true when a frame is missing."""
    found = []
    for words in VERBS:
        try:
            totals = ask(Kernel(Holes(bench.target, {pfn})), *words)["totals"]
        except TargetError:
            continue  # a refusal is an answer of one line
        told = {k: v for k, v in values(totals) if v is not None}
        found += [(words, k, v) for k, v in told.items() if v != truth[words].get(k)]
    return found


def test_a_total_is_true_or_unknown_whatever_frame_is_missing(bench: Bench) -> None:
    whole = Holes(bench.target, ())
    truth = {
        words: dict(values(ask(Kernel(whole), *words)["totals"])) for words in VERBS
    }
    draw = random.Random("holes")
    structures = draw.sample(bench.structures, 12)
    others = draw.sample(sorted(whole.touched - set(bench.structures)), 3)
    found = {pfn: wrong(bench, pfn, truth) for pfn in (*structures, *others)}
    assert {hex(pfn): what for pfn, what in found.items() if what} == {}


def test_sections_without_a_root_are_not_counted_but_unknown() -> None:
    m = busy()
    kernel = m.kernel()
    assert ask(kernel, "sections")["totals"] == {"sections": 4}
    roots = int(m.target.vmcoreinfo["SYMBOL(mem_section)"], 16)
    root = kernel.memory.unsigned(roots)
    m.memory.lose((root - m.target.direct_map) // PAGE)
    for verb in ("sections", "summary"):
        answer = ask(m.reading(), verb)
        assert answer["totals"]["sections"] is None
        assert answer["missing"] == {"excluded": {"mem_section roots": 1}}
    totals = ask(m.reading(), "summary")["totals"]
    assert totals["mapped_bytes"] == 4 * 2097152  # of page tables, which are whole
    assert totals["saved_hugetlb_bytes"] is None and totals["chosen"] is None
    hvo = ask(m.reading(), "hvo")["totals"]
    assert (hvo["folios"], hvo["optimised"], hvo["saved_bytes"]) == (None, None, None)
    lines = text(m.reading(), "summary").splitlines()
    shown = dict(line.split(":", 1) for line in lines if ":" in line)
    assert shown["Sections present"].strip() == "?"
    assert shown["  by HugeTLB (HVO)"].strip() == "?"
    assert shown["Vmemmap mapped"].strip() == "8 MiB"


def test_a_section_below_a_missing_table_says_nothing_of_its_leaves() -> None:
    m = busy()
    whole = {row["nr"]: row for row in ask(m.kernel(), "sections")["rows"]}
    table = m.tables.entry_pa(m.vmemmap + 512 * PAGE, 1) // PAGE
    m.memory.lose(table)
    rows = {row["nr"]: row for row in ask(m.reading(), "sections")["rows"]}
    fields = ("huge_leaves", "base_leaves", "mapped_pages", "backing_frames")
    assert [rows[1][name] for name in fields] == [None] * 4
    assert [rows[0][name] for name in fields] == [whole[0][name] for name in fields]
    chosen = ask(m.reading(), "sections", "--optimised")["totals"]
    assert chosen == {"sections": None}
