# SPDX-License-Identifier: LGPL-2.1-or-later
"""What VMCOREINFO alone says of types and symbols: the last resort.

It exports what dump tools need: struct page, mem_section, some page flags and types.
Structs that it names in part only (zone, pglist_data) are not answered for at all, so
that nobody takes the rest of them for absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from .base import Evidence, Function, Member, Struct, TargetError, VariableType
from .variables import SCALARS, VARIABLES
from .vmcoreinfo import VmcoreInfo

__all__ = ["VmcoreinfoSymbols", "VmcoreinfoTypes"]

SOURCE = "VMCOREINFO"

_INT, _POINTER, _STRUCT = "int", "pointer", "struct"

PAGE_MEMBERS = {
    "flags": (8, _INT, "unsigned long"),
    "_refcount": (4, _INT, "atomic_t"),
    "mapping": (8, _POINTER, "struct address_space *"),
    "lru": (16, _STRUCT, "struct list_head"),
    "_mapcount": (4, _INT, "atomic_t"),
    "private": (8, _INT, "unsigned long"),
    "compound_info": (8, _INT, "unsigned long"),
    "compound_head": (8, _INT, "unsigned long"),
    "compound_dtor": (1, _INT, "unsigned char"),
    "compound_order": (1, _INT, "unsigned char"),
}
"""Members of struct page: size, kind and type, which have never changed."""
FOLIO_MEMBERS = {
    "_folio_dtor": (1, _INT, "unsigned char"),
    "_folio_order": (1, _INT, "unsigned char"),
}
NEEDED = (
    "SIZE(page)",
    "OFFSET(page.flags)",
    "OFFSET(page._refcount)",
    "OFFSET(page._mapcount)",
    "OFFSET(page.private)",
    "SIZE(mem_section)",
    "OFFSET(mem_section.section_mem_map)",
    "SYMBOL(mem_section)",
    "NUMBER(PG_head_mask)",
)
RELEASE_OFFSET, RELEASE_SIZE = 2 * 65, 65
"""``struct new_utsname`` is part of the kernel's interface to programs."""
TYPE_SHIFT = 24
TYPES = ("buddy", "slab", "offline", "hugetlb", "unaccepted")
NOT_ADDRESSES = frozenset({"mem_section", "vmemmap"})
"""SYMBOL() keys that hold a variable's value."""


