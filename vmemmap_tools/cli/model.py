# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap model: build synthetic dumps, and list what they can be made of.

The model itself is imported when a command runs: it needs numpy, which the rest of the
program does not (install ``vmemmap_tools[model]``).
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..commands.session import Session
from ..render import Column, Report
from ..target.base import TargetError

if TYPE_CHECKING:
    from ..model.spec import Spec

__all__ = ["command"]

NEEDED = ("numpy", "tomli")
"""Packages of the extra ``vmemmap_tools[model]``; tomli before Python 3.11."""
VARIANTS = ("vmcore", "physical", "kcore")
"""How the vmcore's program headers look; see `vmemmap model build --help`."""


class ModelGroup(click.Group):
    """The model's verbs. Without numpy they say how to install it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in NEEDED:
                raise
            raise TargetError(
                f"model needs {error.name}: pip install 'vmemmap_tools[model]'"
            ) from None


@click.group("model", cls=ModelGroup, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Build synthetic dumps: a simulated machine of any generation.

    A dump is a vmlinux and a vmcore that drgn and gdb open like real ones, with books
    beside it in which the model says what it put there.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@command.command()
@click.argument("spec")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for vmlinux, vmcore and books.json.",
)
@click.option("--kdump", is_flag=True, help="Write vmcore.kdump as well.")
@click.option(
    "--variant",
    type=click.Choice(VARIANTS),
    default="vmcore",
    show_default=True,
    help="Like /proc/vmcore; with physical addresses only, as QEMU writes; "
    "or like /proc/kcore, which covers the vmemmap.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME",
    help="Plant a fault; repeatable.",
)
@click.option("--seed", type=int, help="Chooses the places of the faults.")
def build(
    spec: str,
    output: Path,
    kdump: bool,
    variant: str,
    faults: tuple[str, ...],
    seed: int | None,
) -> None:
    """Build the dump of a machine.

    SPEC is a sample's name (see `vmemmap model list`) or the path of a TOML file.
    """
    from ..model.spec import SpecError
    from ..model.spec import build as build_machine

    parsed = _load(spec)
    try:
        build_machine(parsed).write(
            output,
            kdump=kdump,
            variant=variant,
            faults=[*parsed.faults, *faults],
            seed=parsed.seed if seed is None else seed,
        )
    except (SpecError, ValueError) as error:  # OutputError among them
        raise click.UsageError(str(error)) from None
    for name in ("vmlinux", "vmcore", *(["vmcore.kdump"] if kdump else [])):
        click.echo(output / name)
    click.echo(output / "books.json")


@command.command("list")
@click.pass_obj
def list_samples(session: Session) -> None:
    """List the sample machines that come with the project."""
    from ..model.spec import load, samples

    rows = []
    for name, path in samples().items():
        spec = load(path)
        rows.append(
            {
                "name": name,
                "generation": spec.generation,
                "title": spec.title,
                "shows": spec.shows,
            }
        )
    _emit(session, "model-list", rows, "name", "generation", "shows")


@command.command()
@click.argument("spec")
def describe(spec: str) -> None:
    """Say what a sample or a TOML file describes, step by step."""
    parsed = _load(spec)
    click.echo(parsed.title)
    if parsed.shows:
        click.echo(f"Shows: {parsed.shows}")
    click.echo(f"Generation: {parsed.generation}")
    for key, value in parsed.machine.items():
        click.echo(f"  {key} = {value}")
    for node, memory in parsed.nodes.items():
        ranges = ", ".join(f"{start:#x}-{end:#x}" for start, end in memory.memory)
        click.echo(f"Node {node}: {ranges or 'no memory'}")
    for page in parsed.boot_pages:
        click.echo(f"Boot page: {page.size >> 20} MiB on node {page.node}")
    for number, (name, arguments) in enumerate(parsed.steps):
        words = ", ".join(f"{key}={value}" for key, value in arguments.items())
        click.echo(f"Step {number}: {name}({words})")
    for fault in parsed.faults:
        click.echo(f"Fault: {fault}")


@command.command()
@click.pass_obj
def layouts(session: Session) -> None:
    """List the generations and the real kernels their types come from."""
    from ..model import layouts as data

    rows = [
        {
            "generation": name,
            "base": data.origin(generation.base).release,
            "build_id": data.origin(generation.base).build_id,
            "edits": len(generation.edits),
            "about": generation.about,
        }
        for name, generation in data.GENERATIONS.items()
    ]
    _emit(session, "model-layouts", rows, "generation", "base", "edits", "about")


@command.command()
@click.argument("name", required=False)
@click.option("--list", "list_all", is_flag=True, help="Every fault, a line each.")
@click.pass_obj
def fault(session: Session, name: str | None, list_all: bool) -> None:
    """Describe a fault that can be planted, and the kernel bug it imitates.

    Without NAME, or with --list, all of them.
    """
    from ..model.faults import FAULTS

    if name is not None and not list_all:
        if name not in FAULTS:
            raise click.UsageError(f"no fault {name!r}; see vmemmap model fault --list")
        found = FAULTS[name]
        besides = f"; may imply {', '.join(found.implied)}" if found.implied else ""
        click.echo(f"{found.name}: violates {', '.join(found.rules)}{besides}")
        click.echo(textwrap.fill(found.description, 78))
        click.echo(textwrap.fill(f"Imitates: {found.imitates}", 78))
        return
    rows = [
        {
            "name": found.name,
            "rules": ", ".join(found.rules),
            "implied": ", ".join(found.implied),
            "description": found.description,
            "imitates": found.imitates,
        }
        for found in FAULTS.values()
    ]
    _emit(session, "model-fault", rows, "name", "rules", "implied", "imitates")


def _emit(
    session: Session, verb: str, rows: list[dict[str, Any]], *columns: str
) -> None:
    """A list that needs no kernel, in the chosen format."""
    session.emit(
        Report(
            verb=verb,
            kernel={},
            rows=rows,
            columns=[Column(name, name.upper()) for name in columns],
        )
    )


def _load(spec: str) -> Spec:
    """A sample by name, or a file. Raises click.UsageError."""
    from ..model.spec import SpecError, load, samples

    found = samples()
    path = found.get(spec, Path(spec))
    try:
        return load(path)
    except FileNotFoundError:
        names = ", ".join(found)
        raise click.UsageError(
            f"{spec!r} is neither a file nor a sample ({names})"
        ) from None
    except SpecError as error:
        raise click.UsageError(str(error)) from None
