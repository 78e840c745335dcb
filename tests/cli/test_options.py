# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmemmap_tools.commands.options import (
    TargetWord,
    address_range,
    number,
    number_range,
    size,
    target_word,
)


@given(st.integers(0, 1 << 64))
def test_numbers_are_decimal_or_hexadecimal(value: int) -> None:
    assert number(str(value)) == number(hex(value)) == value


def test_leading_zeros_are_decimal() -> None:
    assert number("010") == 10


@pytest.mark.parametrize(
    "text", ["", "-1", "1_000", "0b1", "1.5", "0x", "\u0661", "1 "]
)
def test_other_spellings_are_no_numbers(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a number"):
        number(text)


def test_an_address_pasted_without_0x_gets_a_hint() -> None:
    with pytest.raises(click.BadParameter, match="0xffffea0004 is"):
        number("ffffea0004")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512", 512),
        ("0x200", 512),
        ("4K", 4096),
        ("2MiB", 1 << 21),
        ("1g", 1 << 30),
    ],
)
def test_sizes_have_binary_suffixes(text: str, expected: int) -> None:
    assert size(text) == expected


def test_a_size_in_other_units_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="is not a size"):
        size("3 pages")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", range(7, 8)),
        ("0x10-0x20", range(16, 32)),
        ("8-16", range(8, 16)),
        ("0x100+16", range(256, 272)),
    ],
)
def test_ranges_leave_their_end_out(text: str, expected: range) -> None:
    assert number_range(text) == expected


@pytest.mark.parametrize(
    ("text", "example"),
    [("5-5", "5-6"), ("9-3", "9-10"), ("4+0", "4+1"), ("0x10-0x8", "0x10-0x11")],
)
def test_empty_ranges_are_refused_with_an_example(text: str, example: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        number_range(text)
    assert f"the end is not part of a range, {example} is one" in str(refused.value)


def test_an_address_range_takes_a_size() -> None:
    assert address_range("0xffffea0000000000+2M") == range(
        0xFFFFEA0000000000, 0xFFFFEA0000200000
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0xffffea0000000040", TargetWord("address", 0xFFFFEA0000000040)),
        ("18446719884453740544", TargetWord("address", 0xFFFFEA0000000000)),
        ("init_task", TargetWord("address", symbol="init_task")),
        ("va:init_task", TargetWord("va", symbol="init_task")),
        ("va:0x1000", TargetWord("va", 4096)),
        ("pfn:16", TargetWord("pfn", 16)),
        ("phys:0x10", TargetWord("phys", 16)),
    ],
)
def test_targets_are_told_apart_by_their_prefix(
    text: str, expected: TargetWord
) -> None:
    assert target_word(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pfn:init_task", "pfn: takes a number"),
        ("phys:dead0000", "0xdead0000 is"),
        ("0x1ffffffffffffffff", "does not fit into 64 bits"),
        ("-5", "neither a number nor a symbol"),
        ("page->lru", "neither a number nor a symbol"),
        ("pfm:16", "neither a number nor a symbol"),
        ("", "neither a number nor a symbol"),
    ],
)
def test_other_words_are_refused(text: str, message: str) -> None:
    with pytest.raises(click.BadParameter, match=message):
        target_word(text)


def no_symbol(name: str) -> None:
    return None


def test_a_symbol_is_looked_up_when_the_kernel_is_open() -> None:
    word = target_word("mem_section")
    assert word.number(lambda name: {"mem_section": 0x1000}[name]) == 0x1000
    assert target_word("42").number(no_symbol) == 42


def test_an_unknown_symbol_is_the_users_error() -> None:
    with pytest.raises(click.UsageError, match="no symbol 'mem_sektion'"):
        target_word("mem_sektion").number(no_symbol)
    with pytest.raises(click.UsageError, match="0xffffea0004 is"):
        target_word("ffffea0004").number(no_symbol)
