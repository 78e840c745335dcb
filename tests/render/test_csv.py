# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmemmap_tools.render import Column, Row, render
from vmemmap_tools.render.csv import HEADER_ROWS
from vmemmap_tools.render.text import escape

from .reports import DMA32, NORMAL, printed, printed_and_told, report


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


harmless = st.text().filter(lambda text: not text.startswith(tuple("=+-@\t\r")))
plain = st.dictionaries(
    st.sampled_from(["node", "zone", "order"]),
    st.integers() | harmless,
    min_size=3,
)


@given(st.lists(plain, min_size=1, max_size=4))
def test_plain_rows_come_back_as_text(rows: list[dict[str, Any]]) -> None:
    text = printed("csv", rows, columns=())
    assert parsed(text) == [
        {key: escape(str(value)) for key, value in row.items()} for row in rows
    ]
    assert text.count("\n") == len(rows) + 1


def test_lists_take_a_line_per_element_and_repeat_the_parent() -> None:
    lines = parsed(printed("csv", [DMA32, NORMAL]))
    assert [
        (line["zone"], line["start_pfn"], line["tails.order"], line["tails.mapped_by"])
        for line in lines
    ] == [
        ("DMA32", "4096", "9", "112"),
        ("DMA32", "4096", "18", "8"),
        ("Normal", "1048576", "", ""),
    ]


def test_several_lists_follow_one_another() -> None:
    row = {"pfn": 7, "flags": ["head", "lru"], "mapped": [{"va": "0x10"}]}
    assert printed("csv", [row], columns=()).splitlines() == [
        "pfn,flags,mapped.va",
        "7,head,",
        "7,lru,",
        "7,,0x10",
    ]


def test_objects_become_dotted_columns_also_where_the_first_row_has_none() -> None:
    rows: list[Row] = [
        {"altmap": None, "type": "dax"},
        {"altmap": {"free": 3}, "type": "fsdax"},
    ]
    assert printed("csv", rows, columns=()).splitlines() == [
        "altmap.free,type",
        ",dax",
        "3,fsdax",
    ]


def test_the_header_is_there_without_rows() -> None:
    assert printed("csv", []) == (
        "node,zone,start_pfn,saved_bytes,tails.order,tails.pfn\n"
    )


def test_all_fields_are_written_not_only_the_columns_of_the_table() -> None:
    text = printed("csv", [DMA32], columns=[Column("zone", "ZONE")])
    assert "tails.mapped_by" in text.splitlines()[0].split(",")


def test_truth_values_and_nothing() -> None:
    row = {"online": True, "early": False, "order": None}
    assert printed("csv", [row], columns=()) == "online,early,order\ntrue,false,\n"


def test_numbers_are_exact_and_decimal() -> None:
    (line,) = parsed(printed("csv", [NORMAL]))
    assert line["start_pfn"] == "1048576"
    assert line["saved_bytes"] == "1610612736"


def test_what_is_missing_is_told_besides() -> None:
    text, told = printed_and_told(
        "csv",
        [NORMAL],
        totals=lambda: {"saved_bytes": 424242},
        missing=lambda: {"excluded": 3, "io": {"page_tables": 1}},
    )
    assert "424242" not in text
    assert told == "vmemmap: missing: excluded: 3; io: page_tables=1\n"


def test_nothing_is_told_when_nothing_is_missing() -> None:
    assert printed_and_told("csv", [NORMAL])[1] == ""


def test_a_field_that_comes_too_late_for_the_header_is_told() -> None:
    late: list[Row] = [{"nr": 2, "zone": None}, {"nr": 3, "late": 1}]
    rows = [{"nr": 1}] * HEADER_ROWS + late
    text, told = printed_and_told("csv", rows, columns=())
    assert text.splitlines()[0] == "nr"
    assert told == "vmemmap: not in the CSV, first seen late: late\n"


def test_rows_are_streamed_after_the_header_is_known() -> None:
    stream = io.StringIO()
    seen = []

    def rows() -> Iterator[Row]:
        for nr in range(HEADER_ROWS + 3):
            seen.append(stream.getvalue().count("\n"))
            yield {"nr": nr}

    render(report(rows(), columns=()), "csv", stream, io.StringIO())
    header_and_first_rows = 1 + HEADER_ROWS
    assert seen[HEADER_ROWS - 1] == 0
    assert seen[HEADER_ROWS] == header_and_first_rows
    assert seen[HEADER_ROWS + 1] == header_and_first_rows + 1


def test_slow_rows_appear_one_by_one_under_the_tables_columns() -> None:
    stream = io.StringIO()
    seen = []

    def rows() -> Iterator[Row]:
        for nr in range(3):
            seen.append(stream.getvalue().count("\n"))
            yield {"nr": nr}

    slow = report(rows(), columns=[Column("nr", "NR")], streamed=True)
    render(slow, "csv", stream, io.StringIO())
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_executes_gets_an_apostrophe(start: str) -> None:
    rows = [{"zone": f"{start}1+1", "change": -5}]
    (line,) = parsed(printed("csv", rows, columns=()))
    assert line["zone"].startswith("'") and line["change"] == "-5"


def test_a_column_name_that_a_spreadsheet_executes_gets_an_apostrophe() -> None:
    header = printed("csv", [{"@SUM(A1)": 1}], columns=()).splitlines()[0]
    assert header == "'@SUM(A1)"
