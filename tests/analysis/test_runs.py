# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs of vmemmap that are backed alike."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.commands.asking import ask, text
from tests.fakes.devices import add_pgmap
from tests.fakes.machine import Machine
from vmemmap_tools.analysis.runs import Owner, Run, Runs

from .machines import DAX_END, DAX_START, busy, dax


def runs(m: Machine, first: int, end: int) -> list[Run]:
    return list(Runs(m.kernel()).between(first, end))


def test_a_zone_shared_folio_is_its_head_and_its_tails() -> None:
    m = busy()
    tail = next(iter(m.kernel().tail_frames))
    owner = Owner("hugetlb", 0x8000, 9)
    head, tails = runs(m, 512, 520)
    assert (head.backing, head.pages, head.first_frame) == (
        "private",
        1,
        m.frame(512),
    )
    assert (tails.backing, tails.pages, tails.frames) == ("zone-shared", 7, 1)
    assert (tails.first_frame, tails.readonly, tails.owner) == (tail, True, owner)
    assert head.owner == owner and head.readonly is False


def test_a_d1_compound_is_one_page_and_seven_of_page_1() -> None:
    m, first = dax(), DAX_START // 64
    head, tails = runs(m, first, first + 8)
    assert (head.backing, head.pages) == ("private", 1)
    # 1.2: page 1 and pages 2..7 lie on one frame, all writable.
    assert (tails.backing, tails.pages, tails.frames) == ("page1-shared", 7, 1)
    assert tails.readonly is False and tails.owner == Owner("dax", DAX_START, 9)


