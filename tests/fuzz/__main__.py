# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python -m tests.fuzz --runs N --seed S [--minutes M] [--only SUBJECT[:NUMBER]]``

A run is a command line; several are made on each damaged input that can be opened.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from itertools import count, takewhile
from math import inf

from .runner import run
from .subjects import SUBJECTS

__all__ = ["main"]


def main() -> int:
    """Run, print the count and the failures; exit status 1 when there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--runs", type=int, default=20000, help="how many in all")
    parser.add_argument("--seed", type=int, default=1, help="of all draws")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=inf, help="stop after these")
    parser.add_argument("--only", help="one subject, or one run of it: SUBJECT:NUMBER")
    given = parser.parse_args()
    name, _, number = (given.only or "").partition(":")
    if name and name not in SUBJECTS:
        parser.error(f"no subject {name}; there are {', '.join(SUBJECTS)}")
    names = [name] if name else list(SUBJECTS)
    start = time.monotonic()
    every = takewhile(
        lambda _: time.monotonic() < start + 60 * given.minutes,
        ((name, i) for i in count() for name in names),
    )
    inputs = [(name, int(number))] if number else every
    result = run(inputs, given.seed, given.jobs, given.runs)
    seconds = time.monotonic() - start
    print(f"seed {given.seed}: {result.runs} runs on {result.inputs} damaged inputs")
    print(f"subjects: {len(names)}, processes: {given.jobs}")
    print(f"seconds: {seconds:.0f}")
    for status, ended in sorted(result.statuses.items()):
        print(f"exit status {status}: {ended}")
    print(f"peak memory of a run: {result.peak >> 20} MiB")
    print(f"failures: {len(result.failures)}")
    for failure in result.failures:
        print(f"  --seed {given.seed} --only '{failure.subject}:{failure.number}'")
        print(f"    {failure.what}")
    return bool(result.failures)


if __name__ == "__main__":
    sys.exit(main())