class VmcoreinfoTypes:
    """The few types that a VMCOREINFO note describes.

    Raises `TargetError` when not even these are there.
    """

    def __init__(self, vmcoreinfo: VmcoreInfo):
        self._info = vmcoreinfo
        missing = [key for key in NEEDED if key not in vmcoreinfo]
        if missing:
            raise TargetError(f"VMCOREINFO has no {', '.join(missing)}")
        self._structs = {
            struct.name: struct
            for struct in (
                self._page(),
                self._folio(),
                self._mem_section(),
                self._uts_namespace(),
            )
        }

    def struct(self, name: str) -> Struct | None:
        return self._structs.get(name)

    def function(self, name: str) -> Function | None:
        return None

    def enumerator(self, name: str) -> int | None:
        if name in self.enumerators("pagetype"):
            return self.enumerators("pagetype")[name]
        if name == "PG_head":
            return (self._info.number("PG_head_mask") or 1).bit_length() - 1
        # Page flags, and constants such as HUGETLB_PAGE_DTOR.
        is_plain = name.startswith("PG_") or name == "HUGETLB_PAGE_DTOR"
        return self._info.number(name) if is_plain else None

    def enumerators(self, enum: str) -> Mapping[str, int]:
        """Those page flags that are exported, and page types since 6.12."""
        if enum == "pageflags":
            return self._page_flags
        return self._page_types if enum == "pagetype" else {}

    def variable(self, name: str) -> VariableType | None:
        """Integers: their types need no layout."""
        declared = VARIABLES.get(name)
        if name == "mem_section":
            if self._info.has_section_roots():
                return VariableType(
                    Member(0, 8, _POINTER, "struct mem_section **", pointer_depth=2)
                )
            # An array, whose name is its address.
            size = self._structs["mem_section"].size
            length = self._info.length("mem_section") or 0
            kind = Member(
                0,
                size * length,
                "array",
                "struct mem_section []",
                length,
                _STRUCT,
                size,
            )
            return VariableType(kind, self._info.symbol("mem_section"))
        if declared is None or declared.pointers or declared.is_array:
            return None
        if declared.base in SCALARS:
            size = SCALARS[declared.base]
            return VariableType(Member(0, size, _INT, declared.base))
        if declared.base == "atomic_long_t":
            return VariableType(Member(0, 8, _STRUCT, declared.base))
        return None

    def evidence(self) -> list[Evidence]:
        return [Evidence("types", SOURCE, "SIZE(), OFFSET() and NUMBER() keys")]

    # The structs

    def _page(self) -> Struct:
        size = self._info.size("page") or 0
        return Struct("page", size, self._members("page", PAGE_MEMBERS, size))

    def _folio(self) -> Struct:
        """The words of a folio's second page that hold its order.

        A kernel that exports no member for it keeps it in that page's flags (since
        6.6), and exported one before.
        """
        page = self._info.size("page") or 0
        members = self._members("folio", FOLIO_MEMBERS, 2 * page)
        if not members and "OFFSET(page.compound_order)" not in self._info:
            at = page + (self._info.offset("page.flags") or 0)
            members["_flags_1"] = Member(at, 8, _INT, "unsigned long")
        return Struct("folio", 2 * page, members)

    def _mem_section(self) -> Struct:
        word = (8, _INT, "unsigned long")
        size = self._info.size("mem_section") or 0
        members = self._members("mem_section", {"section_mem_map": word}, size)
        return Struct("mem_section", size, members)

    def _uts_namespace(self) -> Struct:
        name = self._info.offset("uts_namespace.name")
        if name is None:
            return Struct("uts_namespace", 0, {})
        at = name + RELEASE_OFFSET
        release = Member(at, RELEASE_SIZE, "array", "char [65]", RELEASE_SIZE, _INT, 1)
        return Struct("uts_namespace", at + RELEASE_SIZE, {"name.release": release})

    def _members(
        self, struct: str, known: Mapping[str, tuple[int, str, str]], limit: int
    ) -> dict[str, Member]:
        """Those that are exported. Raises `TargetError` for one beyond the struct."""
        members = {}
        for name, (size, kind, type_name) in known.items():
            offset = self._info.offset(f"{struct}.{name}")
            if offset is not None:
                if not 0 <= offset <= limit - size:
                    raise TargetError(
                        f"VMCOREINFO is damaged: OFFSET({struct}.{name})={offset} is "
                        f"not within {limit} bytes"
                    )
                members[name] = Member(offset, size, kind, type_name)
        return members

    # Constants

    @cached_property
    def _page_flags(self) -> dict[str, int]:
        names = [k[7:-1] for k in self._info if k.startswith("NUMBER(PG_")]
        flags = {n: self._info.number(n) for n in names if not n.endswith("_mask")}
        return {n: bit for n, bit in flags.items() if bit is not None}

    @cached_property
    def _page_types(self) -> dict[str, int]:
        """Types that are a number in the top byte; before, they were a cleared bit."""
        types = {}
        for name in TYPES:
            value = self._info.number(f"PAGE_{name.upper()}_MAPCOUNT_VALUE")
            if value is not None and not value & (1 << TYPE_SHIFT) - 1:
                types[f"PGTY_{name}"] = value >> TYPE_SHIFT & 0xFF
        return types


class VmcoreinfoSymbols:
    """The symbols that VMCOREINFO exports."""

    def __init__(self, vmcoreinfo: VmcoreInfo):
        self._info = vmcoreinfo

    def symbol(self, name: str) -> int | None:
        return None if name in NOT_ADDRESSES else self._info.symbol(name)

    def evidence(self) -> list[Evidence]:
        return [Evidence("symbols", SOURCE, "SYMBOL() keys")]
