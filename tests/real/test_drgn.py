# SPDX-License-Identifier: LGPL-2.1-or-later
"""The drgn door on real dumps: its answers, its helpers, its scripts.

``%vmemmap`` has to print what the command line prints. The helpers are held against
what the guest and QEMU say, as the verbs are.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.mm import page_to_pfn, pfn_to_page

from tests.drgn_helpers.examples import run_examples
from tests.drgn_plugin.doors import by_command_line, by_drgn
from tests.samples import open_with_drgn
from vmemmap_tools.drgn_helpers import (
    folio_backing,
    for_each_hugetlb_folio,
    for_each_section,
    for_each_vmemmap_leaf,
    page_to_nid,
    page_vmemmap_frame,
    page_zone,
    vmemmap_savings,
)
from vmemmap_tools.render import CHECK_FORMATS, FORMATS

from .compare import Compare
from .dumps import VERBS_COMPARED, Dump
from .expect import (
    folio_backing as backing_by_qemu,
)
from .expect import (
    order_of_head,
    present_sections,
    zone_of,
)
from .runs import Run
from .truth import Truth
from .walk import BASE_SIZE, QemuWalk

DRGN = Path(sys.executable).parent / "drgn"
CONTRIB = Path(__file__).parents[2] / "contrib"


@pytest.fixture(scope="session")
def prog(run: Run) -> drgn.Program:
    """The ELF dump as a drgn session has it."""
    return open_with_drgn(str(run.elf), str(run.vmlinux))


def words_asked(dump: Dump) -> list[tuple[str, ...]]:
    """All verbs, with pages and an address of this dump."""
    folios = dump.rows("hvo", "--folios")
    pfns = {row["pfn"] + i for row in folios[:: len(folios) // 2] for i in (0, 65)}
    pages = [f"pfn:{pfn}" for pfn in sorted(pfns)]
    address = dump.ask("summary")["kernel"]["vmemmap_va"]
    return [
        *VERBS_COMPARED,
        ("info",),
        ("check",),
        ("page", *pages),
        ("walk", address),
    ]


def test_the_doors_print_the_same(dump: Dump, compare: Compare) -> None:
    """One session, all verbs in turn; on the other side a reading for each."""
    session = open_with_drgn(str(dump.path), str(dump.run.vmlinux))
    for words in words_asked(dump):
        formats = CHECK_FORMATS if words == ("check",) else FORMATS
        ours = {form: _in_session(session, form, words) for form in formats}
        expected = {form: dump.text_anew(form, *words) for form in formats}
        size = sum(map(len, expected.values()))
        said = f"{size} characters in {len(formats)} formats"
        same = ours == expected
        compare.true(f"%vmemmap {' '.join(words[:2])} = vmemmap", same, said)


def _in_session(session: drgn.Program, form: str, words: tuple[str, ...]) -> str:
    return by_drgn(session, " ".join([*words, "--format", form]))[0]


@pytest.mark.variants("kaslr")
def test_the_command_line_itself_prints_the_same(
    run: Run, prog: drgn.Program, compare: Compare
) -> None:
    options = ["-c", str(run.elf), "-s", str(run.vmlinux)]
    for words in ("summary", "info", "check"):
        ours, judge = by_drgn(prog, words), by_command_line(options, words)
        said = f"{len(judge[0])} characters"
        compare.true(f"%vmemmap {words} = vmemmap -c -s {words}", ours == judge, said)


@pytest.mark.variants("kaslr")
def test_a_session_without_debug_info_has_the_dumps_own_types(
    run: Run, compare: Compare
) -> None:
    session = open_with_drgn(str(run.elf))
    for words in ("summary", "hvo --folios"):
        judge = by_command_line(["-c", str(run.elf)], words)
        same = by_drgn(session, words) == judge
        said = f"{len(judge[0])} characters"
        compare.true(f"%vmemmap {words} = vmemmap -c {words}, by BTF", same, said)


def test_helpers_say_of_folios_what_the_judges_say(
    prog: drgn.Program, truth: Truth, walk: QemuWalk, compare: Compare
) -> None:
    ours, judge = {}, {}
    for page in for_each_hugetlb_folio(prog):
        pfn = page_to_pfn(page).value_()
        found = folio_backing(page + 65)
        place = page_to_nid(page), page_zone(page).name.string_().decode()
        frames = found.head_frame, found.tail_frame, found.tail_readonly
        ours[pfn] = (found.head == page, found.order, *place, found.layout, *frames)
        order = order_of_head(truth, pfn)
        real = backing_by_qemu(walk, pfn, order)
        judge[pfn] = (
            True,
            order,
            *zone_of(truth, pfn),
            real.layout,
            real.head_frame_pfn,
            real.tail_frame_pfn,
            real.tail_readonly,
        )
    compare.equal(
        "helpers: folios = kpageflags, zoneinfo, info tlb",
        ours,
        judge,
        f"{len(judge)} folios",
    )


def test_helpers_say_of_the_vmemmap_what_info_tlb_says(
    prog: drgn.Program, walk: QemuWalk, compare: Compare
) -> None:
    leaves = list(for_each_vmemmap_leaf(prog))
    ours = [(x.address, x.size, x.pfn * BASE_SIZE, not x.is_readonly) for x in leaves]
    judge = [
        (x.va, x.page_size, x.frame_pfn * BASE_SIZE, x.writable) for x in walk.vmemmap
    ]
    compare.equal("helpers: leaves = info tlb", ours, judge, f"{len(judge)} leaves")
    mapped = sum(leaf.page_size for leaf in walk.vmemmap)
    frames = {
        leaf.frame_pfn + i
        for leaf in walk.vmemmap
        for i in range(leaf.page_size // BASE_SIZE)
    }
    savings = vmemmap_savings(prog)
    compare.equal(
        "helpers: vmemmap mapped and behind it = info tlb",
        (savings.mapped, savings.backing, savings.saved),
        (mapped, len(frames) * BASE_SIZE, mapped - len(frames) * BASE_SIZE),
    )
    pfns = range(0, 1 << 18, 4097)
    found = {pfn: page_vmemmap_frame(pfn_to_page(prog, pfn)) for pfn in pfns}
    expected = {p: walk.translate(walk.page_va(p)).pa // BASE_SIZE for p in pfns}
    said = f"{len(expected)} pages"
    compare.equal("helpers: frames of struct pages = info tlb", found, expected, said)


def test_helpers_find_the_sections(
    prog: drgn.Program, truth: Truth, compare: Compare
) -> None:
    ours = {nr for nr, section in for_each_section(prog) if section.usage}
    compare.equal(
        "helpers: sections = sysfs",
        ours,
        present_sections(truth),
        f"{len(ours)} sections",
    )


def test_the_examples_of_the_documentation_run(
    prog: drgn.Program, compare: Compare
) -> None:
    tried, failed = run_examples(prog, exactly=False)
    compare.true("examples of the helpers run", not failed, f"{tried} examples")


@pytest.mark.variants("kaslr")
def test_the_scripts_run(run: Run, walk: QemuWalk, compare: Compare) -> None:
    shared = next(leaf for leaf in walk.vmemmap if not leaf.writable)
    arguments: dict[str, list[str]] = {
        "hvo_per_node.py": [],
        "not_optimized.py": [],
        "frame_users.py": [hex(shared.frame_pfn)],
        "explain_fault.py": [hex(shared.va + 64)],
        "watch_hvo.py": ["0", "2"],
    }
    assert sorted(arguments) == sorted(path.name for path in CONTRIB.glob("*.py"))
    symbols = ["-s", str(run.vmlinux), "--no-default-symbols"]
    for name, words in arguments.items():
        found = subprocess.run(
            [
                str(DRGN),
                "-q",
                "-c",
                str(run.elf),
                *symbols,
                str(CONTRIB / name),
                *words,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        lines = found.stdout.splitlines()
        is_fine = found.returncode == 0 and not found.stderr and len(lines) > 1
        compare.true(f"contrib/{name} runs", is_fine, found.stderr or lines[-1])
