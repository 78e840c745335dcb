# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose ``lx-*`` commands gdb has: ours, or those of the kernel's scripts/gdb."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click
import gdb

from ..commands.session import Session
from ..render import Column, Report
from .lx import CONVERSIONS, OWNER, LxCommand, is_off

__all__ = ["compat_command", "register_compat"]

KERNELS_MODULE = "linux.mm"
COLUMNS = (Column("command", "COMMAND"), Column("owner", "OWNER"))


def owner_of(command: str) -> str | None:
    """Whose a command is: "ours", "kernel", None for nobody's."""
    try:
        text = gdb.execute(f"help {command}", to_string=True)
    except gdb.error:
        return None
    return "ours" if OWNER in text else "kernel"


def register_compat(force: bool = False) -> None:
    """Register our commands where the names are free, or ours; or everywhere."""
    for conversion in CONVERSIONS:
        if force or owner_of(conversion.command) != "kernel":
            LxCommand(conversion)


def _give_back() -> None:
    """Let the kernel's commands have their names; without them ours are silent."""
    module = sys.modules.get(KERNELS_MODULE)
    for found in list(vars(module).values()) if module else []:
        is_command = isinstance(found, type) and issubclass(found, gdb.Command)
        if is_command and found.__module__ == KERNELS_MODULE:
            found()
    for conversion in CONVERSIONS:
        if owner_of(conversion.command) == "ours":
            is_off.add(conversion.command)


@click.command("compat")
@click.argument("state", type=click.Choice(["on", "off", "force"]), required=False)
@click.pass_obj
def compat_command(session: Session, /, state: str | None) -> None:
    """Show or choose whose lx-* commands are used: ours or the kernel's.

    on takes the names that are free, as loading does; force takes all of them, also
    from the kernel's own scripts; off gives them back, or makes ours refuse where the
    kernel's scripts are not loaded.
    """
    if state == "off":
        _give_back()
    elif state is not None:
        is_off.clear()
        register_compat(force=state == "force")

    def rows() -> Iterator[dict[str, Any]]:
        for conversion in CONVERSIONS:
            owner = owner_of(conversion.command)
            is_silent = owner == "ours" and conversion.command in is_off
            yield {
                "command": conversion.command,
                "owner": "off" if is_silent else owner,
            }

    session.emit(Report(verb="compat", kernel={}, rows=rows(), columns=COLUMNS))
