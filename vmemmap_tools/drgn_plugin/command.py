# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a verb in a drgn session. Every failure is one line, and the session goes on."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import click
from drgn import FaultError, Object, Program
from drgn.commands import CommandArgumentError, CommandError

from ..commands import VerbGroup
from ..commands.progress import terminal_progress
from ..commands.session import Session
from ..drgn_helpers.reading import forget, kernel_for_report
from ..kernel.kernel import Kernel
from ..render.text import escape, internal_error
from ..target.base import Fault, TargetError, incomplete

__all__ = ["run", "vmemmap"]

NAME = "%vmemmap"
WARNED = "vmemmap_tools incomplete"
"""In `drgn.Program.cache`: the warning of an incomplete dump was printed."""


@click.group(
    NAME,
    cls=VerbGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"'{NAME} VERB --help' explains a verb. A word may name a variable of the "
    "session that holds a number or a pointer.",
)
@click.option("--debug", is_flag=True, help="Show where a failure came from.")
def vmemmap(debug: bool) -> None:
    """Show what backs the struct page array (the vmemmap) of this kernel, what is
    saved there, and what could be.
    """


def run(
    prog: Program, words: Sequence[str], variables: Mapping[str, Any]
) -> int | None:
    """Run the verb that these words name.

    ``variables`` are those of the session. Returns None, or 1 when `check` found an
    error. Raises drgn's CommandError with one line for whatever goes wrong.
    """
    session = Session(
        open_kernel=lru_cache(maxsize=1)(lambda: _kernel(prog)),
        progress=terminal_progress,
        evaluate=lambda word: _value_of(variables, word),
    )
    try:
        with vmemmap.make_context(NAME, list(words), obj=session) as context:
            vmemmap.invoke(context)
    except click.exceptions.Exit as leave:
        return leave.exit_code or None
    except click.ClickException as error:
        message = error.format_message() + _help_hint(error)
        raise CommandArgumentError(_line(message)) from None
    except BrokenPipeError:
        raise  # drgn knows that the reader of a pipe may go
    except KeyboardInterrupt:
        forget(prog)  # what was being read may be half done
        raise
    except Exception as error:
        if "--debug" in words:
            traceback.print_exc()
        raise CommandError(_line(_explain(error))) from None
    return None


def _kernel(prog: Program) -> Kernel:
    """The Kernel of a session. Warns once of a dump that is incomplete."""
    kernel = kernel_for_report(prog)
    warning = incomplete(kernel.target)
    if warning and not prog.cache.get(WARNED):
        prog.cache[WARNED] = True
        click.echo(f"vmemmap: {warning}", err=True)
    return kernel


def _value_of(variables: Mapping[str, Any], word: str) -> int | None:
    """The number or pointer that a variable of the session holds, None for others."""
    value = variables.get(word)
    if isinstance(value, Object):
        try:
            value = value.value_()
        except (TypeError, ValueError):
            return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _explain(error: Exception) -> str:
    if isinstance(error, (TargetError, Fault, FaultError)):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'output'}: {error.strerror or type(error).__name__}"
    return internal_error(error, "--debug")


def _line(message: str) -> str:
    """One line that names the command; its text may come from a dump."""
    text = " ".join(message.split())
    return f"vmemmap: {text if text.isprintable() else escape(text)}"


def _help_hint(error: click.ClickException) -> str:
    """Name the help that would have helped, without the usage in full."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f" (see '{context.command_path} --help')" if context else ""
