# SPDX-License-Identifier: LGPL-2.1-or-later
"""A verb to test doors with: it answers what it was given. Its name is in VERBS."""

from __future__ import annotations

from typing import Any

import click

from vmemmap_tools.commands.options import (
    node_option,
    optimised_option,
    order_option,
    pfn_option,
    section_option,
    target_word,
    zone_option,
)
from vmemmap_tools.commands.session import Session
from vmemmap_tools.render import Column, Report

__all__ = ["FAKE_VERBS", "command"]

FAKE_VERBS = {"summary": __name__, "echo": __name__}


@click.command
@click.argument("targets", metavar="TARGET...", nargs=-1, type=target_word)
@click.option("--open", "opens", is_flag=True, help="Ask for the kernel.")
@node_option
@zone_option
@order_option
@section_option
@pfn_option
@optimised_option
@click.pass_obj
def command(session: Session, /, targets: Any, opens: bool, **chosen: Any) -> None:
    """Say what was asked for."""
    release = str(session.open_kernel()) if opens else "none"
    rows = [{"option": name, "value": str(value)} for name, value in chosen.items()]
    rows += [
        {"option": f"{target.kind}:", "value": target.symbol or hex(target.value)}
        for target in targets
    ]
    columns = [Column("option", "OPTION"), Column("value", "VALUE")]
    session.emit(Report("echo", {"release": release}, rows, columns))
