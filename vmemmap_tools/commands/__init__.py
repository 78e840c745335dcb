# SPDX-License-Identifier: LGPL-2.1-or-later
"""Verbs: one file each, written once for every door.

A verb's module has a ``command``: a click command that takes the `Session` with
``@click.pass_obj``, asks it for the kernel and emits a Report. Its docstring is its
help. A door makes a `VerbGroup` over `VERBS`, adds what only it can do, and invokes it
with a Session as ``obj``. Nothing here knows a door.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from .options import any_format_option, format_option, refuse_format, refuse_repeats

__all__ = ["DEFAULT_VERB", "VERBS", "VerbGroup"]

VERBS = {
    name: f"{__name__}.{name}"
    for name in (
        "summary",
        "info",
        "sections",
        "zones",
        "page",
        "walk",
        "map",
        "hvo",
        "dax",
        "check",
    )
}
"""Verb -> module that holds its ``command``, in the order in which help lists them."""

DEFAULT_VERB = "summary"


class VerbGroup(click.Group):
    """A group of verbs that are imported when they are wanted.

    A bare call runs the first of `VERBS`. ``--format`` is understood before and after
    the verb. ``verbs`` may name modules of the door's own besides; commands that were
    added to the group in the usual way are listed after them.
    """

    def __init__(
        self, *args: Any, verbs: Mapping[str, str] = VERBS, **kwargs: Any
    ) -> None:
        kwargs.setdefault("invoke_without_command", True)
        super().__init__(*args, **kwargs)
        self.verbs = verbs
        any_format_option(self)
        refuse_repeats(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of ``verbs``, not of the alphabet."""
        others = (name for name in super().list_commands(ctx) if name not in self.verbs)
        return [*self.verbs, *others]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's module and return its command."""
        if cmd_name not in self.verbs:
            return super().get_command(ctx, cmd_name)
        command: click.Command = import_module(self.verbs[cmd_name]).command
        if isinstance(command, click.Group):
            for below in command.commands.values():
                refuse_repeats(below)
        else:
            _accept_format(command)
        return refuse_repeats(command)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb, or the default one when none is given."""
        result = super().invoke(ctx)
        if ctx.invoked_subcommand is not None:
            return result
        command = self.get_command(ctx, DEFAULT_VERB)
        assert command is not None
        refuse_format(ctx, command, DEFAULT_VERB)
        with command.make_context(DEFAULT_VERB, [], parent=ctx) as below:
            return command.invoke(below)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; for an unknown one name what may have been meant."""
        name = args[0]
        is_word = not name.startswith("-") and not ctx.resilient_parsing
        if is_word and self.get_command(ctx, name) is None:
            ctx.fail(f"no verb {name!r}{self.hint(ctx, name, args[1:])}")
        found, command, others = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:
            refuse_format(ctx, command, name)
        return found, command, others

    def hint(self, ctx: click.Context, name: str, others: Sequence[str] = ()) -> str:
        """End of the sentence about an unknown verb; ``others`` are the words after."""
        near = get_close_matches(name, self.list_commands(ctx), n=2)
        return f"; did you mean {' or '.join(near)}?" if near else ""


def _accept_format(command: click.Command) -> None:
    """Add ``--format`` unless the command has it."""
    if not any("--format" in parameter.opts for parameter in command.params):
        format_option(command)
