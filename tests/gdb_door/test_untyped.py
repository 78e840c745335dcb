# SPDX-License-Identifier: LGPL-2.1-or-later
"""A vmlinux without DWARF: gdb has symbols, and no type for any of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.target.gdb.cores import small_machine
from tests.target.machines import Described
from tests.tools import output

from .door import ask
from .runner import Answer, Gdb


@pytest.fixture(scope="module")
def described() -> Described:
    return Described(small_machine("four-level"))


def told(
    gdb: Gdb, described: Described, directory: Path, *commands: str
) -> list[Answer]:
    stripped, btf = directory / "vmlinux", directory / "vmlinux.btf"
    output("objcopy", "--strip-debug", described.path / "vmlinux", stripped)
    btf.write_bytes(described.btf)
    core = described.path / "vmcore"
    with_btf = f"set vmemmap symbols {btf}"
    return ask(gdb, core, stripped, with_btf, *commands)[1:]


def test_a_variable_whose_type_the_kernel_tells_is_read(
    any_gdb: Gdb, described: Described, tmp_path: Path
) -> None:
    base = described.image.facts["vmemmap"]
    walk, plain = told(
        any_gdb,
        described,
        tmp_path,
        "vmemmap --format json walk (vmemmap_base + 64)",
        f"vmemmap --format json walk {base + 64}",
    )
    assert walk.error is None
    assert json.loads(walk.text) == json.loads(plain.text)


def test_max_pfn_is_what_it_is_with_dwarf(
    any_gdb: Gdb, described: Described, tmp_path: Path
) -> None:
    question = "lx-pfn_to_page max_pfn - 1"
    core, vmlinux = described.path / "vmcore", described.path / "vmlinux"
    (expected,) = ask(any_gdb, core, vmlinux, question)
    assert expected.error is None and expected.text.startswith("pfn_to_page(0x")
    assert told(any_gdb, described, tmp_path, question) == [expected]


def test_a_variable_without_type_is_named(
    any_gdb: Gdb, described: Described, tmp_path: Path
) -> None:
    questions = (
        "lx-pfn_to_page linux_banner - 1",
        "vmemmap page pfn:init_uts_ns-1",
        "vmemmap walk (linux_banner)",
    )
    for question, answer in zip(
        questions, told(any_gdb, described, tmp_path, *questions)
    ):
        assert answer.error is not None
        assert "gdb has no type for" in answer.error, question
        assert "*(unsigned long *)&" in answer.error
        assert "\n" not in answer.error


def test_what_the_message_proposes_works(
    any_gdb: Gdb, described: Described, tmp_path: Path
) -> None:
    base = described.image.facts["vmemmap"]
    (answer,) = told(
        any_gdb,
        described,
        tmp_path,
        "lx-page_to_pfn *(unsigned long *)&vmemmap_base + 64",
    )
    assert (answer.text, answer.error) == (f"page_to_pfn({base + 64:#x}) = 0x1\n", None)


def test_an_address_needs_no_type(
    any_gdb: Gdb, described: Described, tmp_path: Path
) -> None:
    bare, address = told(
        any_gdb,
        described,
        tmp_path,
        "vmemmap --format json walk linux_banner",
        "vmemmap --format json walk &linux_banner",
    )
    assert address.error is None
    assert json.loads(address.text) == json.loads(bare.text)
