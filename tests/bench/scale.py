# SPDX-License-Identifier: LGPL-2.1-or-later
"""Time and memory of verbs by the size of the machine: does the growth stay linear?

Each point is the terabyte sample with its memory and its pool made smaller or larger,
built in a temporary directory. Processor seconds are given, which a loaded machine
distorts less than the clock does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["VERBS", "measure_points"]

VERBS = ("summary", "hvo", "zones", "sections")
FOLIOS_OF_GIB = 460
"""Folios of 2M in a GiB: 90 %."""

SPEC = """
generation = "7.3"
[[node]]
memory = ["0-2G", "4G-{end}G"]
[[step]]
do = "hugetlb_alloc"
size = "2M"
count = {count}
"""


def _run(arguments: Sequence[str]) -> tuple[float, float]:
    """(user and system seconds, peak MiB) of one vmemmap process."""
    command = [sys.executable, "-m", "vmemmap_tools.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure_points(gibs: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A row for the build, for each verb and for a capsule, at each size in GiB."""
    for gib in gibs:
        with tempfile.TemporaryDirectory(prefix="vmemmap-bench-") as name:
            directory = Path(name)
            text = SPEC.format(end=gib + 2, count=gib * FOLIOS_OF_GIB)
            (directory / "spec.toml").write_text(text)
            commands = {"build": ["model", "build", f"{name}/spec.toml", "-o", name]}
            opening = ["-c", f"{name}/vmcore", "-s", f"{name}/vmlinux"]
            commands.update({verb: [*opening, verb] for verb in VERBS})
            commands["capsule"] = [*opening, "capsule", f"{name}/capsule"]
            for verb, arguments in commands.items():
                seconds, mib = _run(arguments)
                row = {"gib": gib, "process": verb, "cpu_s": seconds, "mib": mib}
                if verb == "capsule":
                    row["file_mb"] = (directory / "capsule").stat().st_size / 1e6
                yield row
