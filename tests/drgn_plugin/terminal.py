# SPDX-License-Identifier: LGPL-2.1-or-later
"""An interactive drgn on a terminal of its own, to be typed at."""

from __future__ import annotations

import os
from pathlib import Path

from tests import terminal

__all__ = ["Terminal"]

PROMPT = ">>> "


class Terminal(terminal.Terminal):
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
        super().__init__(words, environment)
        # The banner has prompts in it.
        self.type("print('rea' + 'dy')\n")
        self.until("ready")
        self.until(PROMPT)

    def ask(self, line: str) -> str:
        self.type(f"{line}\n")
        return self.until(PROMPT).replace("\r", "")
