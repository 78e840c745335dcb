# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a line is cut into words, without gdb."""

from __future__ import annotations

import pytest

from vmemmap_tools.gdb_door.words import CommandWords, WordsError, split


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ()),
        ("  page   pfn:0x10 ", ("page", "pfn:0x10")),
        ("page &folio->page", ("page", "&folio->page")),
        ("page (struct page *)$rdi + 1", ("page", "(struct page *)$rdi", "+", "1")),
        ("walk (a > b)", ("walk", "(a > b)")),
        ("walk a[i - 1]", ("walk", "a[i - 1]")),
        ("walk 'a + b'", ("walk", "a + b")),
        ('walk "a > b"', ("walk", "a > b")),
        ("walk a>b", ("walk", "a>b")),
        ('walk f("x y")', ("walk", 'f("x y")')),
        ("walk ''", ("walk", "")),
    ],
)
def test_a_word_may_be_an_expression(line: str, words: tuple[str, ...]) -> None:
    assert split(line) == CommandWords(words)


@pytest.mark.parametrize(
    ("line", "output", "appends"),
    [
        ("map > out", "out", False),
        ("map >out", "out", False),
        ("map >> out", "out", True),
        ("map >>out", "out", True),
        ("map > 'an out'", "an out", False),
    ],
)
def test_an_answer_goes_to_a_file(line: str, output: str, appends: bool) -> None:
    assert split(line) == CommandWords(("map",), output, appends)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("map >", "name of one file"),
        ("map > a b", "name of one file"),
        ("map >>> a", "name of one file"),
        ("walk (a", "bracket is not closed"),
        ("walk a)", "without the bracket"),
        ("walk 'a", "not closed"),
    ],
)
def test_what_cannot_be_cut_is_refused(line: str, reason: str) -> None:
    with pytest.raises(WordsError, match=reason):
        split(line)
