# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernels that cannot be read: one line that names the kind, and exit status 2."""

from __future__ import annotations

from typing import Callable

import pytest

from tests.fakes.machine import Machine
from vmemmap_tools.cli import main
from vmemmap_tools.cli import open as opening

from .test_interface import WORDS

Change = Callable[[Machine], None]


def refuse_architecture(m: Machine) -> None:
    m.target.arch = "ppc64"


def refuse_flatmem(m: Machine) -> None:
    del m.target.structs["mem_section"]


def refuse_sparsemem(m: Machine) -> None:
    del m.target.functions["vmemmap_populate"]
    del m.target.vmcoreinfo["SYMBOL(vmemmap)"]


def refuse_page_size(m: Machine) -> None:
    m.target.vmcoreinfo["PAGESIZE"] = "4097"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (refuse_architecture, "architecture ppc64"),
        (refuse_flatmem, "FLATMEM"),
        (refuse_sparsemem, "without SPARSEMEM_VMEMMAP"),
        (refuse_page_size, "PAGESIZE 4097"),
    ],
)
@pytest.mark.parametrize("verb", WORDS)
def test_a_kernel_that_cannot_be_read_is_one_line_and_exit_status_2(
    change: Change,
    word: str,
    verb: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    m = Machine("7.3")
    m.write_sections()
    change(m)
    monkeypatch.setattr(opening, "_open_target", lambda _: m.target)
    assert main([verb, *WORDS[verb]]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("vmemmap: ") and word in line
    assert out == ""


@pytest.mark.parametrize("option", [("--backing", "hole"), ("--optimised",)])
def test_filters_of_runs_are_refused_for_leaves(
    option: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["map", "--leaves", *option]) == 2
    assert "leave out --backing" in capsys.readouterr().err
