# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process that damages an input for each line it reads, and asks several verbs.

``python -m tests.fuzz.worker SEED``; a line is ``["subject", number]``, the answer
``{"statuses": [2], "failures": [], "peak": 41943040}``.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable

from tests.bounded import judge, peak
from vmemmap_tools.cli import open as opening
from vmemmap_tools.kernel.kernel import Kernel

from .subject import Subject
from .subjects import SUBJECTS, draw_of

__all__ = ["main"]

Open = Callable[[opening.Opening], Kernel]


def main() -> None:
    """Answer lines until there are no more."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seed, subjects = int(sys.argv[1]), dict[str, Subject]()
    once = Once(opening.open_kernel)
    opening.open_kernel = once  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            name, number = json.loads(line)
            if name not in subjects:
                place = Path(folder, str(len(subjects)))
                place.mkdir()
                subjects[name] = SUBJECTS[name](place)
            once.opened = None
            answer = _ask(subjects[name], seed, name, number, once)
            print(json.dumps(answer), flush=True)


class Once:
    """Opens an input for its first verb; the next ones ask the same Kernel."""

    def __init__(self, open_kernel: Open):
        self._open_kernel = open_kernel
        self.opened: Kernel | None = None

    def __call__(self, given: opening.Opening) -> Kernel:
        if self.opened is None:
            self.opened = self._open_kernel(given)
        return self.opened


def _ask(
    subject: Subject, seed: int, name: str, number: int, once: Once
) -> dict[str, Any]:
    """Damage, ask, judge. A negative number is the input without damage."""
    draw = draw_of(seed, name, number)
    options = subject.sound() if number < 0 else subject.damage(draw)
    answer: dict[str, Any] = {"statuses": [], "failures": [], "peak": 0}
    verbs = subject.verbs(draw)
    for words in verbs[:1] if number < 0 else verbs:
        try:
            answer["statuses"].append(judge((*options, *words)))
        except (AssertionError, SystemExit, ValueError) as error:
            what = f"{' '.join(words)}: {type(error).__name__}: {error}"
            answer["failures"].append(what)
        answer["peak"] = max(answer["peak"], peak())
        if options and once.opened is None:
            break  # refused: the next verb would be, too
    return answer


if __name__ == "__main__":
    main()
