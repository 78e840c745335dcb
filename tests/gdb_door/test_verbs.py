# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every verb in gdb answers as the command line, on every form of core."""

from __future__ import annotations

import json

import pytest

from tests.target.gdb.cores import (
    FORMS,
    MACHINES,
    VERBS,
    Modelled,
    small_machine,
    without_sources,
)

from .door import opening
from .runner import Gdb


@pytest.fixture(scope="module", params=list(MACHINES))
def modelled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Modelled:
    """A machine with its vmlinux, and cores on demand."""
    directory = tmp_path_factory.mktemp(f"door-{request.param}")
    return Modelled(small_machine(request.param).image(), directory)


def test_every_verb_on_every_form_is_the_command_lines(
    gdb: Gdb, modelled: Modelled
) -> None:
    """One session: another core in the same gdb is another kernel."""
    before = opening(modelled.core(FORMS[0]), modelled.vmlinux)
    commands = [*before]
    for form in FORMS:
        commands.append(f"core-file {modelled.core(form)}")
        commands += [f"vmemmap --format json {verb}" for verb in VERBS]
    answers = gdb.run(*commands)[len(before) :]
    each = 1 + len(VERBS)
    for number, form in enumerate(FORMS):
        opened, *told = answers[number * each : (number + 1) * each]
        assert opened.error is None, opened.error
        expected = modelled.answers("kcore" if form == "pathless" else form)
        for verb, answer in zip(VERBS, told):
            assert answer.error is None, f"{form} {verb}: {answer.error}"
            assert without_sources(json.loads(answer.text)) == without_sources(
                expected[verb]
            ), f"{form} {verb}"
