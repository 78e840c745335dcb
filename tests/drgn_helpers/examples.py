# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the examples of all helpers on one dump. As a program: CORE VMLINUX [--loosely].

Imports nothing of the tests, so that it runs with another drgn as well.
"""

from __future__ import annotations

import doctest
import sys
from importlib import import_module
from typing import Any

import drgn
import drgn.helpers.linux.mm
import drgn.helpers.linux.mmzone

import vmemmap_tools.drgn_helpers as helpers

__all__ = ["run_examples"]


class _AnyOutput(doctest.OutputChecker):
    """Takes what another dump answers: an example must run, not say the same."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return True


def run_examples(prog: drgn.Program, *, exactly: bool = True) -> tuple[int, list[str]]:
    """How many examples were tried, and reports of those that failed.

    With ``exactly`` they must print what they say they do.
    """
    drgn.set_default_prog(prog)
    names: dict[str, Any] = {"prog": prog}
    for module in (drgn.helpers.linux.mm, drgn.helpers.linux.mmzone, helpers):
        names.update((name, getattr(module, name)) for name in module.__all__)
    checker = doctest.OutputChecker() if exactly else _AnyOutput()
    runner = doctest.DocTestRunner(checker, verbose=False)
    reports: list[str] = []
    for test in _tests(names):
        runner.run(test, out=reports.append)
    tried = runner.summarize(verbose=False).attempted
    return tried, reports


def _tests(names: dict[str, Any]) -> list[doctest.DocTest]:
    finder, found = doctest.DocTestFinder(), []
    for name in sorted({_home(name) for name in helpers.__all__}):
        module = import_module(name)
        found += [t for t in finder.find(module, globs=names) if t.examples]
    return found


def _home(name: str) -> str:
    home: str = getattr(helpers, name).__module__
    return home


if __name__ == "__main__":
    program = drgn.Program()
    program.set_core_dump(sys.argv[1])
    program.load_debug_info([sys.argv[2]])
    count, failed = run_examples(program, exactly="--loosely" not in sys.argv)
    print("".join(failed))
    sys.exit(f"{len(failed)} of {count} examples failed" if failed else 0)
