# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same words given to both doors, and what each prints."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

import drgn
from drgn.commands import run_command

from vmemmap_tools.cli import main

__all__ = ["by_command_line", "by_drgn"]

Answer = tuple[str, str]
"""Standard output and standard error."""


def by_command_line(options: Sequence[str], words: str) -> Answer:
    """What ``vmemmap OPTIONS WORDS`` prints."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([*options, *words.split()])
    assert status in (0, 1), err.getvalue()
    return out.getvalue(), err.getvalue()


def by_drgn(prog: drgn.Program, words: str) -> Answer:
    """What ``%vmemmap WORDS`` prints in a session on this Program."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        run_command(prog, f"vmemmap {words}", globals={})
    return out.getvalue(), err.getvalue()
