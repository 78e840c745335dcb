# SPDX-License-Identifier: LGPL-2.1-or-later
"""The drgn door: ``%vmemmap [OPTIONS] VERB ...`` in any drgn session.

drgn imports this module at every start (entry point ``drgn.plugins``), so that nothing
but drgn is imported here: click, tabulate and the analysis come with the first command.
"""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from drgn import Program, ProgramFlags

__all__ = ["drgn_prog_set", "register"]

NAME = "vmemmap"
DESCRIPTION = "what backs the vmemmap, what is saved there, and is it right"
USAGE = "**vmemmap** [**--format** *FORMAT*] [*VERB* ...]"
LONG_DESCRIPTION = """
Show what backs the array of ``struct page`` (the vmemmap) of the kernel, what HugeTLB
vmemmap optimisation (HVO) and device DAX save there, what could be saved, and whether
it is consistent. ``vmemmap --help`` lists the verbs, ``vmemmap VERB --help`` explains
one. A word may name a variable of the session that holds a number or a pointer.
"""

CRASH = "drgn.commands._crash.common"


def drgn_prog_set(prog: Program) -> None:
    """Called by drgn for every Program that got a target, perhaps more than once."""
    if prog.flags & ProgramFlags.IS_LINUX_KERNEL:
        register()


def register() -> None:
    """Register the command; doing so again changes nothing."""
    from drgn.commands import DEFAULT_COMMAND_NAMESPACE

    _register_in(DEFAULT_COMMAND_NAMESPACE)
    # `%crash vmemmap`: a namespace that drgn does not promise. If it is there, drgn has
    # loaded it before any plugin is asked.
    crash = getattr(sys.modules.get(CRASH), "CRASH_COMMAND_NAMESPACE", None)
    if crash is not None:
        _register_in(crash)


def _register_in(namespace: Any) -> None:
    from drgn.commands.linux import linux_kernel_custom_command

    linux_kernel_custom_command(
        name=NAME,
        description=DESCRIPTION,
        usage=USAGE,
        long_description=LONG_DESCRIPTION,
        parse=_parse,
        namespace=namespace,
    )(_vmemmap)


class _Piped(list[str]):
    """Arguments of a command whose output is piped to a shell command by us."""

    pipeline = ""


def _parse(source: str) -> Any:
    """Split a line into arguments, redirections and a pipe.

    drgn starts the reader of a pipe with this process's standard output. What Python
    still buffers is flushed first, lest it appear after the reader's. A standard output
    without a file descriptor (a notebook's) is none that a process can write to: then
    the command runs first and its output is passed through the pipe here.
    """
    from drgn.commands import parse_shell_command

    parsed = parse_shell_command(source)
    sys.stdout.flush()
    if parsed.pipeline is None or parsed.redirections:
        return parsed
    try:
        sys.stdout.fileno()
        return parsed
    except (AttributeError, OSError):
        args = _Piped(parsed.args)
        args.pipeline = parsed.pipeline
        return dataclasses.replace(parsed, args=args, pipeline=None)


def _through_pipe(prog: Program, args: _Piped, **kwargs: Any) -> int | None:
    """Run the command, then the pipe's reader with its output."""
    from drgn.commands import CommandExitStatusError

    from .command import run

    output = io.StringIO()
    with redirect_stdout(output):
        status = run(prog, list(args), kwargs.get("globals") or {})
    done = subprocess.run(
        args.pipeline,
        shell=True,
        input=output.getvalue(),
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    if done.returncode:
        raise CommandExitStatusError(args.pipeline, done.returncode)
    return status


def _vmemmap(
    prog: Program, name: str, args: Sequence[str], /, **kwargs: Any
) -> int | None:
    if isinstance(args, _Piped):
        return _through_pipe(prog, args, **kwargs)
    from .command import run

    return run(prog, args, kwargs.get("globals") or {})
