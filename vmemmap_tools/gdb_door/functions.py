# SPDX-License-Identifier: LGPL-2.1-or-later
"""``$lx_pfn_to_page(N)`` and its kin, for expressions; ``$lx_page(N)`` is the struct.

They return typed values where gdb knows the types: pointers to follow, a struct page
whose members print even where gdb cannot read the vmemmap.
"""

from __future__ import annotations

from typing import Any

import gdb

from ..target.gdb import kernel_type
from .conversions import NoAnswer
from .expressions import number_of
from .kaslr import moved_by
from .lx import CONVERSIONS, Conversion, conversions
from .reading import kernel, one_line_errors

__all__ = ["register_functions", "typed"]

MASK_64 = (1 << 64) - 1


def typed(value: int, gives: str) -> Any:
    """A number as a gdb.Value of the type that `Conversion.gives` names."""
    number = gdb.Value(value)
    if gives == "number":
        return number.cast(gdb.lookup_type("unsigned long"))
    if gives == "pointer":
        return number.cast(gdb.lookup_type("void").pointer())
    page = kernel_type("struct page")
    if page is None:
        return number.cast(gdb.lookup_type("unsigned long"))
    return number.cast(page.pointer())


class _Function(gdb.Function):  # type: ignore[misc]
    def __init__(self, conversion: Conversion):
        self._conversion = conversion
        self.__doc__ = f"{conversion.doc.replace('Show', 'Return', 1)}"
        super().__init__(f"lx_{conversion.name}")

    def invoke(self, *arguments: Any) -> Any:
        chosen = self._conversion
        with one_line_errors(f"$lx_{chosen.name}"):
            return typed(chosen.call(_number(arguments)), chosen.gives)
        raise AssertionError("unreachable")


class _Page(gdb.Function):  # type: ignore[misc]
    """Return the struct page of a pfn by value: p $lx_page(0x1000)._refcount"""

    def __init__(self) -> None:
        super().__init__("lx_page")

    def invoke(self, *arguments: Any) -> Any:
        with one_line_errors("$lx_page"):
            type_ = kernel_type("struct page")
            if type_ is None:
                raise NoAnswer("gdb has no type struct page: symbol-file VMLINUX")
            page_va = conversions().pfn_to_page(_number(arguments))
            data = kernel().memory.read(page_va, type_.sizeof)
            return gdb.Value(data, type_)
        raise AssertionError("unreachable")


def _number(arguments: tuple[Any, ...]) -> int:
    """The one argument; a string names a symbol, whose address is meant."""
    if len(arguments) != 1:
        raise NoAnswer("takes one argument")
    (value,) = arguments
    target = kernel().target
    type_ = value.type.strip_typedefs()
    is_array = type_.code == gdb.TYPE_CODE_ARRAY
    if is_array and type_.target().strip_typedefs().sizeof == 1:
        name = value.string()
        address = target.symbol(name)
        if address is None:
            raise NoAnswer(f"no symbol {name!r} in this kernel")
        return address
    try:
        number = number_of(value)
    except ValueError as error:
        raise NoAnswer(str(error)) from None
    _require_moved(number)
    return number


def _require_moved(address: int) -> None:
    """Refuse the link address of something that KASLR has moved elsewhere.

    An expression's value was made before we see it: ``&init_task`` of a gdb whose
    symbols are where they were linked.
    """
    target = kernel().target
    start, end = target.symbol("_text"), target.symbol("_end")
    if start is None or end is None or start <= address < end:
        return
    offset = moved_by(target)
    if offset and start <= address + offset & MASK_64 < end:
        raise NoAnswer(
            f"{address:#x} is in the kernel as it was linked, not as it runs: "
            "vmemmap kaslr --apply moves gdb's symbols"
        )


def register_functions() -> None:
    """Make the functions known to gdb."""
    for conversion in CONVERSIONS:
        _Function(conversion)
    _Page()