def test_compounds_of_an_altmap_range_begin_behind_what_it_takes() -> None:
    m = dax(form=None, altmap=(DAX_START, 2, 3 * 256 - 2, 1024))
    owner = Runs(m.kernel()).owner
    assert owner((DAX_START + 3 * 256) // 64 - 1) is None
    assert owner((DAX_START + 3 * 256) // 64) == Owner("dax", DAX_START + 768, 9)


def test_a_self_shared_folio_begins_with_the_shared_frame() -> None:
    from tests.fakes.pools import add_folio, add_pool

    m = Machine("6.1")
    m.add_section(1)
    add_pool(m, 9, [1])
    add_folio(m, 0x8000, 9, "self")
    head, tails = runs(m, 512, 520)
    # One frame, but the head is writable and the tails are not.
    assert {head.backing, tails.backing} == {"self-shared"}
    assert (head.readonly, tails.readonly) == (False, True)
    assert head.first_frame == tails.first_frame


def test_a_private_folio_is_one_run_with_an_owner() -> None:
    (run,) = runs(busy(), 528, 536)
    assert (run.backing, run.pages, run.frames) == ("private", 8, 8)
    assert run.owner == Owner("hugetlb", 0x8400, 9)


def test_huge_leaves_side_by_side_are_one_run() -> None:
    m = Machine("7.3")
    m.add_section(0, leaf="huge")
    m.add_section(1, leaf="huge")
    (run,) = runs(m, 0, 1024)
    assert (run.backing, run.pages, run.frames) == ("huge", 1024, 1024)
    assert (run.first_frame, run.owner) == (m.frame(0), None)


def test_a_folio_on_a_huge_leaf_is_a_run_of_its_own() -> None:
    from tests.fakes.pools import add_folio, add_pool

    m = Machine("7.3")
    m.add_section(1, leaf="huge")
    add_pool(m, 9, [1])
    add_folio(m, 0x8200)
    found = runs(m, 512, 1024)
    assert [(r.backing, r.pages) for r in found] == [
        ("huge", 8),
        ("huge", 8),
        ("huge", 496),
    ]
    assert [r.owner for r in found] == [None, Owner("hugetlb", 0x8200, 9), None]


def test_holes_are_runs_without_frames() -> None:
    m = Machine("7.3")
    m.add_section(1)
    m.unmap(600)
    hole = runs(m, 600, 601)[0]
    assert (hole.backing, hole.frames, hole.first_frame) == ("hole", 0, None)
    assert hole.readonly is None
    (whole,) = runs(m, 2000, 9000)
    assert (whole.backing, whole.pages) == ("hole", 7000)


def test_sharing_that_nothing_explains_is_called_shared() -> None:
    m = busy()
    m.map(512 + 300, m.frame(512 + 301))
    assert {r.backing for r in runs(m, 512 + 300, 512 + 302)} == {"shared"}


def test_an_absurd_range_is_one_hole() -> None:
    (run,) = runs(Machine("7.3"), 0, 1 << 37)
    assert (run.backing, run.pages) == ("hole", 1 << 37)


def test_everything_begins_and_ends_with_what_is_mapped() -> None:
    found = list(Runs(busy().kernel()).everything())
    assert (found[0].first, found[-1].end) == (0, 34 * 512)
    assert list(Runs(Machine("7.3").kernel()).everything()) == []


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 35 * 512),
    st.integers(1, 2000),
    st.lists(st.integers(512, 1023), max_size=5, unique=True),
    st.lists(st.integers(DAX_START // 64, DAX_END // 64 - 1), max_size=5, unique=True),
)
def test_runs_cover_a_range_once_and_agree_with_every_page(
    first: int, count: int, holes: list[int], doubles: list[int]
) -> None:
    m = busy()
    for page in holes:
        m.unmap(page)
    for page in doubles:
        m.map(page, m.frame(0))
    kernel = m.kernel()
    position = first
    for run in Runs(kernel).between(first, first + count):
        assert run.first == position and run.pages > 0
        position = run.end
        backing = kernel.vmemmap.backing(run.first, run.pages)
        assert (run.backing == "hole") == (not backing.mapped)
        assert run.frames == len(set(backing.mapped))
        if backing.mapped:
            assert run.first_frame == backing.frames[0]
            assert set(backing.readonly) == {run.readonly}
            counts = [kernel.vmemmap.frames.mappings(f) for f in backing.mapped]
            if run.backing == "private":
                assert set(counts) == {1}
            elif (run.backing or "missing").endswith("shared"):
                assert min(counts) > 1
    assert position == first + count


def test_compounds_that_begin_inside_a_vmemmap_page_end_the_walk() -> None:
    m = Machine("7.3")
    m.add_section(32, "PM")
    add_pgmap(m, DAX_START + 32, DAX_START + 32 + 0x1000, 9)
    first = DAX_START // 64
    assert sum(r.pages for r in runs(m, first, first + 512)) == 512


def test_struct_pages_of_80_bytes_end_the_walk() -> None:
    m = Machine("7.3", page_struct=80)
    for page in range(32 * 640, 33 * 640):
        m.map(page, m.frames())
    m.add_section(32, "PM", leaf=None)
    add_pgmap(m, DAX_START, DAX_START + 0x8000, 7)
    assert sum(r.pages for r in runs(m, 32 * 640, 33 * 640)) == 640


def backings(m: Machine) -> list[tuple[str, int, int]]:
    return [
        (run.backing or "missing", run.first, run.end)
        for run in Runs(m.kernel()).everything()
    ]


def table_of(m: Machine, page: int, level: int = 1) -> int:
    return m.tables.entry_pa(m.vmemmap + page * 4096, level) // 4096


def plain_sections(*numbers: int) -> Machine:
    m = Machine("7.3")
    for number in numbers:
        m.add_section(number)
    return m


def test_vmemmap_below_a_lost_page_table_is_missing_and_no_hole() -> None:
    m = plain_sections(1, 2, 5)
    m.memory.lose(table_of(m, 2 * 512))
    assert backings(m) == [
        ("private", 512, 1024),
        ("missing", 1024, 1536),
        ("hole", 1536, 2560),
        ("private", 2560, 3072),
    ]
    (run,) = runs(m, 1100, 1200)
    assert (run.backing, run.frames, run.first_frame, run.readonly) == (
        None,
        None,
        None,
        None,
    )


def test_what_is_missing_at_either_end_is_shown() -> None:
    m = plain_sections(1, 2, 3)
    m.memory.lose(table_of(m, 512))
    m.memory.lose(table_of(m, 3 * 512))
    assert backings(m) == [
        ("missing", 512, 1024),
        ("private", 1024, 1536),
        ("missing", 1536, 2048),
    ]


def test_below_an_upper_table_all_that_it_may_map_is_missing() -> None:
    m = plain_sections(1, 2)
    m.memory.lose(table_of(m, 512, level=2))
    assert backings(m) == [("missing", 0, 512 * 512)]


def test_a_part_of_a_folio_may_be_missing() -> None:
    from tests.fakes.pools import add_folio, add_pool

    m = plain_sections(*range(8, 16))
    add_pool(m, 18, [1])
    add_folio(m, 8 << 15, 18)
    m.memory.lose(table_of(m, 9 * 512))
    first, lost, rest = Runs(m.kernel()).between(8 * 512, 16 * 512)
    # A frame of the rest may back a page of the missing part as well.
    assert [run.backing for run in (first, lost, rest)] == [None] * 3
    assert [run.frames for run in (first, lost, rest)] == [512, None, 6 * 512]
    assert (lost.first, lost.end) == (9 * 512, 10 * 512)
    assert first.owner == rest.owner == Owner("hugetlb", 8 << 15, 18)


def test_map_says_missing_in_its_rows_and_can_be_asked_for_them() -> None:
    m = plain_sections(1, 2)
    m.memory.lose(table_of(m, 512))
    answer = ask(m.kernel(), "map", "--backing", "missing")
    (row,) = answer["rows"]
    assert (row["start_pfn"], row["end_pfn"]) == (1 << 15, 2 << 15)
    assert answer["missing"] == {"excluded": {"vmemmap page tables": 1}}
    assert "missing" in text(m.kernel(), "map")
    assert ask(m.kernel(), "map", "--backing", "hole")["rows"] == []


def test_page_does_not_call_a_page_below_a_lost_table_unmapped() -> None:
    m = plain_sections(1, 2)
    m.memory.lose(table_of(m, 512))
    lost, beyond = ask(m.kernel(), "page", "pfn:0x8000", "pfn:0x20000")["rows"]
    assert (lost["vmemmap"]["leaf"], lost["vmemmap"]["mapped"]) == (None, None)
    assert (beyond["vmemmap"]["leaf"], beyond["vmemmap"]["mapped"]) == ("hole", False)
