# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vmemmap summary` against /proc/vmstat, QEMU's walk and the configuration."""

from __future__ import annotations

import pytest

from .compare import Compare
from .dumps import Dump
from .expect import (
    GIANT,
    altmap_areas,
    dax_rows,
    optimised_pages,
    present_sections,
    selfhosted_areas,
)
from .truth import Truth
from .walk import BASE_SIZE, LARGE_SIZE, QemuWalk

pytestmark = pytest.mark.rare


def test_memmap_counters_are_those_of_vmstat(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    totals = dump.totals("summary")
    judge = {
        "nr_memmap_pages": truth.nr_memmap_pages,
        "nr_memmap_boot_pages": truth.nr_memmap_boot_pages,
    }
    ours = {key: totals[key] for key in judge}
    said = ", ".join(f"{k} {'absent' if v is None else v}" for k, v in judge.items())
    compare.equal("summary: counters = vmstat", ours, judge, said)


def test_leaves_and_frames_are_those_of_info_tlb(
    dump: Dump, walk: QemuWalk, compare: Compare
) -> None:
    totals = dump.totals("summary")
    large = sum(leaf.large for leaf in walk.vmemmap)
    base = len(walk.vmemmap) - large
    mapped = large * LARGE_SIZE + base * BASE_SIZE
    judge = {
        "huge_leaves": large,
        "base_leaves": base,
        "readonly_leaves": len(walk.readonly),
        "mapped_bytes": mapped,
        "backing_frames": len(walk.mappings),
        "shared_frames": sum(count > 1 for count in walk.mappings.values()),
        "saved_bytes": mapped - len(walk.mappings) * BASE_SIZE,
        "page_table_bytes": walk.page_tables * BASE_SIZE,
        "shared_tail_bytes": len(walk.readonly_only) * BASE_SIZE,
    }
    for name, value in judge.items():
        compare.equal(f"summary: {name} = info tlb", totals[name], value)


def test_savings_are_those_of_the_configuration(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    totals = dump.totals("summary")
    pages = savable = 0
    for (size, _), (optimised, plain) in optimised_pages(truth).items():
        per_folio = 4095 if size == GIANT else 7
        pages += optimised * per_folio
        savable += plain * per_folio
    dax = sum(row["saved_bytes"] for row in dax_rows(truth))
    for name, value in (
        ("saved_hugetlb_bytes", pages * BASE_SIZE),
        ("savable_hugetlb_bytes", savable * BASE_SIZE),
        ("saved_dax_bytes", dax),
        ("savable_dax_bytes", 0),
    ):
        compare.equal(f"summary: {name} = configured", totals[name], value)


def test_savings_add_up_and_nothing_is_unexplained(
    dump: Dump, compare: Compare
) -> None:
    t = dump.totals("summary")
    parts = t["saved_hugetlb_bytes"] + t["saved_dax_bytes"] + t["saved_other_bytes"]
    compare.equal(
        "summary: saved = hugetlb + dax + other - shared tails",
        t["saved_bytes"],
        parts - t["shared_tail_bytes"],
        f"{t['saved_bytes']} = {t['saved_hugetlb_bytes']} + {t['saved_dax_bytes']} "
        f"+ {t['saved_other_bytes']} - {t['shared_tail_bytes']}",
    )
    compare.equal("summary: saved_other_bytes = none", t["saved_other_bytes"], 0)


def test_frames_on_devices_are_those_within_the_altmaps(
    dump: Dump, truth: Truth, walk: QemuWalk, compare: Compare
) -> None:
    on_device = _frames_in(walk, altmap_areas(truth))
    selfhosted = _frames_in(walk, selfhosted_areas(truth))
    totals = dump.totals("summary")
    for name, value in (
        ("altmap_frames", on_device),
        ("selfhosted_frames", selfhosted),
        (
            "net_ram_bytes",
            (len(walk.mappings) - on_device - selfhosted + walk.page_tables)
            * BASE_SIZE,
        ),
    ):
        compare.equal(f"summary: {name} = info tlb", totals[name], value)


def _frames_in(walk: QemuWalk, areas: list[range]) -> int:
    return sum(any(frame in area for area in areas) for frame in walk.mappings)


def test_sections_are_counted_as_sysfs_and_devices_have_them(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    judge = len(present_sections(truth))
    compare.equal(
        "summary: sections = sysfs", dump.totals("summary")["sections"], judge
    )


def test_rows_add_up_to_the_totals(dump: Dump, compare: Compare) -> None:
    totals = dump.totals("summary")
    for kind in ("hugetlb", "dax"):
        rows = [row for row in dump.rows("summary") if row["kind"] == kind]
        for name in ("saved", "savable"):
            compare.equal(
                f"summary: {name}_{kind}_bytes = its rows",
                totals[f"{name}_{kind}_bytes"],
                sum(row[f"{name}_bytes"] for row in rows),
            )


def test_nothing_is_missing_from_a_whole_dump(dump: Dump, compare: Compare) -> None:
    compare.equal("summary: missing = nothing", dump.ask("summary")["missing"], {}, "0")
