# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python -m tests.bench [--core CORE --symbols VMLINUX]``: print all figures.

Without a dump the newest real one in the cache of tests/real is taken, if there is one.
"""

from __future__ import annotations

import argparse

from tabulate import tabulate

from tests.bench import btf_index, scale, table_pass, whole
from tests.real.runs import cached_runs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--core", help="a dump to time whole processes on")
    parser.add_argument("--symbols", help="its vmlinux")
    parser.add_argument("--runs", type=int, default=10, help="runs of each process")
    parser.add_argument(
        "--scale",
        type=int,
        nargs="*",
        default=[64, 256],
        metavar="GIB",
        help="sizes of machines to build; all four points are 64 256 1024 4096,"
        " and want 12 GiB of disk",
    )
    args = parser.parse_args()
    print("The pass over the page tables, 1 TiB of base-page vmemmap\n")
    print(tabulate(table_pass.measure_all(), headers="keys", floatfmt=".3f"))
    print("\nBTF as large as a kernel's, in processor seconds\n")
    print(tabulate([btf_index.measure()], headers="keys", floatfmt=".3f"))
    print("\nVerbs by the size of the machine, 90 % of it in optimised 2M pages\n")
    points = list(scale.measure_points(args.scale))
    print(tabulate(points, headers="keys", floatfmt=".2f"))
    core, symbols = args.core, args.symbols
    if core is None:
        for run in cached_runs():
            core, symbols = str(run.elf), str(run.vmlinux)
    if core is None or symbols is None:
        print("\nNo dump given, and no real one cached: whole processes not timed.")
        return
    print(f"\nWhole processes on {core}\n")
    found = whole.measure_all(core, symbols, args.runs)
    peer, ours, follow = found["drgn"], found["summary"], found["follow_phys"]
    btf = found["btf"]
    print(f"drgn alone opens it in {peer['seconds']:.2f} s, {peer['mib']:.0f} MiB")
    print(f"vmemmap summary takes  {ours['seconds']:.2f} s, {ours['mib']:.0f} MiB")
    print(f"without a vmlinux      {btf['seconds']:.2f} s, {btf['mib']:.0f} MiB")
    print(
        f"follow_phys script:    {follow['us_per_entry']:.1f} us per entry, "
        f"{follow['entries']} entries, {follow['frames']} frames "
        f"(summary says {found['frames']})"
    )


if __name__ == "__main__":
    main()
