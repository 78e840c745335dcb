# SPDX-License-Identifier: LGPL-2.1-or-later
"""An interactive program on a terminal of its own, to be typed at."""

from __future__ import annotations

import os
import pty
import select
import signal
import time

__all__ = ["CTRL_C", "Terminal"]

PATIENCE_SECONDS = 300
CTRL_C = "\x03"


class Terminal:
    """A program's session on a terminal; a subclass says how it is started."""

    def __init__(self, words: list[str], environment: dict[str, str]):
        self._pid, self._file = pty.fork()
        if self._pid == 0:
            # A shell lets what it runs in the background ignore Ctrl-C.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execve(words[0], words, environment)
        self._seen = ""

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
