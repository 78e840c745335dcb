# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every verb on capsules of real kernels against what those guests said of themselves.

The comparisons are those of tests/real, word for word; the capsules and what judges
them are committed, so that nothing is booted.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.real import test_check, test_walk
from tests.real.captures import CAPTURES, Capture
from tests.real.compare import Compare
from tests.real.comparisons import comparisons
from tests.real.dumps import VERBS_COMPARED, DumpFile
from tests.real.expect import zone_of
from tests.real.truth import Truth
from tests.real.walk import BASE_SIZE, QemuWalk
from vmemmap_tools.target.base import TargetError

NOT_CARRIED = frozenset(
    {
        # Symbols and page tables that no verb asks for: see the tests at the end.
        "test_a_symbol_leads_where_kallsyms_and_info_tlb_say",
        "test_kernel_text_is_a_single_page_where_iomem_has_it",
        "test_translation_is_that_of_info_tlb",
        # What the others ask is missing by then: each verb is asked alone at the end.
        "test_nothing_is_missing_from_a_whole_dump",
    }
)
"""Comparisons that a capsule does not allow as they are."""

globals().update(comparisons(test_check, without=NOT_CARRIED))

FOUND = [Capture(path) for path in sorted(CAPTURES.glob("*.core.xz"))]


@pytest.fixture(scope="module", params=FOUND, ids=lambda capture: capture.name)
def capture(request: pytest.FixtureRequest) -> Capture:
    found: Capture = request.param
    return found


@pytest.fixture(scope="module")
def dump(capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> DumpFile:
    """The capsule, alone: no vmlinux."""
    path = tmp_path_factory.mktemp("real") / "core"
    capture.unpack(path)
    return DumpFile(path)


@pytest.fixture(scope="module")
def truth(capture: Capture) -> Truth:
    """What the guest said about itself."""
    return capture.truth()


@pytest.fixture(scope="module")
def walk(capture: Capture) -> QemuWalk:
    """What QEMU said about the guest's page tables."""
    return capture.walk()


@pytest.fixture
def compare(capture: Capture) -> Iterator[Compare]:
    """Makes the comparisons of a test, at least one."""
    comparisons = Compare(capture.name)
    yield comparisons
    assert comparisons.made


def test_there_are_captures_of_every_kernel() -> None:
    names = " ".join(capture.name for capture in FOUND)
    for word in ("6.1.", "6.12.", "7.2.", "7.3-", "la57", "nohvo", "kmem"):
        assert word in names


def test_they_are_small_enough_to_be_sent_and_committed(
    capture: Capture, dump: DumpFile, compare: Compare
) -> None:
    for name, size, limit in (
        ("unpacked", dump.path.stat().st_size, 5_000_000),
        ("packed", capture.packed.stat().st_size, 1_000_000),
    ):
        said = f"{size} bytes"
        compare.true(f"capsule, {name}: under {limit} bytes", size < limit, said)


def test_the_kernel_is_the_guests(
    dump: DumpFile, truth: Truth, compare: Compare
) -> None:
    kernel = dump.ask("summary")["kernel"]
    compare.equal("kernel: release = uname", kernel["release"], truth.release)
    levels = 5 if truth.has_la57 else 4
    compare.equal("kernel: levels = cpu flag la57", kernel["levels"], levels)


def test_nothing_is_missing(dump: DumpFile, compare: Compare) -> None:
    for words in (*VERBS_COMPARED, ("check",), ("info",)):
        missing = dump.ask_anew(*words)["missing"]
        compare.equal(f"{' '.join(words)}: missing = nothing", missing, {}, "0")


def test_no_rule_asks_what_the_capsule_does_not_say(
    dump: DumpFile, compare: Compare
) -> None:
    """One that a newer rule has outgrown must be made again."""
    rules = dump.totals("check")["rules"]
    blind = {r["rule"]: r["why"] for r in rules if "capsule" in (r["why"] or "")}
    compare.equal("check: rules without an answer in the capsule", blind, {}, "0")


def test_translation_in_the_vmemmap_is_that_of_info_tlb(
    dump: DumpFile, walk: QemuWalk, truth: Truth, compare: Compare
) -> None:
    test_walk.test_translation_is_that_of_info_tlb(
        dump, walk, truth, compare, "vmemmap"
    )


def test_translation_elsewhere_is_that_of_info_tlb_or_missing(
    dump: DumpFile, walk: QemuWalk, truth: Truth, compare: Compare
) -> None:
    elsewhere = [walk.direct_map + pa for pa in (0x1000, 0x12345000, 0x27FFFF000)]
    for va in (*elsewhere, truth.kallsyms["_text"], truth.kallsyms["vmemmap_base"]):
        answer = dump.ask_anew("walk", f"{va:#x}")
        judge = None if answer["missing"] else walk.translate(va).pa
        compare.equal(
            f"walk {va:#x} = info tlb, or missing", answer["totals"]["pa"], judge
        )


def test_the_page_of_kernel_text_is_that_of_iomem(
    dump: DumpFile, truth: Truth, compare: Compare
) -> None:
    code = next(entry for entry in truth.iomem if entry.name == "Kernel code")
    (row,) = dump.rows("page", f"phys:{code.start_pfn * BASE_SIZE:#x}")
    page = row["struct_page"]
    compare.equal(
        "page of the kernel's text (pfn, zone, compound, device) = iomem, zoneinfo",
        (row["pfn"], page["node"], page["zone"], row["compound"], row["dax"]),
        (code.start_pfn, *zone_of(truth, code.start_pfn), None, None),
    )


def test_a_symbol_that_nobody_asked_for_is_not_taken_for_absent(
    dump: DumpFile, compare: Compare
) -> None:
    with pytest.raises(TargetError) as refused:
        dump.ask("page", "va:_text")
    said = str(refused.value)
    compare.true("page va:_text: refused", "does not say about _text" in said, said)
