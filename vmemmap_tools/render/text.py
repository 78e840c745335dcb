# SPDX-License-Identifier: LGPL-2.1-or-later
"""Values as text for a reader: sizes, numbers, and strings that cannot be trusted.

Strings from a dump may hold anything: terminal escapes, newlines that fake a row, right
to left overrides, bytes that are no text. `escape` makes them visible and harmless.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "NUMERIC_KINDS",
    "cell",
    "escape",
    "hexadecimal",
    "human_size",
    "internal_error",
    "kind_of",
    "place_kind",
]

NUMERIC_KINDS = frozenset({"int", "bytes", "pfn", "change", "bytes_change"})
"""Column kinds that are aligned to the right."""

PFN_PLACES = frozenset({"folio", "frame", "pfn", "pgmap"})
"""Places that are named by a pfn: a folio by its head's, a pgmap by its range's."""

_SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def hexadecimal(value: int) -> str:
    """Write an address, a page-table entry or a raw word as "0x..."."""
    return f"{value:#x}"


def human_size(size: int) -> str:
    """Write a number of bytes with a binary unit.

    A size without a decimal point is exact: "2 MiB" is 2097152 bytes, "2.0 MiB" is
    only close to it.
    """
    sign, size = ("-", -size) if size < 0 else ("", size)
    unit = 0
    while unit + 1 < len(_SIZE_UNITS) and _tenths(size, unit) >= 10240:
        unit += 1
    whole, rest = divmod(size, 1 << 10 * unit)
    if not rest:
        return f"{sign}{whole} {_SIZE_UNITS[unit]}"
    tenths = _tenths(size, unit)
    return f"{sign}{tenths // 10}.{tenths % 10} {_SIZE_UNITS[unit]}"


def _tenths(size: int, unit: int) -> int:
    """Tenths of a unit, rounded half up. Integers only: no size is too big."""
    scale = 1 << 10 * unit
    return (size * 10 + scale // 2) // scale


def escape(text: str) -> str:
    r"""Make a string printable on one line, as Python would write it in quotes.

    Control characters, newlines, direction marks and lone surrogates become ``\x1b``,
    ``\n``, ``\u202e``, ``\udc80``; a backslash is doubled, so that no two strings look
    the same.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        char if char.isprintable() and char != "\\" else _escaped(char) for char in text
    )


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def internal_error(error: Exception, command: str) -> str:
    """The message for an error that is a defect of this tool.

    ``command`` is how the user asks for the traceback.
    """
    return (
        f"internal error: {type(error).__name__}: {error}; run it again with {command} "
        "and report the traceback to the developers of vmemmap_tools"
    )


def kind_of(key: str) -> str:
    """Kind of a value by the ending of its key, as the JSON fields are named."""
    if key.endswith("_bytes"):
        return "bytes"
    if key == "pfn" or key.endswith("_pfn"):
        return "pfn"
    return "text"


def place_kind(kind: str) -> str:
    """Kind of the ids of places of a kind: pfns of some, numbers or names of others."""
    return "pfn" if kind in PFN_PLACES else "text"


def cell(value: Any, kind: str = "text") -> str:
    """Write a value of a row for a reader; nothing is "-"."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return _number(value, kind)
    if isinstance(value, str):
        return escape(value)
    if kind == "place" and isinstance(value, Mapping):
        return f"{cell(value['kind'])} {cell(value['id'], place_kind(value['kind']))}"
    if isinstance(value, Mapping):
        return " ".join(
            f"{escape(str(key))}={cell(item, kind_of(str(key)))}"
            for key, item in value.items()
        )
    if isinstance(value, (list, tuple)):
        separator = "; " if any(isinstance(item, Mapping) for item in value) else ", "
        return separator.join(cell(item, kind) for item in value) or "-"
    return escape(str(value))


def _number(value: int, kind: str) -> str:
    if kind in ("bytes", "bytes_change"):
        sign = "+" if kind == "bytes_change" and value > 0 else ""
        return sign + human_size(value)
    if kind == "change":
        return f"{value:+d}" if value else "0"
    return hexadecimal(value) if kind == "pfn" else str(value)
