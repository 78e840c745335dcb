# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Device Memory
-------------

``struct dev_pagemap``: device memory that has struct pages (device DAX, fsdax, ...).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

from drgn import NULL, IntegerLike, Object, Program
from drgn.helpers.common.prog import takes_program_or_default

from ..kernel.pgmap import Pgmap
from .reading import kernel_address_of, reading_of, require_complete

__all__ = [
    "for_each_pgmap",
    "get_dev_pagemap",
    "pgmap_altmap",
    "pgmap_ranges",
    "pgmap_vmemmap_shift",
]


@takes_program_or_default
def for_each_pgmap(prog: Program) -> Iterator[Object]:
    """
    Iterate over all device page maps, each once, by their first PFN.

    >>> for pgmap in for_each_pgmap():
    ...     print(pgmap_vmemmap_shift(pgmap), bool(pgmap_altmap(pgmap)))
    18 False
    9 False
    9 True

    :return: Iterator of ``struct dev_pagemap *`` objects
    :raises FaultError: behind the last one, if there may be more that cannot be read
    """
    kernel = reading_of(prog)
    for pgmap in kernel.pgmaps:
        yield Object(prog, "struct dev_pagemap *", pgmap.va)
    require_complete(kernel, "device maps")


@takes_program_or_default
def get_dev_pagemap(prog: Program, pfn: IntegerLike) -> Object:
    """
    Find the device page map of a page frame number (PFN).

    >>> pgmap = next(for_each_pgmap())
    >>> start, end = next(pgmap_ranges(pgmap))
    >>> get_dev_pagemap(start) == pgmap
    True

    :param pfn: ``unsigned long``
    :return: ``struct dev_pagemap *`` (``NULL`` if there is none)
    :raises FaultError: if page maps cannot be read
    """
    kernel = reading_of(prog)
    found = kernel.pgmaps.of_pfn(operator.index(pfn))
    if found is None:
        require_complete(kernel, "device maps")
        return NULL(prog, "struct dev_pagemap *")
    return Object(prog, "struct dev_pagemap *", found.va)


def pgmap_ranges(pgmap: Object) -> Iterator[tuple[int, int]]:
    """
    Iterate over the ranges of a device page map.

    :param pgmap: ``struct dev_pagemap *``
    :return: Iterator of (first PFN, first PFN behind it) tuples
    """
    yield from _pgmap(pgmap).ranges


def pgmap_altmap(pgmap: Object) -> Object:
    """
    Get the part of a device that backs its own vmemmap.

    :param pgmap: ``struct dev_pagemap *``
    :return: ``struct vmem_altmap *`` (``NULL`` if system memory does)
    """
    if _pgmap(pgmap).altmap is None:
        return NULL(pgmap.prog_, "struct vmem_altmap *")
    return pgmap.altmap.address_of_()


def pgmap_vmemmap_shift(pgmap: Object) -> int:
    """
    Get the order of the compound pages of a device page map.

    :param pgmap: ``struct dev_pagemap *``
    :return: ``pgmap->vmemmap_shift``; 0 in kernels older than 5.17, which have none
    """
    return _pgmap(pgmap).vmemmap_shift


def _pgmap(pgmap: Object) -> Pgmap:
    va = kernel_address_of(pgmap, "a struct dev_pagemap")
    for found in reading_of(pgmap.prog_).pgmaps:
        if found.va == va:
            return found
    require_complete(reading_of(pgmap.prog_), "device maps")
    raise ValueError(f"no device page map that is in use lies at {va:#x}")
