# SPDX-License-Identifier: LGPL-2.1-or-later
"""For Python inside gdb: its inferior through the target, asked through the verbs."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

from click.exceptions import Exit

from vmemmap_tools.commands import VerbGroup
from vmemmap_tools.commands.session import Session
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.base import Target, TargetError
from vmemmap_tools.target.gdb import open_inferior

__all__ = ["Inferior", "open_inferior", "refusal"]


class Inferior:
    """What gdb has open; ``opening`` are the arguments of `open_inferior`."""

    def __init__(self, **opening: Any):
        self.target: Target = open_inferior(**opening)
        self.kernel = Kernel(self.target)

    def ask(self, words: str) -> None:
        """Print the JSON of a verb."""
        out = io.StringIO()
        session = Session(lambda: self.kernel, format="json", stream=out)
        group = VerbGroup("vmemmap")
        asked = group.make_context("vmemmap", words.split(), obj=session)
        # `check` says by its status that it found errors.
        with suppress(Exit), asked as context:
            group.invoke(context)
        print(out.getvalue(), end="")


def refusal(**opening: Any) -> None:
    """Print why the target cannot be opened."""
    try:
        open_inferior(**opening)
    except TargetError as error:
        print(error, end="")
        return
    raise AssertionError("it can be opened")
