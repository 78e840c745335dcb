# SPDX-License-Identifier: LGPL-2.1-or-later
"""Symbols that tell of a list of symbols whether it is whole, and how far it is off.

A list has the addresses of the link or of another boot. How far these are off, the
symbols tell that VMCOREINFO names, and by all of them it has to be the same.
"""

from __future__ import annotations

from typing import Callable

from .vmcoreinfo import VmcoreInfo

__all__ = ["distances", "lacking"]

WITNESSES = ("_stext", "init_uts_ns", "swapper_pg_dir", "node_online_map", "prb")
MARKS = ("init_uts_ns", "_end")
"""A variable, and the last symbol of the image: what has both was not cut."""
MASK_64 = (1 << 64) - 1

Lookup = Callable[[str], "int | None"]
"""From the name of a symbol to its address, None where there is none."""


def distances(vmcoreinfo: VmcoreInfo, listed: Lookup) -> dict[str, int]:
    """{symbol: what to add, modulo 2^64, to the address listed for it}"""
    found = {}
    for name in WITNESSES:
        theirs, ours = listed(name), vmcoreinfo.symbol(name)
        if theirs is not None and ours is not None:
            found[name] = ours - theirs & MASK_64
    return found


def lacking(listed: Lookup) -> str | None:
    """The name of a symbol that every whole list has and this one has not."""
    return next((name for name in MARKS if listed(name) is None), None)
