# SPDX-License-Identifier: LGPL-2.1-or-later
"""One dump, types from DWARF, from its own BTF, from VMCOREINFO: the same answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.sweep.compare import compare as contradictions
from tests.tools import output
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.base import TargetError
from vmemmap_tools.target.drgn_open import open_dump

from .compare import Compare
from .dumps import Dump, DumpFile
from .runs import Run
from .types import questions

EVIDENCE_OF = {"memory", "types", "symbols"}
"""Rows of ``info`` that say where facts come from."""
HOW_IT_IS_READ = {"folio order", "hugetlb test", "section flags"}
"""Those that say what is looked at, which may be another place without types."""


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


@pytest.fixture(scope="session")
def asked(known: Dump) -> list[tuple[str, ...]]:
    """What they are asked."""
    return questions(known)


def test_btf_answers_as_dwarf(
    known: Dump, btf: DumpFile, asked: list[tuple[str, ...]], compare: Compare
) -> None:
    for words in (*asked, ("check",), ("check", "--all")):
        name = " ".join(words[:2])
        same = btf.ask(*words) == known.ask(*words)
        compare.true(f"{name}: BTF = DWARF", same, f"{len(btf.rows(*words))} rows")
    facts = [
        [row for row in dump.rows("info") if row["subject"] not in EVIDENCE_OF]
        for dump in (known, btf)
    ]
    compare.equal("info: BTF = DWARF", facts[1], facts[0])
    compare.equal("info: nothing is lost", btf.totals("info")["unknown_parts"], {})


def test_a_kdump_and_a_file_of_btf_serve_as_well(
    run: Run, known: Dump, compare: Compare
) -> None:
    kdump = DumpFile(run.kdump, "btf")
    given = Kernel(open_dump(str(run.kdump), [str(run.btf)], types="btf"))
    for words in (("summary",), ("hvo",), ("dax",), ("check",)):
        same = kdump.ask(*words) == known.ask(*words)
        compare.true(f"{words[0]}: kdump by its own BTF = DWARF", same, "")
        same = json.loads(kdump.print_of(words, given)) == known.ask(*words)
        compare.true(f"{words[0]}: kdump by a file of BTF = DWARF", same, "")


def test_what_strip_leaves_of_the_vmlinux_serves_as_well(
    run: Run, known: Dump, btf: DumpFile, scratch: Path, compare: Compare
) -> None:
    """Types by its BTF, symbols by its own table, moved to where KASLR put them."""
    stripped = scratch / "vmlinux"
    output("objcopy", "--strip-debug", run.vmlinux, stripped)
    target = open_dump(str(run.elf), [str(stripped)])
    sources = [fact.source for fact in target.evidence()]
    for source in (f"{stripped} (.BTF)", f"{stripped} (.symtab)"):
        compare.true("info: types and symbols of one file", source in sources, source)
    given = Kernel(target)
    for words in (("summary",), ("hvo",), ("dax",), ("zones",), ("check",)):
        same = json.loads(btf.print_of(words, given)) == known.ask(*words)
        compare.true(f"{words[0]}: vmlinux without DWARF = DWARF", same, "")


def test_vmcoreinfo_answers_as_dwarf_or_not_at_all(
    known: Dump, bare: DumpFile, asked: list[tuple[str, ...]], compare: Compare
) -> None:
    for words in asked:
        wrong = contradictions(
            words[0], known.ask(*words), bare.ask(*words), "--leaves" in words
        )
        name = " ".join(words[:2])
        compare.equal(f"{name}: VMCOREINFO = DWARF or null", list(wrong), [])


def test_without_types_check_is_refused(bare: DumpFile, compare: Compare) -> None:
    with pytest.raises(TargetError) as refused:
        bare.ask("check")
    said = str(refused.value)
    compare.true("check: refused by VMCOREINFO", "needs the kernel's types" in said, "")


def test_info_without_types_says_unknown_or_the_same(
    known: Dump, bare: DumpFile, compare: Compare
) -> None:
    ours, its = (
        {row["subject"]: row["value"] for row in dump.rows("info")}
        for dump in (known, bare)
    )
    compare.equal("info: subjects", set(its), set(ours))
    wrong = {
        subject: (value, ours[subject])
        for subject, value in its.items()
        if value != ours[subject]
        and value is not None
        and subject not in EVIDENCE_OF | HOW_IT_IS_READ
    }
    compare.equal("info: neither unknown nor as DWARF has it", wrong, {})


def test_features_are_those_of_dwarf_where_they_are_told(
    known: Dump, bare: DumpFile, compare: Compare
) -> None:
    told = {f.name: f.present for f in bare.kernel.features if f.present is not None}
    ours = {f.name: bool(f.present) for f in known.kernel.features if f.name in told}
    compare.equal("info: features told without types", told, ours)
