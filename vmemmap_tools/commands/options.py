# SPDX-License-Identifier: LGPL-2.1-or-later
"""Options that several verbs share, and how their words are read.

Numbers are decimal or 0x. A range ``A-B`` is half-open, as ``start`` and ``end`` are in
every answer: B is the first that is not meant. ``A+N`` is N from A, ``A`` alone is one.
The functions here serve as click types (``type=number_range``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable, TypeVar

import click

from ..render import CHECK_FORMATS, FORMATS
from .session import Session

__all__ = [
    "TargetWord",
    "address",
    "address_range",
    "any_format_option",
    "choose_format",
    "format_option",
    "is_filtered",
    "node_option",
    "number",
    "number_range",
    "optimised_option",
    "order_option",
    "pfn_option",
    "refuse_format",
    "refuse_repeats",
    "section_option",
    "size",
    "target_word",
    "zone_option",
]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

ZONES = ("DMA", "DMA32", "Normal", "HighMem", "Movable", "Device")
"""Names of the kernel's zones (mm/page_alloc.c: zone_names)."""

"""What a table says where the options leave no row."""

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")
_SIZE = re.compile(rf"({_NUMBER.pattern}) ?([KMGT])?(?:i?B)?", re.IGNORECASE)
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_.$]*")
_ADDRESS_BITS = 64


def is_filtered(*wanted: object) -> bool:
    """Whether any of these options, None where not given, chooses rows."""
    return any(value is not None for value in wanted)


def number(text: str) -> int:
    """Read a decimal or 0x number. Raises click.BadParameter."""
    if _NUMBER.fullmatch(text) is None:
        raise click.BadParameter(f"{text!r} is not a number{_perhaps_hex(text)}.")
    return int(text, 16) if text[:2] in ("0x", "0X") else int(text)


def size(text: str) -> int:
    """Read a number of bytes, with K, M, G or T for powers of 1024."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size, such as 4096, 0x1000 or 2M.")
    return number(match[1]) << 10 * " KMGT".index((match[2] or " ").upper())


def number_range(text: str) -> range:
    """Read ``N``, ``A-B`` (without B) or ``A+N`` as a range of numbers."""
    return _range(text, number)


def address_range(text: str) -> range:
    """Read ``A-B`` (without B) or ``A+SIZE`` as a range of kernel virtual addresses."""
    return _range(text, size)


def _range(text: str, length: Callable[[str], int]) -> range:
    first, plus, count = text.partition("+")
    if plus:
        start = number(first)
        end = start + length(count)
    else:
        first, dash, last = text.partition("-")
        start = number(first)
        end = number(last) if dash else start + 1
    if end <= start:
        whole = f"{first}+1" if plus else f"{first}-{_like(first, start + 1)}"
        raise click.BadParameter(
            f"{text!r} is empty: the end is not part of a range, {whole} is one."
        )
    return range(start, end)


def _like(text: str, value: int) -> str:
    """A number in the base in which another is written."""
    return f"{value:#x}" if text.lower().startswith("0x") else str(value)


def _perhaps_hex(text: str) -> str:
    """A hint for addresses pasted from a kernel log, which has no 0x."""
    is_hex = re.fullmatch(r"[0-9a-fA-F]{4,}", text) is not None
    return f": 0x{text} is" if is_hex else ""


@dataclass(frozen=True)
class TargetWord:
    """What a word of the user names, before any kernel is asked.

    ``kind`` is "address" (a kernel virtual address; inside the vmemmap window that
    struct page), "va" (the page behind an address, wherever it lies), "pfn" or "phys".
    Either ``value`` or, for the first two, ``symbol`` is given.
    """

    kind: str
    value: int | None = None
    symbol: str | None = None

    def number(self, symbol: Callable[[str], int | None]) -> int:
        """The address or pfn meant; ``symbol`` looks up names (`Target.symbol`).

        Raises click.UsageError for a name that the kernel does not have.
        """
        if self.value is not None:
            return self.value
        assert self.symbol is not None
        found = symbol(self.symbol)
        if found is None:
            hint = _perhaps_hex(self.symbol)
            raise click.UsageError(f"no symbol {self.symbol!r} in this kernel{hint}")
        return found


def target_word(text: str) -> TargetWord:
    """Read a TARGET: a number or symbol, ``va:X``, ``pfn:N`` or ``phys:X``."""
    prefix, colon, rest = text.partition(":")
    if colon and prefix in ("va", "pfn", "phys"):
        return _word(prefix, rest)
    return _word("address", text)


def address(text: str) -> TargetWord:
    """Read a kernel virtual address: a number or a symbol."""
    return _word("address", text)


def _word(kind: str, text: str) -> TargetWord:
    value = _value(text)
    if value is not None:
        if value >> _ADDRESS_BITS:
            raise click.BadParameter(f"{text!r} does not fit into 64 bits.")
        return TargetWord(kind, value)
    if kind in ("pfn", "phys"):
        raise click.BadParameter(
            f"{kind}: takes a number, not {text!r}{_perhaps_hex(text)}."
        )
    if _SYMBOL.fullmatch(text) is None:
        raise click.BadParameter(
            f"{text!r} is neither a number nor a symbol{_perhaps_hex(text)}."
        )
    return TargetWord(kind, symbol=text)


def _value(text: str) -> int | None:
    """The number a word stands for without asking the kernel, or by the door's eyes."""
    if _NUMBER.fullmatch(text):
        return number(text)
    context = click.get_current_context(silent=True)
    session = context.find_object(Session) if context else None
    if session is None or session.evaluate is None:
        return None
    value = session.evaluate(text)
    return None if value is None else value & ((1 << _ADDRESS_BITS) - 1)


