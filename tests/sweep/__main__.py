# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run the whole sweep: ``python -m tests.sweep [MACHINE...]``. Prints its size."""

from __future__ import annotations

import sys

from tests.sweep.leave_out import Sweep
from tests.sweep.machines import MACHINES


def main(names: list[str]) -> int:
    """Leave out every page of every machine; 1 if any answer is wrong."""
    pages = asked = wrong = 0
    for name in names or MACHINES:
        sweep = Sweep(name, MACHINES[name]())
        cases = list(sweep.cases())
        found = [v for case in cases for v in sweep.violations(case)]
        for violation in found:
            print(violation)
        answers = sum(len(sweep.asked(case)) for case in cases)
        pages, asked, wrong = pages + len(cases), asked + answers, wrong + len(found)
        print(
            f"{name}: {len(cases)} pages left out, {answers} answers, "
            f"{len(found)} violations",
            flush=True,
        )
    print(f"in all: {pages} pages, {asked} answers, {wrong} violations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
