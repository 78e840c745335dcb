# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line run on input that lies, within bounds of time and memory.

In this process, so that thousands of runs are a matter of minutes. FUZZ_EXAMPLES sets
how many each test makes; the draws are the same in every run.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings

from vmemmap_tools.cli import main

__all__ = ["EVERY_VERB", "damaged_word", "fuzz", "judge"]

SECONDS = 20
"""A run takes a tenth of a second: a hang, not a slow machine, takes so long."""
MEMORY = 1 << 30
"""Bytes that a run may add to the address space."""
WORD = 8

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


def fuzz(examples: int) -> settings:
    """Settings of a test that makes so many runs, unless FUZZ_EXAMPLES says more."""
    return settings(
        max_examples=int(os.environ.get("FUZZ_EXAMPLES", examples)),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


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
        rows = json.loads(out.getvalue())["rows"]
        assert bool(status) == any(row.get("severity") == "E" for row in rows)
        return status
    assert status == 2, (status, complaint)
    (line,) = complaint.splitlines()
    assert line.startswith("vmemmap: ") and "unforeseen" not in line, line
    assert line.isprintable(), line
    return status


@contextlib.contextmanager
def _within_bounds() -> Iterator[None]:
    """An alarm, and no more address space than there is and `MEMORY`."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + MEMORY
    before = signal.signal(signal.SIGALRM, _give_up)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def _give_up(*_: object) -> None:
    raise SystemExit(f"no end after {SECONDS} s")


def damaged_word(old: int, others: Sequence[int]) -> st.SearchStrategy[int]:
    """Another word in the place of this one: others, flipped bits, extremes, noise."""
    return st.one_of(
        st.sampled_from(others),
        st.integers(0, 8 * WORD - 1).map(lambda bit: old ^ 1 << bit),
        st.integers(-64, 64).map(lambda step: old + step & (1 << 64) - 1),
        st.sampled_from((0, 1, (1 << 63), (1 << 64) - 1)),
        st.integers(0, (1 << 64) - 1),
    )
