# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs of a fuzz in worker processes: a library that dies or hangs ends one run."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.bounded import SECONDS

__all__ = ["Failure", "Result", "run"]

INPUTS_A_WORKER = 500
"""Then another takes its place: libraries keep some memory of each file."""
PATIENCE = 2 * SECONDS
"""Seconds for an input, before the parent ends what the alarm of a run did not."""

Input = tuple[str, int]
"""Subject and number."""


@dataclass(frozen=True)
class Failure:
    """A run, or a whole process, that ended in anything but an answer or one line."""

    subject: str
    number: int
    what: str


@dataclass
class Result:
    """How all runs ended: {exit status: runs}, failures, and the highest peak."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    inputs: int = 0
    peak: int = 0

    @property
    def runs(self) -> int:
        return sum(self.statuses.values()) + len(self.failures)


def run(
    inputs: Iterable[Input], seed: int, jobs: int = 1, runs: int | None = None
) -> Result:
    """Ask about all inputs, or until so many runs are made, in so many processes."""
    left, result, lock = iter(inputs), Result(), threading.Lock()

    def taken() -> Input | None:
        with lock:
            is_enough = runs is not None and result.runs >= runs
            return None if is_enough else next(left, None)

    def work() -> None:
        worker = Worker(seed)
        while (one := taken()) is not None:
            answer = worker.ask(*one)
            with lock:
                result.inputs += 1
                result.peak = max(result.peak, answer["peak"])
                result.statuses.update(answer["statuses"])
                for what in answer["failures"]:
                    result.failures.append(Failure(*one, what))
                    print(result.failures[-1], file=sys.stderr, flush=True)
        worker.close()

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return result


class Worker:
    """A worker process, replaced when it died or has run for long."""

    def __init__(self, seed: int):
        self._seed, self._inputs = seed, 0
        self._process: subprocess.Popen[str] | None = None

    def ask(self, subject: str, number: int) -> dict[str, Any]:
        """Let it ask; a process that dies or does not answer is a failure."""
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps([subject, number]) + "\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
            line = process.stdout.readline() if ready else ""
        except BrokenPipeError:
            ready, line = [process.stdout], ""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        if not ready:
            process.kill()
        status = process.wait()
        self._process = None
        what = f"died with status {status}" if ready else "hangs in a library"
        return {"statuses": [], "failures": [what], "peak": 0}

    def _started(self) -> subprocess.Popen[str]:
        if self._inputs == INPUTS_A_WORKER:
            self.close()
        if self._process is None:
            self._inputs = 0
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.worker", str(self._seed)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self._inputs += 1
        return self._process

    def close(self) -> None:
        """Let it end."""
        if self._process is not None:
            self._process.communicate()
            self._process = None
