# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verbs' answers held against a model's books, for any way to read the machine."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from vmemmap_tools.commands import VerbGroup
from vmemmap_tools.commands.session import Session
from vmemmap_tools.kernel.hugetlb import Folio
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model.books import Books

__all__ = ["COMPARISONS", "Booked"]

PAGE = 4096


@dataclass
class Booked:
    """A machine as the tool reads it, and its books."""

    kernel: Kernel
    books: Books

    def ask(self, *words: str) -> dict[str, Any]:
        """The JSON answer of a verb."""
        stream = io.StringIO()
        session = Session(lambda: self.kernel, "json", stream)
        group = VerbGroup("vmemmap")
        with group.make_context("vmemmap", list(words), obj=session) as context:
            group.invoke(context)
        answer: dict[str, Any] = json.loads(stream.getvalue())
        return answer


def the_kernel_is_that_of_the_books(dump: Booked) -> None:
    kernel = dump.ask("summary")["kernel"]
    for name in ("release", "levels"):
        assert kernel[name] == dump.books[name]
    assert kernel["vmemmap_va"] == dump.books["vmemmap_base_va"]


def summary_is_that_of_the_books(dump: Booked) -> None:
    totals, books = dump.ask("summary")["totals"], dump.books["vmemmap"]
    assert totals["mapped_bytes"] == books["pages"] * PAGE
    assert totals["backing_frames"] == books["distinct_frames"]
    assert totals["huge_leaves"] == books["pmd_leaves"]
    assert totals["page_table_bytes"] == books["pte_tables"] * PAGE
    assert totals["readonly_leaves"] == books["read_only_pages"]
    assert totals["saved_hugetlb_bytes"] == books["saved_pages_hvo"] * PAGE
    assert totals["saved_dax_bytes"] == books["saved_pages_dax"] * PAGE
    assert totals["saved_other_bytes"] == 0
    # A tail page stays with its zone when the last folio that shared it is gone.
    mapped = sum(1 for tail in dump.books["shared_tails"] if tail["mapped_by"])
    assert totals["shared_tail_bytes"] == mapped * PAGE
    assert totals["altmap_frames"] == books["altmap_pages"]
    assert totals["selfhosted_frames"] == books["self_hosted_pages"]
    counters = dump.books["counters"] or {}
    for name in ("nr_memmap_pages", "nr_memmap_boot_pages"):
        assert totals[name] == counters.get(name)


