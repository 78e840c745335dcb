#!/usr/bin/env drgn
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much does HVO save on each node, and how much could it?

drgn [-c vmcore -s vmlinux] contrib/hvo_per_node.py
"""

from collections import Counter

from vmemmap_tools.drgn_helpers import for_each_vmemmap_saving, vmemmap_missing

saved: Counter = Counter()
savable: Counter = Counter()
unknown = set()
for row in for_each_vmemmap_saving():
    if row.kind == "hugetlb":
        saved[row.node] += row.saved_bytes
        savable[row.node] += row.savable_bytes or 0
        if row.savable_bytes is None:
            unknown.add(row.node)

print(f"{'NODE':>4} {'SAVED KiB':>12} {'SAVABLE KiB':>12}")
for node in sorted(saved):
    more = "?" if node in unknown else savable[node] >> 10
    print(f"{node:>4} {saved[node] >> 10:>12} {more:>12}")
if not saved:
    print("there are no HugeTLB folios")
for kind, counts in vmemmap_missing().items():
    print(f"not counted, since the dump lacks it ({kind}): {counts}")
