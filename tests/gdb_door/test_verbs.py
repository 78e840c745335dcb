# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every verb in gdb answers as the command line, on every form of core.

All forms of both machines in the oldest gdb and in the newest, where they differ most;
one form each in those between, so that every verb still runs in every gdb.
"""

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
from .runner import VERSIONS, find_gdb

BETWEEN = {"16": ("five-level", "filtered"), "17": ("four-level", "paging")}
"""Machine and form for versions that are neither the oldest nor the newest."""


def forms(version: str, machine: str) -> list[str]:
    """Forms of a machine that a version of gdb is asked about."""
    if version in BETWEEN:
        name, form = BETWEEN[version]
        return [form] if name == machine else []
    return list(FORMS)


CASES = [
    (machine, version)
    for machine in MACHINES
    for version in VERSIONS
    if forms(version, machine)
]


def test_the_matrix_has_every_gdb_and_every_form_at_both_ends() -> None:
    assert {version for _, version in CASES} == set(VERSIONS)
    for version in (VERSIONS[0], VERSIONS[-1]):
        for machine in MACHINES:
            assert forms(version, machine) == list(FORMS)


@pytest.fixture(scope="module")
def modelled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Modelled:
    """A machine with its vmlinux, and cores on demand."""
    directory = tmp_path_factory.mktemp(f"door-{request.param}")
    return Modelled(small_machine(request.param).image(), directory)


@pytest.mark.parametrize(("modelled", "version"), CASES, indirect=["modelled"])
def test_every_verb_is_the_command_lines(
    modelled: Modelled, version: str, request: pytest.FixtureRequest
) -> None:
    """One session: another core in the same gdb is another kernel."""
    machine = request.node.callspec.params["modelled"]
    asked = forms(version, machine)
    before = opening(modelled.core(asked[0]), modelled.vmlinux)
    commands = [*before]
    for form in asked:
        commands.append(f"core-file {modelled.core(form)}")
        commands += [f"vmemmap --format json {verb}" for verb in VERBS]
    answers = find_gdb(version).run(*commands)[len(before) :]
    each = 1 + len(VERBS)
    for number, form in enumerate(asked):
        opened, *told = answers[number * each : (number + 1) * each]
        assert opened.error is None, opened.error
        expected = modelled.answers("kcore" if form == "pathless" else form)
        for verb, answer in zip(VERBS, told):
            assert answer.error is None, f"{form} {verb}: {answer.error}"
            assert without_sources(json.loads(answer.text)) == without_sources(
                expected[verb]
            ), f"{form} {verb}"
