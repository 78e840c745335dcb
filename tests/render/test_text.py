# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmemmap_tools.render.text import cell, escape, hexadecimal, human_size

ANY_TEXT = st.text(st.characters())  # lone surrogates included


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (4096, "4 KiB"),
        (1536, "1.5 KiB"),
        (1 << 21, "2 MiB"),
        ((1 << 21) + 1, "2.0 MiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 40, "1 TiB"),
        (1 << 70, "1024 EiB"),
        (-8192, "-8 KiB"),
    ],
)
def test_sizes_have_binary_units_and_exact_ones_no_decimals(
    size: int, text: str
) -> None:
    assert human_size(size) == text


@given(st.integers(-(1 << 64), 1 << 64))
def test_a_size_is_off_by_five_percent_at_most(size: int) -> None:
    number, unit = human_size(size).split(" ")
    factor = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].index(unit)
    assert float(number) * factor == pytest.approx(size, rel=0.051)


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines", r"two\nlines"),
        ("\x9b2J", r"\x9b2J"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\udc80", r"\udc80"),
        ("\\n", r"\\n"),
        ("\u00fcber", "\u00fcber"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(
    hostile: str, harmless: str
) -> None:
    assert escape(hostile) == harmless


@given(ANY_TEXT)
def test_escaped_text_is_one_printable_line_of_valid_unicode(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable()
    shown.encode("utf-8")


@given(ANY_TEXT)
def test_escaped_text_still_says_what_it_was(text: str) -> None:
    shown = escape(text).encode("latin-1", "backslashreplace")
    assert shown.decode("unicode_escape") == text


def test_nested_values_are_written_by_the_names_of_their_fields() -> None:
    altmap = {"base_pfn": 4096, "free_bytes": 8192, "used": True, "note": None}
    assert cell(altmap) == "base_pfn=0x1000 free_bytes=8 KiB used=yes note=-"
    assert cell([altmap["note"], 1]) == "-, 1"
    assert cell([{"order": 9}, {"order": 18}]) == "order=9; order=18"


def test_keys_and_values_of_objects_are_escaped_too() -> None:
    assert cell({"\x1b": ["\n"]}) == r"\x1b=\n"


def test_addresses_are_written_with_0x() -> None:
    assert hexadecimal(0xFFFFEA0000000000) == "0xffffea0000000000"
