# SPDX-License-Identifier: LGPL-2.1-or-later
"""A command line of gdb, cut into words; knows no gdb.

A word is a C expression as often as not: brackets hold it together, ``->`` is part of
it, and quotes group as they do in a shell.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CommandWords", "WordsError", "split"]

OPENING = "([{"
CLOSING = ")]}"
QUOTES = "\"'"


class WordsError(ValueError):
    """A line that cannot be cut into words; the text says why."""


@dataclass(frozen=True)
class CommandWords:
    """The words of a line, and the file that its answer goes to (``> file``)."""

    words: tuple[str, ...]
    output: str | None = None
    appends: bool = False


@dataclass
class _Word:
    text: str
    is_quoted: bool = False


def split(line: str) -> CommandWords:
    """Cut a line into words, the redirection at its end taken off.

    ``>`` redirects where a word begins with it. Raises `WordsError`.
    """
    words: list[str] = []
    pending = _cut(line)
    for number, word in enumerate(pending):
        if word.is_quoted or not word.text.startswith(">"):
            words.append(word.text)
            continue
        appends = word.text.startswith(">>")
        rest = [word.text.lstrip(">"), *(w.text for w in pending[number + 1 :])]
        names = [name for name in rest if name]
        if len(names) != 1 or word.text.startswith(">>>"):
            raise WordsError("after > stands the name of one file, and nothing else")
        return CommandWords(tuple(words), names[0], appends)
    return CommandWords(tuple(words))


def _cut(line: str) -> list[_Word]:
    found: list[_Word] = []
    current: _Word | None = None
    quote = ""
    depth = 0
    for char in line:
        if quote:
            assert current is not None
            if char == quote:
                quote = ""
                if depth:
                    current.text += char
            else:
                current.text += char
        elif char in QUOTES:
            current = current or _Word("", is_quoted=True)
            quote = char
            if depth:
                current.text += char
        elif char.isspace() and not depth:
            if current is not None:
                found.append(current)
            current = None
        else:
            depth += (char in OPENING) - (char in CLOSING)
            if depth < 0:
                raise WordsError(f"{char} without the bracket that it closes")
            current = current or _Word("")
            current.text += char
    if quote:
        raise WordsError(f"a {quote} is not closed")
    if depth:
        raise WordsError("a bracket is not closed")
    if current is not None:
        found.append(current)
    return found