def every_vmemmap_page_has_the_frame_of_the_books(dump: Booked) -> None:
    vmemmap, seen = dump.kernel.vmemmap, 0
    for leaf in vmemmap.leaves():
        first = vmemmap.page_number(leaf.va)
        for i in range(leaf.size // PAGE):
            booked = dump.books.leaf(first + i)
            assert booked is not None
            assert leaf.frame_pfn + i == booked.frame
            assert leaf.is_readonly != booked.writable
            seen += 1
    assert seen == dump.books["vmemmap"]["pages"]


def pools_are_those_of_the_books(dump: Booked) -> None:
    rows = dump.ask("hvo")["rows"]
    for pool in dump.books["hstates"]:
        for node, booked in pool["nodes"].items():
            (row,) = (
                r
                for r in rows
                if r["order"] == pool["order"] and r["node"] == int(node)
            )
            assert row["total"] == booked["nr"]
            assert row["free"] == booked["free"]
            assert row["surplus"] == booked["surplus"]
            assert row["optimised"] == row["flagged"] == booked["optimised"]
            assert row["saved_bytes"] == booked["saved_pages"] * PAGE


def folios_are_those_of_the_books(dump: Booked) -> None:
    booked = {
        run["head_pfn"] + (i << run["order"]): (
            run["order"],
            run["node"],
            run["optimised"],
            run["list"] == "free",
        )
        for run in dump.books["folios"]
        for i in range(run["count"])
    }
    found = {
        row["pfn"]: (row["order"], row["node"], row["optimised"], row["free"])
        for row in dump.ask("hvo", "--folios")["rows"]
    }
    assert found == booked


def sections_are_those_of_the_books(dump: Booked) -> None:
    booked = {
        run["first"] + i: run
        for run in dump.books["sections"]
        for i in range(run["count"])
    }
    rows = {row["nr"]: row for row in dump.ask("sections")["rows"]}
    assert rows.keys() == booked.keys()
    for nr, row in rows.items():
        run = booked[nr]
        assert ("O" in row["state"]) == run["online"]
        assert ("E" in row["state"]) == run["early"]
        assert ("D" in row["state"]) == run["taint_zone_device"]
        assert ("V" in row["state"]) == run["preinit"]
        assert (row["order"] or 0) == (run["order"] or 0)
        bits = int(run["subsections"], 16)
        assert row["subsections_set"] == bin(bits).count("1")
        assert row["mapped_pages"] == run["mapped_pages"]


def zones_and_their_tails_are_those_of_the_books(dump: Booked) -> None:
    rows = dump.ask("zones", "--all")["rows"]
    booked = {(z["node"], z["zone"]): z for z in dump.books["zones"]}
    for row in rows:
        zone = booked.pop((row["node"], row["zone"]), None)
        if zone is None:
            assert row["spanned"] == 0
            continue
        assert row["spanned"] == zone["spanned_pages"]
        assert row["present"] == zone["present_pages"]
        assert row["managed"] == zone["managed_pages"]
        assert row["start_pfn"] == zone["start_pfn"] or not row["spanned"]
    assert not booked
    tails = {
        (row["node"], row["zone"], tail["order"]): (tail["pfn"], tail["mapped_by"])
        for row in rows
        for tail in row["tails"]
    }
    assert tails == {
        (t["node"], t["zone"], t["order"]): (t["frame_pfn"], t["mapped_by"])
        for t in dump.books["shared_tails"]
    }


def device_memory_is_that_of_the_books(dump: Booked) -> None:
    rows = {row["start_pfn"]: row for row in dump.ask("dax")["rows"]}
    booked = {m["start_pfn"]: m for m in dump.books["pgmaps"]}
    assert rows.keys() == booked.keys()
    for start, row in rows.items():
        pgmap = booked[start]
        assert row["end_pfn"] == pgmap["end_pfn"]
        assert row["vmemmap_shift"] == pgmap["vmemmap_shift"]
        assert (row["altmap"] is None) == (pgmap["altmap"] is None)
        first = start if pgmap["altmap"] is None else pgmap["data_pfn"]
        shift = pgmap["vmemmap_shift"]
        assert row["compounds"] == (pgmap["end_pfn"] - first >> shift if shift else 0)
        assert row["vmemmap_pages"] == pgmap["vmemmap_pages"]
        assert row["saved_bytes"] == pgmap["saved_pages"] * PAGE
        assert row["expected_saved_bytes"] == row["saved_bytes"]


def runs_of_map_cover_every_mapped_page(dump: Booked) -> None:
    rows = dump.ask("map")["rows"]
    pages = 0
    for row, following in zip(rows, [*rows[1:], None]):
        size = int(row["end_va"], 16) - int(row["start_va"], 16)
        assert following is None or row["end_va"] == following["start_va"]
        assert row["backing"] != "shared"
        pages += 0 if row["backing"] == "hole" else size // PAGE
    assert pages == dump.books["vmemmap"]["pages"]


def folios_counted_together_are_those_counted_one_by_one(dump: Booked) -> None:
    def kind(folio: Folio) -> tuple[object, ...]:
        backing = folio.backing._replace(head_frame=0)
        return folio.order, folio.node, folio.zone_index, folio.private, backing

    together: Counter[tuple[object, ...]] = Counter()
    fresh = dump.kernel.fresh().hugetlb
    for folio, count in fresh.for_each_kind():
        together[kind(folio)] += count
    assert together == Counter(map(kind, fresh.for_each_folio()))


COMPARISONS = (
    the_kernel_is_that_of_the_books,
    folios_counted_together_are_those_counted_one_by_one,
    summary_is_that_of_the_books,
    every_vmemmap_page_has_the_frame_of_the_books,
    pools_are_those_of_the_books,
    folios_are_those_of_the_books,
    sections_are_those_of_the_books,
    zones_and_their_tails_are_those_of_the_books,
    device_memory_is_that_of_the_books,
    runs_of_map_cover_every_mapped_page,
)
"""Each asserts that what a verb says is in the books."""
