# SPDX-License-Identifier: LGPL-2.1-or-later
"""Command line of the harness: ``python -m tests.real fetch|boot|capture|...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .cache import RealError, cache_root, say
from .captures import capsule_sizes, capture_run, is_committed
from .kernels import FLAVOUR, Kernel, cached_kernels, fetch, newest_suite
from .runs import RARE, VARIANTS, Run, boot, cached_runs

DEFAULT_SUITES = ("bookworm", "trixie", "newest")
"""The kernels to judge by: 6.1, 6.12 and the newest that the archive carries."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.real",
        description="Fetch, boot and dump Debian kernels; the results are cached in "
        "$VMEMMAP_TOOLS_CACHE or ~/.cache/vmemmap-tools.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="show what the cache holds")
    again = verbs.add_parser(
        "capture",
        help="make the committed capsules in vmcores/real again from cached runs",
    )
    again.add_argument(
        "runs",
        nargs="*",
        metavar="RELEASE/VARIANT",
        help="cached runs (default: those of which there is a capsule)",
    )
    sizes = verbs.add_parser(
        "sizes", help="make capsules of cached runs, print their sizes"
    )
    sizes.add_argument(
        "runs",
        nargs="*",
        metavar="RELEASE/VARIANT",
        help="cached runs (default: all of them)",
    )
    for verb, meaning in (
        ("fetch", "download kernels with debug symbols"),
        ("boot", "boot kernels under QEMU and dump them"),
    ):
        command = verbs.add_parser(verb, help=meaning)
        command.add_argument(
            "--suite",
            nargs="+",
            default=DEFAULT_SUITES,
            help="Debian suites; 'newest' is the newer of sid and experimental "
            "(default: %(default)s)",
        )
        command.add_argument(
            "--flavour", default=FLAVOUR, help="kernel flavour (default: %(default)s)"
        )
        command.add_argument(
            "--fresh", action="store_true", help="do not reuse what is cached"
        )
        if verb == "boot":
            command.add_argument(
                "--variant",
                nargs="+",
                choices=[*VARIANTS, *RARE, "all"],
                default=["kaslr"],
                help="kinds of guest (default: %(default)s)",
            )
    return parser


def _fetch(suite: str, options: argparse.Namespace) -> Kernel:
    if suite == "newest":
        suite = newest_suite(options.flavour, options.fresh)
    return fetch(suite, options.flavour, fresh=options.fresh)


def _boot(kernel: Kernel, options: argparse.Namespace) -> int:
    failures = 0
    variants = list(VARIANTS) if "all" in options.variant else options.variant
    for variant in variants:
        try:
            run = boot(kernel, variant, fresh=options.fresh)
        except (RealError, OSError) as error:
            say(f"{kernel.abi} {variant}: FAILED: {error}")
            failures += 1
            continue
        print(run.directory)
        for complaint in run.truth().complaints:
            say(f"{kernel.abi} {variant}: {complaint}")
    return failures


def _capture(names: Sequence[str]) -> int:
    runs = _cached(names)
    for run in runs:
        if names or is_committed(run):
            path = capture_run(run)
            print(f"{path} {path.stat().st_size}")
    return 0


def _sizes(names: Sequence[str]) -> int:
    runs = _cached(names)
    print("| guest | ELF | kdump | ELF after `xz` |")
    print("|---|---|---|---|")
    for run in runs:
        sizes = " | ".join(map(_rounded, capsule_sizes(run)))
        print(f"| {run.release} {run.variant} | {sizes} |", flush=True)
    return 0


def _rounded(size: int) -> str:
    """A number of bytes as the docs write it."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _cached(names: Sequence[str]) -> list[Run]:
    """The runs of these names (RELEASE/VARIANT), or all.

    :raises RealError: if one is not in the cache
    """
    runs = {f"{run.release}/{run.variant}": run for run in cached_runs()}
    unknown = [name for name in names if name not in runs]
    if unknown:
        raise RealError(f"not in the cache: {', '.join(unknown)}; boot them first")
    return [runs[name] for name in names or runs]


def _list() -> None:
    print(f"cache: {cache_root()}")
    for kernel in cached_kernels():
        print(f"kernel {kernel.suite} {kernel.abi} {kernel.version}")
    for run in cached_runs():
        print(f"run {run.release} {run.variant} {run.directory}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = _parser().parse_args(arguments)
    if options.verb == "list":
        _list()
        return 0
    if options.verb in ("sizes", "capture"):
        try:
            return {"sizes": _sizes, "capture": _capture}[options.verb](options.runs)
        except RealError as error:
            say(str(error))
            return 1
    failures = 0
    for suite in options.suite:
        try:
            kernel = _fetch(suite, options)
        except (RealError, OSError) as error:
            say(f"{suite}: FAILED: {error}")
            failures += 1
            continue
        if options.verb == "fetch":
            print(kernel.directory)
        else:
            failures += _boot(kernel, options)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
