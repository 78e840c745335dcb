# SPDX-License-Identifier: LGPL-2.1-or-later
"""Symbols from a list in a file: a System.map, or /proc/kallsyms saved at any boot.

It is moved to where this boot has the symbols that VMCOREINFO names.
"""

from __future__ import annotations

import re

from .base import Evidence, TargetError
from .kallsyms import MAX_FILE, KallsymsFile
from .vmcoreinfo import VmcoreInfo
from .witnesses import distances, lacking

__all__ = ["SymbolList", "is_symbol_list", "read_symbol_list"]

LINE = re.compile(rb"[0-9a-f]{8,16} [A-Za-z?] \S+")
HEAD = 256
PLACEHOLDER = re.compile(rb"The real System\.map is in [^\n]*")
"""Debian's /boot/System.map-RELEASE is one line that says this."""
KERNEL_HALF = 1 << 63
MASK_64 = (1 << 64) - 1


def is_symbol_list(path: str) -> bool:
    """Whether a file begins as System.map and /proc/kallsyms do."""
    try:
        with open(path, "rb") as file:
            return LINE.match(file.read(HEAD)) is not None
    except OSError:
        return False


class SymbolList:
    """The symbols of a list, moved to where this boot has them."""

    def __init__(self, listed: KallsymsFile, distance: int, source: str):
        self._listed = listed
        self._distance = distance
        self._source = source

    def symbol(self, name: str) -> int | None:
        """Address of a symbol; None also where namesakes leave it open."""
        address = self._listed.symbol(name)
        # Offsets of per-CPU variables do not move with the kernel.
        if address is None or address < KERNEL_HALF:
            return address
        return address + self._distance & MASK_64

    def evidence(self) -> list[Evidence]:
        return [Evidence("symbols", "symbol list", self._source)]


def read_symbol_list(path: str, vmcoreinfo: VmcoreInfo) -> SymbolList:
    """The symbols of such a file.

    Raises `TargetError` for those of another build, and for a part of them.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE)
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}") from None
    placeholder = PLACEHOLDER.search(data[:HEAD])
    if placeholder is not None:
        text = placeholder[0].decode("ascii", "replace")
        raise TargetError(f"{path} is Debian's placeholder and lists nothing: {text}")
    listed = KallsymsFile(data, path)
    if listed.symbol("_stext") == 0:
        raise TargetError(
            f"{path} shows no addresses: copy it as root, with kernel.kptr_restrict "
            "below 2"
        )
    missing = lacking(listed.symbol)
    if missing is not None:
        # What it does not list would be taken for what this kernel does not have.
        raise TargetError(
            f"{path} lists no {missing}: it is cut short or has functions only; "
            "give the whole System.map"
        )
    found = set(distances(vmcoreinfo, listed.symbol).values())
    if not found:
        raise TargetError(
            f"{path} names none of the symbols that VMCOREINFO does: give the whole "
            "System.map"
        )
    if len(found) > 1:
        raise TargetError(
            f"{path} is of another build than the kernel: its symbols are not as far "
            "from each other as those of VMCOREINFO"
        )
    return SymbolList(listed, found.pop(), path)
