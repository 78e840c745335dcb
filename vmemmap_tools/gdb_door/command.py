# SPDX-License-Identifier: LGPL-2.1-or-later
"""``vmemmap [OPTIONS] VERB ...``: the shared verbs as commands of gdb.

The prefix takes everything, so that options may stand before the verb; each verb is a
gdb command besides, with gdb's help and completion.
"""

from __future__ import annotations

from contextlib import redirect_stdout, suppress
from typing import Any

import click
import gdb

from ..commands import VERBS, VerbGroup
from ..commands.session import Session
from .compat import compat_command
from .expressions import evaluate
from .kaslr import kaslr_command
from .output import opened
from .progress import gdb_progress
from .reading import kernel_for_report, one_line_errors
from .words import WordsError, split

__all__ = ["register_commands", "vmemmap"]

NAME = "vmemmap"
ALIAS = "vmm"
STATUS = "vmemmap_status"
"""Convenience variable: the exit status that the command line would have. The loader
sets it to 2, as does everything that ends a command early."""
FAILED = 2
WITH_TARGETS = ("page", "walk")


@click.group(
    NAME,
    cls=VerbGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 80,
        "terminal_width": 80,
    },
    epilog=f"'{NAME} VERB --help' explains a verb. A TARGET may be any expression of "
    "gdb. '> FILE' at the end of a line writes the answer to a file, "
    f"'pipe {NAME} VERB | COMMAND' gives it to a program.",
)
@click.option("--debug", is_flag=True, help="Show where a failure came from.")
def vmemmap(debug: bool) -> None:
    """Show what backs the struct page array (the vmemmap) of the kernel that gdb has
    open, what is saved there, and what could be.
    """


vmemmap.add_command(kaslr_command)
vmemmap.add_command(compat_command)


def run(line: str) -> None:
    """Run one command line. Raises gdb.GdbError with one line for all that fails."""
    gdb.set_convenience_variable(STATUS, FAILED)  # until there is an answer
    with one_line_errors(NAME, debug="--debug" in line.split()):
        try:
            words = split(line)
        except WordsError as error:
            raise click.UsageError(str(error)) from None
        status = 0
        with opened(words.output, words.appends) as stream, redirect_stdout(stream):
            session = Session(
                open_kernel=_once(kernel_for_report),
                progress=gdb_progress,
                stream=stream,
                evaluate=evaluate,
            )
            try:
                with vmemmap.make_context(
                    NAME, list(words.words), obj=session
                ) as context:
                    vmemmap.invoke(context)
            except click.exceptions.Exit as leave:
                status = leave.exit_code
        gdb.set_convenience_variable(STATUS, status)


def _once(function: Any) -> Any:
    """A function that is called once and keeps its answer."""
    answers: list[Any] = []

    def once() -> Any:
        if not answers:
            answers.append(function())
        return answers[0]

    return once


class _Prefix(gdb.Command):  # type: ignore[misc]
    """The whole command; gdb gives it what is no verb by itself."""

    def __init__(self) -> None:
        with vmemmap.make_context(NAME, [], resilient_parsing=True) as context:
            self.__doc__ = _help("What backs the vmemmap, and is it right.", context)
        super().__init__(NAME, gdb.COMMAND_DATA, gdb.COMPLETE_NONE, prefix=True)

    def invoke(self, line: str, from_tty: bool) -> None:
        self.dont_repeat()
        run(line)


class _Verb(gdb.Command):  # type: ignore[misc]
    """One verb, with the help that the command line gives."""

    def __init__(self, name: str, command: click.Command):
        self._name = name
        self._options = {
            spelling: parameter
            for parameter in command.params
            if isinstance(parameter, click.Option)
            for spelling in (*parameter.opts, *parameter.secondary_opts)
        }
        with vmemmap.make_context(NAME, [], resilient_parsing=True) as above:
            context = click.Context(command, info_name=name, parent=above)
            self.__doc__ = _help(command.get_short_help_str(100), context)
        super().__init__(f"{NAME} {name}", gdb.COMMAND_DATA)

    def invoke(self, line: str, from_tty: bool) -> None:
        self.dont_repeat()
        run(f"{self._name} {line}")

    def complete(self, text: str, word: str | None) -> Any:
        """Options and their choices; for a TARGET whatever gdb knows."""
        begun = text[len(text.rstrip()) :] == ""
        words = text.split()
        last = words[-1] if words and begun else ""
        before = words[-2:-1] if begun else words[-1:]
        option = self._options.get(before[0]) if before else None
        choices: list[str] = []
        if option is not None and isinstance(option.type, click.Choice):
            choices = list(option.type.choices)
        elif last.startswith("-"):
            choices = sorted(self._options)
        elif self._name in WITH_TARGETS:
            return gdb.COMPLETE_EXPRESSION
        if word is None:  # gdb asks only how words are to be parted
            return gdb.COMPLETE_NONE
        # gdb parts words at dashes too: only what it does not have yet is its word.
        had = len(last) - len(word)
        return [choice[had:] for choice in choices if choice.startswith(last)]


def _help(summary: str, context: click.Context) -> str:
    return f"{summary.rstrip('.')}.\n\n{context.get_help()}"


def register_commands() -> None:
    """Make the commands known to gdb, in place of those of the same names."""
    _Prefix()
    with vmemmap.make_context(NAME, [], resilient_parsing=True) as context:
        for name in [*VERBS, kaslr_command.name, compat_command.name]:
            assert name is not None
            command = vmemmap.get_command(context, name)
            assert command is not None
            _Verb(name, command)
    with suppress(gdb.error):  # there from an earlier load, it follows the new command
        gdb.execute(f"alias -a {ALIAS} = {NAME}", to_string=True)
