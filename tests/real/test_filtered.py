# SPDX-License-Identifier: LGPL-2.1-or-later
"""Dumps that leave pages out: answers are right, and what lacks is counted.

Absent pages read as zeros in the hands of most readers; here they must be missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drgn_plugin.doors import by_drgn
from tests.samples import open_with_drgn

from .compare import Compare
from .damage import as_proc_vmcore, filtered, without_page
from .dumps import VERBS_COMPARED, Answer, Dump
from .expect import folio_backing
from .runs import Run
from .test_check import check, findings
from .walk import LARGE_SIZE, QemuWalk

pytestmark = pytest.mark.variants("kaslr")

FILTERS = {"-E": "ELF", "-c": "kdump", "-F": "kdump, flattened"}

VMEMMAP_VERBS = (("zones", "--all"), ("map", "--leaves"), ("hvo", "--folios"))
"""What is answered from pages that no filter may take: nothing may lack."""


@pytest.fixture(scope="module")
def vmcore(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The run's dump as makedumpfile wants it."""
    path = as_proc_vmcore(run, tmp_path_factory.mktemp("vmcore") / "vmcore")
    yield path
    path.unlink()


@pytest.fixture(scope="module", params=FILTERS)
def sieved(run: Run, vmcore: Path, request: pytest.FixtureRequest) -> Iterator[Dump]:
    """What ``makedumpfile -d 31`` makes of the dump."""
    option: str = request.param
    path = filtered(vmcore, vmcore.with_name(f"filtered{option}"), option)
    yield Dump(run, f"filtered {option}", path)
    path.unlink()


def test_a_dump_with_virtual_addresses_gives_the_same_answer(
    dumps: dict[str, Dump], run: Run, vmcore: Path, compare: Compare
) -> None:
    copy = Dump(run, "vmcore", vmcore)
    for words in VERBS_COMPARED:
        compare.equal(
            f"{' '.join(words)}: as /proc/vmcore = as QEMU wrote it",
            copy.ask(*words),
            dumps["elf"].ask(*words),
            "same",
        )


@pytest.mark.parametrize("words", VERBS_COMPARED, ids=" ".join)
def test_a_filtered_dump_gives_the_same_answer_or_says_what_lacks(
    dumps: dict[str, Dump], sieved: Dump, compare: Compare, words: tuple[str, ...]
) -> None:
    whole, ours = dumps["elf"].ask(*words), sieved.ask_anew(*words)
    what = f"{' '.join(words)}: {sieved.form} = whole dump"
    if words in VMEMMAP_VERBS or not ours["missing"]:
        compare.equal(what, ours, whole, f"{len(ours['rows'])} rows, missing nothing")
        return
    compare.equal(f"{what}: kinds of missing", set(ours["missing"]), {"excluded"})
    same = sum(row in whole["rows"] for row in ours["rows"])
    said = f"{same} of {len(whole['rows'])} rows, missing {ours['missing']}"
    compare.true(f"{what}, or missing", bool(ours["missing"]["excluded"]), said)
    if words == ("hvo",):
        # What lacks are nodes of pgmap_array, which could only host a vmemmap.
        compare.equal(f"{what}: rows", ours["rows"], whole["rows"], said)
    if words == ("sections",):
        known = {row["nr"]: _known(row) for row in ours["rows"]}
        judge = {
            row["nr"]: {key: row[key] for key in known[row["nr"]]}
            for row in whole["rows"]
        }
        compare.equal(f"{what} where not null", known, judge, f"{len(judge)} rows")


def test_check_takes_nothing_that_was_left_out_for_damage(
    dumps: dict[str, Dump], sieved: Dump, compare: Compare
) -> None:
    whole, part = check(dumps["elf"])[0], check(sieved)[0]
    for grade in ("E", "W"):
        before, now = findings(whole, grade), findings(part, grade)
        more = {key: n for key, n in now.items() if n > before.get(key, 0)}
        compare.equal(f"check, {sieved.form}: {grade} not in whole dump", more, {})


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}


def test_the_drgn_door_counts_what_lacks_too(sieved: Dump, compare: Compare) -> None:
    session = open_with_drgn(str(sieved.path), str(sieved.run.vmlinux))
    for words in 2 * ("summary", "sections", "check"):
        ours, judge = by_drgn(session, words)[0], sieved.text_anew("table", words)
        said = f"{len(judge)} characters"
        compare.true(f"%vmemmap {words}: {sieved.form}", ours == judge, said)


def test_a_page_of_heads_left_out_is_missing_not_zero(
    run: Run, walk: QemuWalk, dumps: dict[str, Dump], compare: Compare, scratch: Path
) -> None:
    rows = dumps["elf"].rows("hvo", "--folios")
    head = next(row["pfn"] for row in rows if row["order"] == 9 and row["optimised"])
    frame = folio_backing(walk, head, 9).head_frame_pfn
    dump = Dump(run, "holed", without_page(run, scratch / "vmcore", frame))
    compare.equal(
        f"hvo --folios without frame {frame:#x}: folios = all but the one at {head:#x}",
        [row["pfn"] for row in dump.rows("hvo", "--folios")],
        [row["pfn"] for row in rows if row["pfn"] != head],
        f"{len(rows) - 1} folios",
    )
    _is_excluded(compare, dump.ask("hvo", "--folios"))
    verdict = dump.rows("page", f"pfn:{head:#x}")[0]["verdict"]
    compare.true(
        "page of it: says that it lacks", "not in this dump" in verdict, verdict
    )


def test_a_page_table_left_out_is_missing_not_a_hole(
    run: Run, walk: QemuWalk, dumps: dict[str, Dump], compare: Compare, scratch: Path
) -> None:
    leaf = walk.readonly[-1]
    table = dumps["elf"].rows("walk", f"{leaf.va:#x}")[-1]["table_pa"] >> 12
    dump = Dump(run, "holed", without_page(run, scratch / "vmcore", table))
    slot = leaf.va // LARGE_SIZE
    judge = [x.va for x in walk.vmemmap if x.va // LARGE_SIZE != slot]
    compare.equal(
        f"map --leaves without the table {table:#x} = info tlb without its leaves",
        [int(row["va"], 16) for row in dump.rows("map", "--leaves")],
        judge,
        f"{len(judge)} leaves",
    )
    _is_excluded(compare, dump.ask("map", "--leaves"))


def _is_excluded(compare: Compare, answer: Answer) -> None:
    missing = answer["missing"]
    compare.true("missing: the page is counted", "excluded" in missing, str(missing))
