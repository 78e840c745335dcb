# SPDX-License-Identifier: LGPL-2.1-or-later
"""gdb on cores of every form answers as the command line does on the same file."""

from __future__ import annotations

import json

import pytest

from tests.gdb_door.runner import Gdb

from .cores import (
    FORMS,
    MACHINES,
    VERBS,
    Modelled,
    small_machine,
    without_sources,
)


@pytest.fixture(scope="session", params=list(MACHINES))
def modelled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Modelled:
    """A machine with its vmlinux, and cores on demand."""
    directory = tmp_path_factory.mktemp(request.param)
    return Modelled(small_machine(request.param).image(), directory)


def ask_all(modelled: Modelled, form: str) -> list[str]:
    """Commands that open a core in a form and ask all verbs."""
    return [
        f"core-file {modelled.core(form)}",
        "python inferior = inside.Inferior()",
        *(f"python inferior.ask({verb!r})" for verb in VERBS),
    ]


def test_every_form_answers_as_the_command_line(gdb: Gdb, modelled: Modelled) -> None:
    commands = [
        f"symbol-file {modelled.vmlinux}",
        "python from tests.gdb_door import inside",
    ]
    for form in FORMS:
        commands += ask_all(modelled, form)
    answers = gdb.run(*commands)[2:]
    each = len(VERBS) + 2
    for number, form in enumerate(FORMS):
        opened, target, *told = answers[number * each : (number + 1) * each]
        assert opened.error is None, opened.error
        assert target.error is None, f"{form}: {target.error}"
        expected = modelled.answers(form if form != "pathless" else "kcore")
        for verb, answer in zip(VERBS, told):
            assert answer.error is None, f"{form} {verb}: {answer.error}"
            found = json.loads(answer.text)
            assert without_sources(found) == without_sources(expected[verb]), (
                f"{form} {verb}"
            )
