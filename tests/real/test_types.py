# SPDX-License-Identifier: LGPL-2.1-or-later
"""One dump, types from DWARF, from its own BTF, from VMCOREINFO: the same answers."""

from __future__ import annotations

from typing import Any

import pytest

from .compare import Compare
from .dumps import Answer, Dump, DumpFile
from .runs import Run
from .types import VERBS, false_answers, interesting_pages, reduced

EVIDENCE_OF = {"memory", "types", "symbols"}
"""Rows of ``info`` that say where facts come from."""


@pytest.fixture(scope="session")
def known(dumps: dict[str, Dump]) -> Dump:
    """The dump with its vmlinux."""
    return dumps["elf"]


@pytest.fixture(scope="session")
def btf(run: Run) -> DumpFile:
    return DumpFile(run.elf, "btf")


@pytest.fixture(scope="session")
def bare(run: Run) -> DumpFile:
    return DumpFile(run.elf, "vmcoreinfo")


def verbs(known: Dump) -> list[tuple[str, ...]]:
    """All verbs, and pages and addresses of this dump."""
    start = int(known.ask("summary")["kernel"]["vmemmap_va"], 16)
    addresses = [hex(start + offset) for offset in (0, 1 << 21, 1 << 26, 1 << 38)]
    walks = [("walk", address) for address in addresses]
    return [*VERBS, ("page", *interesting_pages(known)), *walks]


def test_btf_answers_as_dwarf(known: Dump, btf: DumpFile, compare: Compare) -> None:
    for words in verbs(known):
        name = " ".join(words[:2])
        compare.true(f"{name}: BTF = DWARF", btf.ask(*words) == known.ask(*words), "")
    facts = [
        [row for row in dump.rows("info") if row["subject"] not in EVIDENCE_OF]
        for dump in (known, btf)
    ]
    compare.equal("info: BTF = DWARF", facts[1], facts[0])
    compare.equal("info: nothing is lost", btf.totals("info")["lost_fields"], {})


def test_a_kdump_carries_its_types_as_well(
    run: Run, known: Dump, compare: Compare
) -> None:
    kdump = DumpFile(run.kdump, "btf")
    same = kdump.ask("summary") == known.ask("summary")
    compare.true("summary of the kdump by BTF = DWARF", same, "")


def test_vmcoreinfo_answers_as_dwarf_or_says_that_it_cannot(
    known: Dump, bare: DumpFile, compare: Compare
) -> None:
    lost = bare.totals("info")["lost_fields"]
    for words in verbs(known):
        verb, name = words[0], " ".join(words[:2])
        ours, its = known.ask(*words), bare.ask(*words)
        fields = lost.get(verb, ())
        if words == ("map",):
            devices = pages_of_devices(ours)
            same = backing_of_pages(its, devices) == backing_of_pages(ours, devices)
            compare.true(f"{name}: VMCOREINFO = DWARF, but for devices", same, "")
            continue
        compare.equal(
            f"{name}: VMCOREINFO = DWARF but for what info declares lost",
            reduced(verb, its, fields),
            reduced(verb, ours, fields),
        )
        wrong = false_answers(verb, ours, its, fields)
        compare.equal(f"{name}: what is lost is null", wrong, [])


def test_features_are_those_of_dwarf_where_they_are_told(
    known: Dump, bare: DumpFile, compare: Compare
) -> None:
    told = {f.name: f.present for f in bare.kernel.features if f.present is not None}
    ours = {f.name: bool(f.present) for f in known.kernel.features if f.name in told}
    compare.equal("info: features told without types", told, ours)


def backing_of_pages(answer: Answer, left_out: set[int]) -> dict[int, Any]:
    """{vmemmap page: what ``map`` says of it}, holes and some pages left out."""
    found: dict[int, Any] = {}
    for row in answer["rows"]:
        if row["backing"] != "hole":
            said = row["backing"], row["readonly"], str(row["owner"])
            found.update((page, said) for page in _pages(row) if page not in left_out)
    return found


def pages_of_devices(answer: Answer) -> set[int]:
    """The vmemmap pages that ``map`` says belong to device memory."""
    return {
        page
        for row in answer["rows"]
        if row["owner"] and row["owner"]["kind"] == "dax"
        for page in _pages(row)
    }


def _pages(row: dict[str, Any]) -> range:
    return range(int(row["start_va"], 16) >> 12, int(row["end_va"], 16) >> 12)
