# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run the whole sweep: ``python -m tests.sweep [MACHINE...]``. Prints its size."""

from __future__ import annotations

import sys

from tests.sweep.files import incomplete_files
from tests.sweep.machines import MACHINES, sweep_of

CUTS = 20
"""Places at which each form of a dump is cut."""


def main(names: list[str]) -> int:
    """Leave out every page of every machine; 1 if any answer is wrong."""
    pages = files = asked = wrong = 0
    for name in names or MACHINES:
        sweep = sweep_of(name)
        cases = list(sweep.cases())
        found = [v for case in cases for v in sweep.violations(case)]
        answers = sum(len(sweep.asked(case)) for case in cases)
        print(f"{name}: {len(cases)} pages left out, {answers} answers", flush=True)
        number = 0
        for label, path in incomplete_files(sweep, CUTS):
            number += 1
            found += sweep.violations_of_file(label, path)
        answers += number * len(sweep.questions)
        for violation in found:
            print(violation)
        print(f"{name}: {number} incomplete files, {len(found)} violations", flush=True)
        pages, files = pages + len(cases), files + number
        asked, wrong = asked + answers, wrong + len(found)
    print(
        f"in all: {pages} pages and {files} files, {asked} answers, {wrong} violations"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
