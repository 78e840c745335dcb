# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whole processes on one dump: our summary against what drgn alone can do.

"btf" is that summary without a vmlinux, by what the dumped kernel says of itself.
Peers: "drgn" opens the same dump with the same debug info and looks up three names;
"follow_phys" is the script one would write without us, a call for every vmemmap page.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

__all__ = ["measure_all"]

OPEN = """
import drgn, sys, time
prog = drgn.Program()
prog.set_core_dump(sys.argv[1])
prog.load_debug_info([sys.argv[2]])
prog["mem_section"], prog.type("struct zone"), prog.type("struct page")
"""

FOLLOW = (
    OPEN
    + """
from drgn.helpers.linux.mm import follow_phys
from drgn.helpers.linux.mmzone import for_each_present_section
start = time.perf_counter()
init_mm, base = prog["init_mm"].address_of_(), prog["vmemmap"].value_()
frames, entries = set(), 0
for nr, section in for_each_present_section(prog):
    first = base + nr * (64 << 15)
    for va in range(first, first + (64 << 15), 4096):
        try:
            frames.add(follow_phys(init_mm, va).value_() >> 12)
            entries += 1
        except drgn.FaultError:
            pass
print(entries, len(frames), time.perf_counter() - start)
"""
)


def _run(command: list[str]) -> tuple[float, float, str]:
    """(wall seconds, peak MiB, stdout) of one process."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return time.perf_counter() - start, usage.ru_maxrss / 1024, output


def measure_all(core: str, vmlinux: str, runs: int = 10) -> dict[str, Any]:
    """Medians of ``runs`` runs each, taken in turn."""
    ours = [sys.executable, "-m", "vmemmap_tools.cli", "--format", "json", "-c", core]
    commands = {
        "drgn": [sys.executable, "-c", OPEN, core, vmlinux],
        "summary": [*ours, "-s", vmlinux, "summary"],
        "btf": [*ours, "--types", "btf", "summary"],
    }
    samples: dict[str, list[tuple[float, float, str]]] = {n: [] for n in commands}
    for _ in range(runs + 1):
        for name, command in commands.items():
            samples[name].append(_run(command))
    found = {
        name: {
            "seconds": statistics.median(s[0] for s in taken[1:]),
            "mib": statistics.median(s[1] for s in taken[1:]),
        }
        for name, taken in samples.items()
    }
    totals = json.loads(samples["summary"][-1][2])["totals"]
    assert json.loads(samples["btf"][-1][2])["totals"] == totals
    entries, frames, seconds = _run([sys.executable, "-c", FOLLOW, core, vmlinux])[
        2
    ].split()
    return {
        **found,
        "frames": totals["backing_frames"],
        "follow_phys": {
            "entries": int(entries),
            "frames": int(frames),
            "us_per_entry": float(seconds) / int(entries) * 1e6,
        },
    }
