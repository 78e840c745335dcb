# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run a verb as a door does, on a kernel of a test's making."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from typing import Any

import click

from vmemmap_tools.commands import VerbGroup
from vmemmap_tools.commands.session import Session
from vmemmap_tools.kernel.kernel import Kernel

__all__ = ["ask", "text"]


def text(kernel: Kernel, *words: str) -> str:
    """What a verb prints, findings of check too. Raises click's errors as they are."""
    stream = io.StringIO()
    session = Session(open_kernel=lambda: kernel, stream=stream)
    group = VerbGroup("vmemmap")
    context = group.make_context("vmemmap", list(words), obj=session)
    with context, suppress(click.exceptions.Exit):
        group.invoke(context)
    return stream.getvalue()


def ask(kernel: Kernel, *words: str) -> dict[str, Any]:
    """A verb's answer in JSON."""
    answer: dict[str, Any] = json.loads(text(kernel, "--format", "json", *words))
    return answer
