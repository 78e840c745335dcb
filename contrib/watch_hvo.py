#!/usr/bin/env drgn
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What does HVO save while nr_hugepages changes? A line per reading, until Ctrl-C.

drgn contrib/watch_hvo.py [SECONDS [READINGS]]
"""

import sys
import time
from itertools import count

from vmemmap_tools.drgn_helpers import for_each_vmemmap_saving, vmemmap_reading

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
readings = range(int(sys.argv[2])) if len(sys.argv) > 2 else count()

print("    TIME    FOLIOS OPTIMISED    SAVED KiB       CHANGE", flush=True)
before = None
try:
    for number in readings:
        if number:
            time.sleep(seconds)
        with vmemmap_reading():  # one reading for the whole line
            rows = [row for row in for_each_vmemmap_saving() if row.kind == "hugetlb"]
        saved = sum(row.saved_bytes for row in rows) >> 10
        change = 0 if before is None else saved - before
        print(
            time.strftime("%H:%M:%S"),
            f"{sum(row.compounds for row in rows):>9}",
            f"{sum(row.optimized for row in rows):>9}",
            f"{saved:>12} {change:>+12}",
            flush=True,
        )
        before = saved
except KeyboardInterrupt:
    pass
