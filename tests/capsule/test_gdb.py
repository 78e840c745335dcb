# SPDX-License-Identifier: LGPL-2.1-or-later
"""gdb on a capsule, with a vmlinux and with none: every verb as the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.gdb_door.door import LOADER
from tests.gdb_door.runner import VERSIONS, find_gdb
from tests.real.captures import CAPTURES, Capture
from tests.target.gdb.cores import VERBS, ask, small_machine, without_sources
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.drgn_open import open_dump

from .made import make_capsule

VMEMMAP = "walk 0xffffea0000000000"
ASKED = (*(verb for verb in VERBS if "vmemmap_base" not in verb), VMEMMAP)
"""No capsule carries the symbol vmemmap_base where VMCOREINFO has its value."""


@pytest.fixture(scope="module")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small machine's capsule, and its vmlinux."""
    directory = tmp_path_factory.mktemp("gdb")
    small_machine("four-level").write(directory)
    make_capsule(directory)
    return directory


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capsule of a real kernel."""
    path = tmp_path_factory.mktemp("real") / "capsule"
    Capture(CAPTURES / "7.3-cloud-amd64_kaslr.core.xz").unpack(path)
    return path


def told(
    version: str, capsule: Path, before: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """(verb, JSON) of each verb in gdb."""
    opening = [*before, f"core-file {capsule}", f"source {LOADER}"]
    commands = [f"vmemmap --format json {verb}" for verb in ASKED]
    answers = find_gdb(version).run(*opening, *commands)
    for command, answer in zip((*opening, *commands), answers):
        assert answer.error is None, f"{command}: {answer.error}"
    return zip(ASKED, (answer.text for answer in answers[len(opening) :]))


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_a_capsule_alone_answers_as_on_the_command_line(
    version: str, modelled: Path
) -> None:
    capsule = modelled / "capsule"
    for verb, text in told(version, capsule, ()):
        expected = ask(Kernel(open_dump(str(capsule))), verb)
        assert without_sources(json.loads(text)) == without_sources(expected), verb


def test_a_capsule_with_its_vmlinux_answers_as_the_dump(modelled: Path) -> None:
    vmlinux = [str(modelled / "vmlinux")]
    before = [f"symbol-file {modelled / 'vmlinux'}"]
    for verb, text in told(VERSIONS[0], modelled / "capsule", before):
        expected = ask(Kernel(open_dump(str(modelled / "vmcore"), vmlinux)), verb)
        assert without_sources(json.loads(text)) == without_sources(expected), verb


def test_a_capture_of_a_real_kernel_answers_as_on_the_command_line(
    captured: Path,
) -> None:
    for verb, text in told(VERSIONS[0], captured, ()):
        expected = ask(Kernel(open_dump(str(captured))), verb)
        assert without_sources(json.loads(text)) == without_sources(expected), verb


def test_a_damaged_capsule_is_refused_in_gdb_as_well(
    modelled: Path, tmp_path: Path
) -> None:
    data = bytearray((modelled / "capsule").read_bytes())
    data[-1] ^= 1
    damaged = tmp_path / "damaged"
    damaged.write_bytes(data)
    answers = find_gdb(VERSIONS[0]).run(
        f"core-file {damaged}", f"source {LOADER}", "vmemmap summary"
    )
    assert answers[-1].error is not None
    assert "is a damaged capsule" in answers[-1].error + answers[-1].text
