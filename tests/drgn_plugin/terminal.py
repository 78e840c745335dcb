# SPDX-License-Identifier: LGPL-2.1-or-later
"""An interactive drgn on a terminal of its own, to be typed at."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from pathlib import Path

__all__ = ["Terminal"]

PROMPT = ">>> "
PATIENCE_SECONDS = 60
CTRL_C = "\x03"


class Terminal:
    """A session; ``ask`` types a line and returns what came before the next prompt."""

    def __init__(self, words: list[str], home: Path):
        environment = {
            **os.environ,
            "HOME": str(home),
            "TERM": "dumb",
            "COLUMNS": "200",
            # drgn uses the line editor of the Python it finds; one is enough here.
            "PYTHON_BASIC_REPL": "1",
        }
        self._pid, self._file = pty.fork()
        if self._pid == 0:
            os.execve(words[0], words, environment)
        self._seen = ""
        # The banner has prompts in it.
        self.type("print('rea' + 'dy')\n")
        self.until("ready")
        self.until(PROMPT)

    def ask(self, line: str) -> str:
        self.type(f"{line}\n")
        return self.until(PROMPT).replace("\r", "")

    def type(self, text: str) -> None:
        os.write(self._file, text.encode())

    def until(self, text: str) -> str:
        """What is printed up to this text. Fails when the session ends or is silent."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self._seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._file], [], [], left)[0]:
                raise AssertionError(f"no {text!r} in time, only: {self._seen!r}")
            try:
                data = os.read(self._file, 1 << 16)
            except OSError:  # how a terminal says that its other side is gone
                raise AssertionError(f"session ended: {self._seen!r}") from None
            self._seen += data.decode(errors="replace")
        found, _, self._seen = self._seen.partition(text)
        return found

    def close(self) -> int:
        """End the session with Ctrl-D; returns its exit status."""
        self.type("\x04")
        try:
            while os.read(self._file, 1 << 16):
                pass
        except OSError:
            pass
        _, status = os.waitpid(self._pid, 0)
        os.close(self._file)
        return os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        """For a session that will not end."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._file)
