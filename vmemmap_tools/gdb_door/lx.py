# SPDX-License-Identifier: LGPL-2.1-or-later
"""``lx-pfn_to_page`` and its kin: the names and lines that scripts know.

A bare number is read as these commands always read it: a pfn in decimal, an address in
hexadecimal. Beyond that they take 0x, symbols and any expression.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable

import click
import gdb

from .conversions import Conversions, NoAnswer
from .expressions import evaluate
from .reading import kernel, one_line_errors

__all__ = ["CONVERSIONS", "OWNER", "Conversion", "LxCommand", "conversions", "is_off"]

OWNER = "(vmemmap_tools)"
"""In the help of our commands: how they are told from the kernel's."""

_HEX = re.compile(r"(0[xX])?[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[0-9]+")
_NAME = re.compile(r"[A-Za-z_]\w*")
_PREFIXED = re.compile(r"0[xX][0-9a-fA-F]+")


@dataclass(frozen=True)
class Conversion:
    """One command: what it takes ("pfn", "page" or "va"), what it gives, its line.

    ``gives`` is "page" (a struct page), "pointer" (a kernel address) or "number".
    """

    name: str
    takes: str
    gives: str
    line: str
    doc: str

    @property
    def command(self) -> str:
        return f"lx-{self.name}"

    def call(self, argument: int) -> int:
        """The answer. Raises `NoAnswer` and `Fault`."""
        function: Callable[[int], int] = getattr(conversions(), self.name)
        return function(argument)


CONVERSIONS = (
    Conversion(
        *("pfn_to_page", "pfn", "page"),
        "pfn_to_page(0x%x) = 0x%x\n",
        "Show the address of a pfn's struct page.",
    ),
    Conversion(
        *("page_to_pfn", "page", "number"),
        "page_to_pfn(0x%x) = 0x%x\n",
        "Show the pfn of a struct page.",
    ),
    Conversion(
        *("page_address", "page", "pointer"),
        "page_address(0x%x) = 0x%x\n",
        "Show where a struct page's page lies in the direct map.",
    ),
    Conversion(
        *("page_to_phys", "page", "number"),
        "page_to_phys(0x%x) = 0x%x\n",
        "Show the physical address of a struct page's page.",
    ),
    Conversion(
        *("virt_to_phys", "va", "number"),
        "virt_to_phys(0x%x) = 0x%x\n",
        "Show the physical address behind a kernel address, by any mapping.",
    ),
    Conversion(
        *("virt_to_page", "va", "page"),
        "virt_to_page(0x%x) = 0x%x\n",
        "Show the struct page of the page behind a kernel address.",
    ),
    Conversion(
        *("sym_to_pfn", "va", "number"),
        "sym_to_pfn(0x%x) = %d\n",
        "Show the pfn behind a symbol or its address, in decimal.",
    ),
    Conversion(
        *("pfn_to_kaddr", "pfn", "pointer"),
        "pfn_to_kaddr(%d) = 0x%x\n",
        "Show where a pfn's page lies in the direct map.",
    ),
)

is_off: set[str] = set()
"""Commands of ours that were told to be silent (``vmemmap compat off``)."""

_last: list[Conversions] = []


def conversions() -> Conversions:
    """Those of the kernel that gdb has open, made once for each reading."""
    found = kernel()
    if not _last or _last[0].kernel is not found:
        _last[:] = [Conversions(found)]
    return _last[0]


class LxCommand(gdb.Command):  # type: ignore[misc]
    """One of `CONVERSIONS` as a gdb command."""

    def __init__(self, conversion: Conversion):
        self._conversion = conversion
        example = {"pfn": "4096, 0x1000 or max_pfn - 1", "page": "ffffea0000040000"}
        example["va"] = "ffffffff81000000, init_task or &page->lru"
        base = "decimal" if conversion.takes == "pfn" else "hexadecimal"
        self.__doc__ = (
            f"{conversion.doc}\n\nUsage: {conversion.command} "
            f"{conversion.takes.upper()}, for example {example[conversion.takes]}. A "
            f"bare number is {base},\nanything else an expression. {OWNER}"
        )
        super().__init__(conversion.command, gdb.COMMAND_DATA, gdb.COMPLETE_EXPRESSION)

    def invoke(self, line: str, from_tty: bool) -> None:
        self.dont_repeat()
        chosen = self._conversion
        with one_line_errors(chosen.command):
            if chosen.command in is_off:
                raise NoAnswer("is off: vmemmap compat on")
            argument = _argument(line, chosen)
            gdb.write(chosen.line % (argument, chosen.call(argument)))


def _argument(line: str, chosen: Conversion) -> int:
    word = line.strip()
    if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'":
        word = word[1:-1]
    if not word:
        what = {"pfn": "a pfn", "page": "a struct page's address", "va": "an address"}
        raise NoAnswer(f"needs {what[chosen.takes]}: {chosen.command} ARGUMENT")
    value = _pfn(word) if chosen.takes == "pfn" else _address(word)
    if value >> 64:
        raise NoAnswer(f"{word} does not fit into 64 bits")
    return value


def _pfn(word: str) -> int:
    if _DECIMAL.fullmatch(word):
        return int(word)
    if _PREFIXED.fullmatch(word):
        return int(word, 16)
    # In brackets a variable's name means its value, as max_pfn must.
    value = evaluate(f"({word})")
    assert value is not None
    return value


def _address(word: str) -> int:
    if _HEX.fullmatch(word):
        return int(word, 16)
    value = evaluate(word)
    if value is None:
        value = kernel().target.symbol(word)
    if value is None:
        raise click.BadParameter(f"no symbol {word!r} in this kernel")
    return value
