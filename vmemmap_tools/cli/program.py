# SPDX-License-Identifier: LGPL-2.1-or-later
"""The program ``vmemmap [OPTIONS] VERB ...``.

Reads the opening options, hands a lazy Session to the verb, and turns every failure
into one line on standard error. Exit status: 0 fine, 1 `check` found an error, 2 wrong
use or unreadable input, 130 interrupted, 141 the reader of a pipe has gone.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from .. import __version__
from ..commands import VERBS, VerbGroup
from ..commands.progress import terminal_progress
from ..commands.session import Session
from ..formats.elf import ET_CORE, Elf, ElfError
from ..render.text import escape, internal_error
from ..target.base import TYPE_SOURCES, Fault, TargetError
from . import INTERRUPTED
from .open import Opening, lazily

__all__ = ["CommandLine", "main", "vmemmap"]

PROGRAM = "vmemmap"
OWN_VERBS = {
    name: f"vmemmap_tools.cli.{name}"
    for name in (
        "watch",
        "capsule",
        "model",
        "gdb",
    )
}
"""Verbs that only this door has."""

COMMANDS_OF_DRGN = ("builtin_commands", "crash_commands", "vmemmap_tools")
"""Plugins of drgn that only register commands for its own prompt."""

UNREADABLE = 2
READER_GONE = 128 + 13


class CommandLine(VerbGroup):
    """The verbs as a program. Knows that users first try ``vmemmap vmcore``."""

    def hint(self, ctx: click.Context, name: str, others: Sequence[str] = ()) -> str:
        """A file in the verb's place was meant as the dump or vmlinux to read.

        crash takes both without options, the vmlinux first.
        """
        files = [word for word in (name, *others[:1]) if os.path.exists(word)]
        if name not in files:
            return super().hint(ctx, name, others)
        kernels = [path for path in files if _is_vmlinux(path)]
        dumps = [path for path in files if path not in kernels]
        core = ctx.params.get("core") or next(iter(dumps), "VMCORE")
        words = [PROGRAM, "-c", core]
        if kernels:
            words += ["-s", kernels[0]]
        return f"; to read a dump: {' '.join(words)}"


class CoreOption(click.Option):
    """-c, which some give once for each part of a split dump."""

    repeat_hint = (
        "; the parts of a split dump are joined by 'makedumpfile --reassemble PART1 "
        "PART2 ... OUT'"
    )


def _is_vmlinux(path: str) -> bool:
    try:
        with Elf(path) as elf:
            return bool(elf.type != ET_CORE)
    except (OSError, ElfError):
        return False


@click.group(
    PROGRAM,
    cls=CommandLine,
    verbs={**VERBS, **OWN_VERBS},
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Without -c, --live or --qemu the running kernel is read. "
    f"'{PROGRAM} VERB --help' explains a verb.",
)
@click.option(
    "-c",
    "--core",
    cls=CoreOption,
    metavar="CORE",
    help="Read this vmcore (ELF or kdump).",
)
@click.option("--live", is_flag=True, help="Read the running kernel (the default).")
@click.option("--qemu", metavar="SOCK", help="Read a QEMU guest at this QMP socket.")
@click.option(
    "-s",
    "--symbols",
    metavar="VMLINUX",
    multiple=True,
    help="Debug info, BTF or System.map; a vmlinux without debug info serves as the "
    "last two; may be repeated.  [default: where drgn looks, else the kernel's own BTF "
    "and kallsyms]",
)
@click.option(
    "--vmcoreinfo", metavar="FILE", help="VMCOREINFO text, for a dump without it."
)
@click.option(
    "--types",
    type=click.Choice(TYPE_SOURCES),
    default="auto",
    show_default=True,
    help="Where type layouts come from; auto takes the first that there is. A capsule "
    "brings its own: only auto, or a file with -s.",
)
@click.option("--debug", is_flag=True, help="Show where a failure came from.")
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.pass_context
def vmemmap(ctx: click.Context, /, debug: bool, **opening: Any) -> None:
    """Show what backs the struct page array (the vmemmap) of a Linux kernel, what is
    saved there, and what could be.
    """
    session = ctx.find_object(Session) or Session()
    ctx.obj = replace(
        session,
        open_kernel=lazily(Opening.from_options(**opening), terminal_progress),
        progress=terminal_progress,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "_VMEMMAP_COMPLETE" in os.environ:
        return _complete(os.environ["_VMEMMAP_COMPLETE"])
    if arguments is None:
        _leave_out_commands_of_drgn(os.environ)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if sys.stdout is None or sys.stderr is None:
        # Started with a closed stream: there is nobody to answer.
        return UNREADABLE
    debug = _asks_for_debug(words)
    try:
        status = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        status = READER_GONE
    except (KeyboardInterrupt, click.Abort):
        status = INTERRUPTED
    except click.ClickException as error:
        status = _fail(_one_line(error.format_message()) + _help_hint(error))
    except (TargetError, Fault) as error:
        status = _fail(_one_line(str(error)), debug)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        status = _fail(f"{error.filename or 'output'}: {_one_line(reason)}", debug)
    except Exception as error:
        status = _fail(_one_line(internal_error(error, "--debug")), debug)
    _settle_output()
    return status


def _leave_out_commands_of_drgn(environment: MutableMapping[str, str]) -> None:
    """Spare drgn from loading commands that nobody can type here.

    It does so with the first Program, in a sixth of a second. Plugins of other names,
    which may know where debug info is, are loaded as ever.
    """
    chosen = environment.get("DRGN_DISABLE_PLUGINS")
    everything = [*([chosen] if chosen else []), *COMMANDS_OF_DRGN]
    environment["DRGN_DISABLE_PLUGINS"] = ",".join(everything)


def _run(words: list[str]) -> int:
    """Parse and run. Not `Group.main`, whose exit status for some errors is 1."""
    try:
        with vmemmap.make_context(PROGRAM, words) as ctx:
            vmemmap.invoke(ctx)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    return 0


def _asks_for_debug(words: Sequence[str]) -> bool:
    """Whether --debug stands among the options before the verb, parsed or not."""
    return "--debug" in words


def _fail(line: str, show_traceback: bool = False) -> int:
    if show_traceback:
        traceback.print_exc()
    shown = line if line.isprintable() else escape(line)
    click.echo(f"{PROGRAM}: {shown}", err=True)
    return UNREADABLE


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _help_hint(error: click.ClickException) -> str:
    """Name the help that would have helped, without the usage in full."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return ""
    return f" (see '{context.command_path} --help')"


def _settle_output() -> None:
    """Keep the interpreter from complaining at its end of what cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _complete(instruction: str) -> int:
    """Answer a shell's question for completions."""
    from click.shell_completion import shell_complete

    return shell_complete(vmemmap, {}, PROGRAM, "_VMEMMAP_COMPLETE", instruction)
