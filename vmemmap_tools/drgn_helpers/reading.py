# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Kernel behind a Program: what is kept between two calls, and what is read anew.

A dump does not change: one reading serves all. A running kernel does: every call reads
it again, and only what cannot change (types, symbols, sizes) is kept.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from drgn import FaultError, IntegerLike, Object, Program, Type, TypeKind
from drgn.helpers.common.prog import takes_program_or_default

from ..kernel.kernel import Kernel
from ..kernel.memory import KERNEL_HALF
from ..target.base import Fault
from ..target.drgn_prog import target_of_program
from ..target.drgn_types import has_types

__all__ = [
    "address_of",
    "forget",
    "kernel_address_of",
    "kernel_for_report",
    "layout_of",
    "reading_of",
    "struct_page_of",
    "translated_faults",
    "vmemmap_missing",
    "vmemmap_reading",
]

KEY = "vmemmap_tools"
"""Ours in `drgn.Program.cache`."""


@dataclass
class _Kept:
    """What a Program's cache holds. ``had_types``: debug info may be loaded later."""

    kernel: Kernel
    had_types: bool
    is_shared: bool
    """Whether answers may come from this reading instead of one of their own."""


def _kept(prog: Program) -> _Kept:
    kept: _Kept | None = prog.cache.get(KEY)
    known = has_types(prog)
    if kept is None or kept.had_types != known:
        target = target_of_program(prog)
        kept = _Kept(Kernel(target), known, not target.live)
        prog.cache[KEY] = kept
    return kept


def layout_of(prog: Program) -> Kernel:
    """A Kernel for what never changes: layouts and addresses. Raises `TargetError`."""
    return _kept(prog).kernel


def reading_of(prog: Program) -> Kernel:
    """The Kernel for one answer; a new one if it is running. Raises `TargetError`."""
    kept = _kept(prog)
    return kept.kernel if kept.is_shared else kept.kernel.fresh()


def kernel_for_report(prog: Program) -> Kernel:
    """A Kernel whose account of what is missing will be that of one report alone.

    Raises `TargetError`.
    """
    kernel = reading_of(prog)
    return kernel.fresh() if kernel.missing else kernel


def forget(prog: Program) -> None:
    """Drop what is kept for a Program."""
    prog.cache.pop(KEY, None)


@takes_program_or_default
@contextmanager
def vmemmap_reading(prog: Program) -> Iterator[None]:
    """
    Answer all helpers from one reading of the kernel.

    On a running kernel every call of a helper reads the kernel anew. Within this
    context they share one reading: what one of them has read the others take as it was.
    The kernel goes on meanwhile, so that it is still of no single instant. A dump is
    read once anyway.

    >>> with vmemmap_reading():
    ...     optimized = sum(map(folio_vmemmap_optimized, for_each_hugetlb_folio()))

    :return: Context manager
    """
    kept = _kept(prog)
    if kept.is_shared:
        yield
        return
    prog.cache[KEY] = _Kept(kept.kernel.fresh(), kept.had_types, True)
    try:
        yield
    finally:
        prog.cache[KEY] = kept


@takes_program_or_default
def vmemmap_missing(prog: Program) -> dict[str, dict[str, int]]:
    """
    Get what the helpers could not read so far.

    A helper raises `FaultError` where its answer rests on something that is missing;
    iterators do so behind the last thing that could be read.

    On a running kernel this is of the reading of `vmemmap_reading()`.

    >>> vmemmap_missing()
    {}

    :return: ``{kind: {what: count}}`` with the kinds ``"excluded"``, ``"cut"`` and
        ``"outside"`` (the dump lacks it), ``"unmapped"`` and ``"io"``
    """
    return layout_of(prog).missing.as_dict()


@contextmanager
def translated_faults() -> Iterator[None]:
    """Turn our Fault into the error that users of drgn expect."""
    try:
        yield
    except Fault as fault:
        space = "physical" if fault.physical else "virtual"
        text = f"{fault.kind}: {fault.size} bytes of {space} memory"
        raise FaultError(text, fault.address) from None


def require_complete(kernel: Kernel, *parts: str) -> None:
    """Raise `FaultError` where a part of the kernel (`gaps.PARTS`) is incomplete."""
    why = kernel.gap(*parts)
    if why is not None:
        raise FaultError(why, 0)


def address_of(value: Object | IntegerLike) -> int:
    """An address given as a pointer or a number; the address of a struct.

    Raises ValueError if it has more than 64 bits, or if a struct has no address.
    """
    if isinstance(value, Object) and _is_struct(value.type_):
        found: int | None = value.address_
        if found is None:
            name = value.type_.type_name()
            raise ValueError(f"this {name} is a value without address: pass a pointer")
        return found
    number: int = operator.index(value)
    if not 0 <= number < 1 << 64:
        raise ValueError(f"{number:#x} is not a 64-bit address")
    return number


def kernel_address_of(value: Object | IntegerLike, what: str) -> int:
    """As `address_of`, for an argument that must be the address of ``what``.

    drgn reads some dumps at virtual 0 as at physical 0, so NULL has to be refused here.
    Raises ValueError.
    """
    address = address_of(value)
    if address < KERNEL_HALF:
        raise ValueError(f"{address:#x} is not a kernel address: expected {what}")
    return address


def struct_page_of(kernel: Kernel, page: Object) -> int:
    """The address of a struct page. Raises ValueError outside the vmemmap."""
    address = address_of(page)
    start, end = kernel.geometry.vmemmap_window
    if not start <= address < end:
        raise ValueError(
            f"{address:#x} is not a struct page: the vmemmap is {start:#x}-{end:#x}"
        )
    return address


def _is_struct(type_: Type) -> bool:
    while type_.kind == TypeKind.TYPEDEF:
        type_ = type_.type
    return type_.kind in (TypeKind.STRUCT, TypeKind.UNION, TypeKind.CLASS)
