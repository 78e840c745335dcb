# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line run on input that lies, within bounds of time and memory."""

from __future__ import annotations

import contextlib
import io
import json
import resource
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from vmemmap_tools.cli import main

__all__ = ["EVERY_VERB", "MEMORY", "SECONDS", "judge", "peak"]

SECONDS = 90
"""A run takes a tenth of a second: a hang, not a slow machine, takes so long."""
MEMORY = 1 << 30
"""Bytes that a run may use at most, resident."""
ADDRESS_SPACE = 8 << 30
"""Bytes that a run may add to the address space, which a sparse file fills."""

EVERY_VERB: tuple[tuple[str, ...], ...] = (
    ("summary",),
    ("info",),
    ("sections",),
    ("zones", "--all"),
    ("page", "pfn:0x100", "pfn:0x140201", "phys:0x200000000"),
    ("walk", "0xffffffff81000000"),
    ("map",),
    ("map", "--leaves"),
    ("hvo",),
    ("hvo", "--folios"),
    ("dax",),
    ("check", "--all"),
)
"""Each verb that reads a kernel, with words that lead it somewhere."""


def judge(words: Sequence[str]) -> int:
    """Run the command line: an answer with findings, or a refusal in one line.

    Returns the exit status. Fails for anything else, be it a hang.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        _within_bounds(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main(["--format", "json", *words])
    complaint = "".join(
        line
        for line in err.getvalue().splitlines(keepends=True)
        if not line.startswith("vmemmap: warning: ")
    )
    if status in (0, 1):
        assert complaint == "", complaint
        if words[0] == "model":
            return status
        rows = json.loads(out.getvalue())["rows"]
        assert bool(status) == any(row.get("severity") == "E" for row in rows)
        return status
    assert status == 2, (status, complaint)
    (line,) = complaint.splitlines()
    assert line.startswith("vmemmap: ") and "internal error" not in line, line
    assert line.isprintable(), line
    return status


@contextlib.contextmanager
def _within_bounds() -> Iterator[None]:
    """An alarm, a bound of address space, and one of what is resident at most."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + ADDRESS_SPACE
    before = signal.signal(signal.SIGALRM, _give_up)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)
    assert peak() < MEMORY, f"{peak() >> 20} MiB were resident"


def peak() -> int:
    """The most bytes that were resident since the last run began."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def _give_up(*_: object) -> None:
    raise SystemExit(f"no end after {SECONDS} s")
