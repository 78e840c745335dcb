# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import builtins
import io
from collections.abc import Iterator
from typing import Any

import pytest

from vmemmap_tools.render import Column, Row, render
from vmemmap_tools.render.table import TABULATED_ROWS

from .reports import COLUMNS, DMA32, NORMAL, printed, report


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_pfns_are_hexadecimal_and_sizes_have_units() -> None:
    title, _, row = words(printed("table", [NORMAL]))
    assert title == ["NODE", "ZONE", "START", "SAVED", "ORDER", "FRAME"]
    assert row == ["1", "Normal", "0x100000", "1.5", "GiB", "-", "-"]


def test_a_column_through_a_list_takes_a_line_per_element() -> None:
    lines = words(printed("table", [DMA32, NORMAL]))[2:]
    assert lines[0] == ["0", "DMA32", "0x1000", "1", "GiB", "9", "0x1267"]
    assert lines[1] == ["18", "0x1268"]
    assert lines[2][:2] == ["1", "Normal"]


def test_text_that_looks_like_a_number_is_left_alone() -> None:
    rows = [{"name": "1e5"}, {"name": "0012"}]
    text = printed("table", rows, columns=[Column("name", "NAME")])
    assert [line.strip() for line in text.splitlines()[2:]] == ["1e5", "0012"]


def test_totals_missing_and_notes_follow_the_rows() -> None:
    text = printed(
        "table",
        [NORMAL],
        totals=lambda: {"saved_bytes": 4096, "shared_frames": 7},
        missing=lambda: {"excluded": {"pages": 3}},
        notes=lambda: ["Half of it is \x1b[5msaved."],
    )
    assert text.split("\n\n")[1:] == [
        "saved bytes:   4 KiB\nshared frames: 7",
        "missing:\n  excluded: pages=3",
        "Half of it is \\x1b[5msaved.\n",
    ]


def test_totals_can_be_chosen_and_named() -> None:
    text = printed(
        "table",
        [NORMAL],
        totals=lambda: {"ram": {"bytes": 2048}, "other": 1},
        totals_columns=[Column("ram.bytes", "RAM", "bytes")],
    )
    assert text.endswith("\n\nRAM: 2 KiB\n")


def test_totals_are_asked_for_after_the_last_row() -> None:
    taken = []

    def rows() -> Iterator[Row]:
        for row in (DMA32, NORMAL):
            taken.append(row)
            yield row

    for columns in (COLUMNS, ()):
        taken.clear()
        text = printed(
            "table",
            rows(),
            columns=columns,
            totals=lambda: {"seen": len(taken)},
        )
        assert text.endswith("seen: 2\n")


def test_no_rows_are_said_in_words() -> None:
    assert printed("table", [], empty=lambda: "no such zone") == "no such zone\n"


def test_thousands_of_rows_are_streamed_in_columns() -> None:
    taken = 0

    def rows() -> Iterator[Row]:
        nonlocal taken
        for taken in range(TABULATED_ROWS + 100):
            yield {**NORMAL, "node": taken}

    stream = io.StringIO()
    first_write_after = []

    class Watching(io.StringIO):
        def write(self, text: str) -> int:
            first_write_after.append(taken)
            return stream.write(text)

    render(report(rows()), "table", Watching())
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2 + TABULATED_ROWS + 100
    assert first_write_after[0] == TABULATED_ROWS
    assert len({line.index("Normal") for line in lines[2:]}) == 1
    assert lines[-1].split()[0] == str(TABULATED_ROWS + 99)


def test_slow_rows_appear_one_by_one() -> None:
    stream = io.StringIO()
    seen = []

    def rows() -> Iterator[Row]:
        for node in range(3):
            seen.append(stream.getvalue().count("\n"))
            yield {**NORMAL, "node": node}

    render(report(rows(), streamed=True), "table", stream)
    assert seen == [2, 3, 4]


def test_records_are_blocks_with_the_explanation_below() -> None:
    rows = [
        {**DMA32, "explanation": ["Read-only.", "Shared by 112."]},
        {**NORMAL, "zone": None},
    ]
    columns = [
        Column("zone", "zone"),
        Column("start_pfn", "start", "pfn"),
        Column("tails", "tail"),
    ]
    text = printed("table", rows, columns=columns, records=True)
    assert text == (
        "zone:  DMA32\n"
        "start: 0x1000\n"
        "tail:  order=9 pfn=0x1267 mapped_by=112\n"
        "       order=18 pfn=0x1268 mapped_by=8\n"
        "Read-only.\n"
        "Shared by 112.\n"
        "\n"
        "start: 0x100000\n"
    )


def test_without_tabulate_the_same_words_are_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_it = printed("table", [DMA32, NORMAL])
    real_import = builtins.__import__

    def no_tabulate(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "tabulate":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_tabulate)
    without = printed("table", [DMA32, NORMAL])
    assert [w for w in words(without) if "-" not in w[0]] == [
        w for w in words(with_it) if "-" not in w[0]
    ]


def test_a_row_cannot_fake_another_row() -> None:
    text = printed("table", [{**NORMAL, "zone": "Normal\n0 DMA32\x1b[2J"}])
    assert len(text.splitlines()) == 3
    assert "\x1b" not in text
