# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import io
import json
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmemmap_tools.render import Row, render

from .reports import DMA32, KERNEL, NORMAL, printed, report

whole_text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), 1 << 64) | whole_text,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(whole_text, inner, max_size=4)
    ),
    max_leaves=12,
)
rows_of_values = st.lists(st.dictionaries(whole_text, values, max_size=4), max_size=4)


@given(rows_of_values)
def test_rows_come_back_as_they_were(rows: list[dict[str, Any]]) -> None:
    assert json.loads(printed("json", rows))["rows"] == rows


@given(st.text())
def test_any_text_is_written_as_ascii_that_strict_readers_take(text: str) -> None:
    written = printed("json", [{text: text}])
    assert written.isascii()
    (row,) = json.loads(written)["rows"]
    json.dumps(row, ensure_ascii=False).encode("utf-8")


def test_the_envelope_has_its_five_fields_in_order() -> None:
    text = printed(
        "json",
        [DMA32],
        totals=lambda: {"sections": 8},
        missing=lambda: {"outside": 2},
    )
    envelope = json.loads(text)
    assert list(envelope) == ["schema", "kernel", "rows", "totals", "missing"]
    assert envelope["schema"] == "vmemmap-tools/zones/1"
    assert envelope["kernel"] == KERNEL
    assert envelope["totals"] == {"sections": 8}
    assert envelope["missing"] == {"outside": 2}


def test_no_rows_are_an_empty_list() -> None:
    assert json.loads(printed("json", []))["rows"] == []


def test_rows_are_written_before_the_next_is_taken() -> None:
    stream = io.StringIO()
    seen = []

    def rows() -> Iterator[Row]:
        for row in (DMA32, NORMAL):
            seen.append(stream.getvalue().count("start_pfn"))
            yield row

    render(report(rows(), totals=lambda: {"rows": len(seen)}), "json", stream)
    assert seen == [0, 1]
    assert json.loads(stream.getvalue())["totals"] == {"rows": 2}


def test_any_mapping_serves_as_an_object() -> None:
    row = {"altmap": MappingProxyType({"free": 1})}
    assert json.loads(printed("json", [row]))["rows"] == [{"altmap": {"free": 1}}]


def test_half_an_answer_does_not_parse() -> None:
    def rows() -> Iterator[Row]:
        yield DMA32
        raise OSError("the dump went away")

    stream = io.StringIO()
    with pytest.raises(OSError, match="went away"):
        render(report(rows()), "json", stream)
    with pytest.raises(json.JSONDecodeError):
        json.loads(stream.getvalue())


@pytest.mark.parametrize("value", [float("nan"), object(), b"bytes"])
def test_what_is_not_json_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        printed("json", [{"value": value}])