def choose_format(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> None:
    """Put the format into the session of this context and those below it."""
    if value is not None:
        session = context.find_object(Session) or Session()
        context.obj = replace(session, format=value)


def format_option(command: Decorated) -> Decorated:
    """Add ``--format``; groups and verbs of a VerbGroup have it already."""
    return _format_option(FORMATS, "")(command)


def any_format_option(command: Decorated) -> Decorated:
    """Add ``--format`` to a group: also what only some of its verbs can print."""
    return _format_option(CHECK_FORMATS, "; sarif and junit are for check")(command)


def _format_option(
    choices: Sequence[str], more: str
) -> Callable[[Decorated], Decorated]:
    return click.option(
        "--format",
        type=click.Choice(choices),
        expose_value=False,
        callback=choose_format,
        help=f"How to print the answer{more}.  [default: table]",
    )


def refuse_format(context: click.Context, command: click.Command, name: str) -> None:
    """Refuse the format that a group was given if a verb has no such form.

    Raises click.UsageError.
    """
    session = context.find_object(Session)
    if session is None or session.format in FORMATS:
        return
    for parameter in command.params:
        if "--format" in parameter.opts and isinstance(parameter.type, click.Choice):
            if session.format not in parameter.type.choices:
                break
            return
    context.fail(f"{name} has no {session.format} form: only check has")


def refuse_repeats(command: click.Command) -> click.Command:
    """Make a command refuse an option of one value that is given twice.

    click takes the last one silently. Calling this again changes nothing.
    """
    if getattr(command, "refuses_repeats", False):
        return command
    make_parser = command.make_parser

    def make_strict_parser(context: click.Context) -> Any:
        parser = make_parser(context)
        parse_args = parser.parse_args

        def parse_strictly(*args: Any, **kwargs: Any) -> Any:
            found = parse_args(*args, **kwargs)
            given: set[str | None] = set()
            for option in found[2]:
                if isinstance(option, click.Option) and _takes_one_value(option):
                    if option.name in given:
                        context.fail(_repeated(option))
                    given.add(option.name)
            return found

        parser.parse_args = parse_strictly  # type: ignore[method-assign]
        return parser

    command.make_parser = make_strict_parser  # type: ignore[method-assign,assignment]
    command.refuses_repeats = True  # type: ignore[attr-defined]
    return command


def _takes_one_value(option: click.Option) -> bool:
    return not (option.multiple or option.is_flag or option.count)


def _repeated(option: click.Option) -> str:
    hint = getattr(option, "repeat_hint", "")
    return f"{' / '.join(option.opts)} is given twice, and takes one value{hint}"


def node_option(command: Decorated) -> Decorated:
    """Add ``--node``: int or None."""
    return click.option(
        "--node", type=click.IntRange(min=0), metavar="N", help="Only NUMA node N."
    )(command)


def zone_option(command: Decorated) -> Decorated:
    """Add ``--zone``: the kernel's spelling of a zone name, or None."""
    return click.option(
        "--zone",
        type=click.Choice(ZONES, case_sensitive=False),
        metavar="NAME",
        help=f"Only this zone: {', '.join(ZONES)}.",
    )(command)


def order_option(command: Decorated) -> Decorated:
    """Add ``--order``: int or None."""
    return click.option(
        "--order",
        type=click.IntRange(0, 63),
        metavar="N",
        help="Only compounds of 2^N pages.",
    )(command)


def section_option(command: Decorated) -> Decorated:
    """Add ``--section``: a range of section numbers, or None."""
    return click.option(
        "--section",
        type=number_range,
        metavar="NR|A-B",
        help="Only section NR, or those from A to before B.",
    )(command)


def pfn_option(command: Decorated) -> Decorated:
    """Add ``--pfn``: a range of pfns, or None."""
    return click.option(
        "--pfn",
        type=number_range,
        metavar="A-B",
        help="Only pfns from A to before B, decimal or 0x; also A+N or A alone.",
    )(command)


def optimised_option(command: Decorated) -> Decorated:
    """Add ``--optimised/--not-optimised``: bool or None. American spelling as well."""
    return click.option(
        "--optimised/--not-optimised",
        "--optimized/--not-optimized",
        "optimised",
        default=None,
        help="Only those whose vmemmap is shared, or only the others.",
    )(command)
