# SPDX-License-Identifier: LGPL-2.1-or-later
"""Time of indexing BTF as large as a kernel's: 120,000 types, as many names."""

from __future__ import annotations

import time
from typing import Any

from vmemmap_tools.formats.btf import Btf, Kind, Member, Record
from vmemmap_tools.formats.btf_write import encode

__all__ = ["measure"]

TYPES = 120_000
NAMES = ("page", "zone", "mem_section", "hstate", "dev_pagemap", "pglist_data")


def measure() -> dict[str, Any]:
    """Processor seconds until records can be asked for, and for the first names."""
    records = [Record(Kind.INT, "long", 8, bits=64)]
    for number in range(TYPES // 2):
        name = NAMES[number] if number < len(NAMES) else f"struct_{number}"
        records.append(Record(Kind.STRUCT, name, 8, members=(Member("at", 1, 0),)))
        records.append(Record(Kind.PTR, type=len(records)))
    data = encode(records)
    start = time.process_time()
    btf = Btf(data)
    indexed = time.process_time()
    found = [btf[type_id].name for type_id in map(btf.find, NAMES) if type_id]
    assert found == list(NAMES)
    return {
        "types": len(btf) - 1,
        "index_seconds": indexed - start,
        "first_names_seconds": time.process_time() - indexed,
    }
