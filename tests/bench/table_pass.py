# SPDX-License-Identifier: LGPL-2.1-or-later
"""Time and memory of the pass over the vmemmap's page tables, by pattern.

Each pattern runs in a process of its own, so that one's memory is not another's.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from dataclasses import replace
from typing import Any

from tests.bench.tables import PATTERNS, WINDOW, make_page_table
from vmemmap_tools.arch import ARCHITECTURES
from vmemmap_tools.arch.x86_64 import FORMAT
from vmemmap_tools.kernel.layout import Geometry
from vmemmap_tools.kernel.memory import Missing
from vmemmap_tools.kernel.vmemmap import Vmemmap

__all__ = ["measure_all"]

GEOMETRY = Geometry(
    arch=ARCHITECTURES["x86_64"],
    table_format=FORMAT,
    levels=4,
    levels_source="made up",
    root_pa=0,
    root_source="made up",
    page_shift=12,
    struct_page_size=64,
    section_size_bits=27,
    max_physmem_bits=46,
    vmemmap_window=WINDOW,
    window_source="made up",
)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _measure(pattern: str, leaf_tables: int) -> dict[str, Any]:
    page_table = make_page_table(pattern, leaf_tables)
    geometry = replace(GEOMETRY, root_pa=page_table.root_pa)
    before = _peak_mib()
    start = time.process_time()
    vmemmap = Vmemmap(page_table, geometry, Missing())
    seconds = time.process_time() - start
    return {
        "pattern": pattern,
        "entries": vmemmap.base_leaves,
        "frames": vmemmap.frames.distinct,
        "us_per_entry": seconds / vmemmap.base_leaves * 1e6,
        "seconds": seconds,
        "mib": _peak_mib() - before,
    }


def measure_all(leaf_tables: int = 8192) -> list[dict[str, Any]]:
    """One row for every pattern; 8192 tables are 4 million entries, 1 TiB of memory."""
    rows = []
    context = multiprocessing.get_context("spawn")
    for pattern in PATTERNS:
        with context.Pool(1) as pool:
            rows.append(pool.apply(_measure, (pattern, leaf_tables)))
    return rows
