# SPDX-License-Identifier: LGPL-2.1-or-later
"""An interactive gdb with the door, on a terminal of its own, to be typed at."""

from __future__ import annotations

from tests.terminal import CTRL_C, Terminal

from .runner import Gdb

__all__ = ["CTRL_C", "GdbTerminal"]

PROMPT = "(gdb) "
QUIET = (
    "set debuginfod enabled off",
    "set confirm off",
    "set style enabled off",
    "set width 0",
    "set height 0",
    "set editing off",
)


class GdbTerminal(Terminal):
    """A session; ``ask`` types a line and returns what came before the next prompt."""

    def __init__(self, gdb: Gdb, *commands: str):
        environment = {**gdb.environment(), "TERM": "dumb"}
        words = [str(gdb.program), "-nx", "-q"]
        for setting in QUIET:
            words += ["-iex", setting]
        for command in commands:
            words += ["-ex", command]
        super().__init__(words, environment)
        self.until(PROMPT)

    def ask(self, line: str) -> str:
        self.type(f"{line}\n")
        return self.answer()

    def answer(self) -> str:
        """What comes before the next prompt."""
        return self.until(PROMPT).replace("\r", "")
