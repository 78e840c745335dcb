# SPDX-License-Identifier: LGPL-2.1-or-later
"""``%vmemmap`` inside a process: registration, errors, variables, what is kept."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Callable

import drgn
import pytest
from drgn.commands import (
    DEFAULT_COMMAND_NAMESPACE,
    CommandError,
    CommandExitStatusError,
    run_command,
)
from drgn.helpers.linux.mm import pfn_to_page

from tests.drgn_plugin.doors import by_command_line, by_drgn
from tests.model.kernels import small
from tests.samples import Sample, open_with_drgn
from vmemmap_tools import drgn_plugin
from vmemmap_tools.drgn_helpers.reading import kernel_for_report
from vmemmap_tools.kernel.kernel import Kernel


@pytest.fixture(scope="module")
def dump(sample: Callable[[str], Sample]) -> Sample:
    return sample("gen-7.3")


@pytest.fixture
def prog(dump: Sample) -> drgn.Program:
    return dump.program()


def failure(prog: drgn.Program, words: str) -> str:
    """The one line with which a command fails."""
    with pytest.raises(CommandError) as caught:
        run_command(prog, f"vmemmap {words}", globals={})
    line = str(caught.value)
    assert line.startswith("vmemmap: ")
    assert line.isprintable()
    return line.removeprefix("vmemmap: ")


# Registration


def test_the_command_is_there_once_however_often_it_is_registered(
    prog: drgn.Program,
) -> None:
    before = by_drgn(prog, "hvo")
    for _ in range(3):
        drgn_plugin.drgn_prog_set(prog)
    names = [name for name, _ in DEFAULT_COMMAND_NAMESPACE.enabled(prog)]
    assert names.count("vmemmap") == 1
    assert by_drgn(prog, "hvo") == before


def test_a_program_that_is_no_kernel_has_no_such_command() -> None:
    process = drgn.Program()
    process.set_pid(os.getpid())
    names = [name for name, _ in DEFAULT_COMMAND_NAMESPACE.enabled(process)]
    assert "sh" in names
    assert "vmemmap" not in names


def test_crash_has_it_too_and_need_not_be_there(
    prog: drgn.Program,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_command(prog, "crash vmemmap hvo")
    expected = capsys.readouterr().out
    assert "OPTIMISED" in expected
    monkeypatch.delitem(sys.modules, drgn_plugin.CRASH)
    drgn_plugin.register()
    assert by_drgn(prog, "hvo")[0] == expected


def test_drgn_can_show_its_help(prog: drgn.Program) -> None:
    command = DEFAULT_COMMAND_NAMESPACE.lookup(prog, "vmemmap")
    assert "--format" in command.format_usage()
    assert "VERB --help" in command.format_help()


# Errors


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("sumary", "no verb 'sumary'; did you mean summary? (see '%vmemmap --help')"),
        ("--frmat json", "No such option '--frmat'. Did you mean"),
        ("sections --nod 1", "No such option '--nod'"),
        ("page", "name at least one TARGET"),
        ("page no_such_symbol", "no symbol 'no_such_symbol' in this kernel"),
        ("page 8880ffff", "Invalid value for 'TARGET...': '8880ffff' is neither"),
        ("--format xml hvo", "Invalid value for '--format'"),
        ("hvo --pfn 5-5", "Invalid value for '--pfn': '5-5' is empty"),
    ],
)
def test_wrong_use_is_one_line_with_a_hint(
    prog: drgn.Program, words: str, line: str
) -> None:
    found = failure(prog, words)
    assert found.lower().startswith(line.lower())
    assert "--help')" in found


def test_an_internal_error_is_one_line_and_debug_shows_where(
    prog: drgn.Program,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(self: Kernel) -> None:
        raise RuntimeError("of a kind\nwith \x1b[31m colours")

    monkeypatch.setattr(Kernel, "describe", fail)
    line = failure(prog, "hvo")
    expected = "internal error: RuntimeError: of a kind with \\x1b[31m colours; run it"
    assert line.lower().startswith(expected.lower())
    assert "--debug" in line
    assert not capsys.readouterr().err
    failure(prog, "--debug hvo")
    assert "in fail" in capsys.readouterr().err


def test_an_interrupt_passes_and_what_was_half_read_is_dropped(
    prog: drgn.Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_drgn(prog, "hvo")
    kept = kernel_for_report(prog)
    with monkeypatch.context() as patch:

        def interrupt(self: Kernel) -> None:
            raise KeyboardInterrupt

        patch.setattr(Kernel, "describe", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_command(prog, "vmemmap hvo", globals={})
    assert kernel_for_report(prog) is not kept
    assert "OPTIMISED" in by_drgn(prog, "hvo")[0]


def test_check_returns_one_for_an_error_and_help_nothing(
    tmp_path: Path, prog: drgn.Program, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = small("7.3")
    machine.hugetlb_alloc("2M", 8)
    machine.write(tmp_path, faults=["tail-writable"])
    damaged = open_with_drgn(str(tmp_path / "vmcore"), str(tmp_path / "vmlinux"))
    assert run_command(damaged, "vmemmap check") == 1
    assert run_command(prog, "vmemmap check") is None
    assert run_command(prog, "vmemmap check --help") is None
    assert run_command(prog, "vmemmap --help") is None


# The file behind the Program


def test_of_a_file_that_was_cut_short_it_warns_once(
    dump: Sample, tmp_path: Path
) -> None:
    path = tmp_path / "vmcore"
    subprocess.run(["cp", "--sparse=always", dump.core, path], check=True)
    os.truncate(path, path.stat().st_size - 4096)
    prog = open_with_drgn(str(path), dump.vmlinux)
    _, err = by_drgn(prog, "hvo")
    (line,) = err.splitlines()
    assert line.startswith(f"vmemmap: warning: {path} is cut short: 4096 of ")
    assert by_drgn(prog, "summary")[1] == ""


# Pipes


def test_a_pipe_works_where_standard_output_is_no_file(prog: drgn.Program) -> None:
    whole, _ = by_drgn(prog, "hvo")
    assert by_drgn(prog, "hvo | tail -1") == (whole.splitlines(True)[-1], "")


def test_a_reader_that_fails_there_is_an_error_of_drgn(prog: drgn.Program) -> None:
    with (
        pytest.raises(CommandExitStatusError),
        contextlib.redirect_stdout(io.StringIO()) as out,
    ):
        run_command(prog, "vmemmap hvo | cat; exit 3", globals={})
    assert "OPTIMISED" in out.getvalue()


def test_a_pipe_does_not_overtake_what_is_buffered(
    prog: drgn.Program, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        os.fdopen(os.dup(1), "w", buffering=1 << 20) as buffered,
        contextlib.redirect_stdout(buffered),
    ):
        print("first")
        run_command(prog, "vmemmap hvo | head -1", globals={})
    assert capfd.readouterr().out.splitlines()[0] == "first"


def test_a_file_that_is_gone_is_named_as_such(dump: Sample, tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    os.link(dump.core, path)
    prog = open_with_drgn(str(path), dump.vmlinux)
    path.rename(tmp_path / "elsewhere")
    assert "file is gone" in by_drgn(prog, "info")[0]
    assert by_drgn(prog, "hvo") == by_drgn(dump.program(), "hvo")


def test_debug_info_that_comes_later_is_used(dump: Sample) -> None:
    prog = open_with_drgn(dump.core)
    assert "VMCOREINFO" in types_row(prog)
    prog.load_debug_info([dump.vmlinux])
    assert "DWARF" in types_row(prog)


def types_row(prog: drgn.Program) -> str:
    lines = by_drgn(prog, "info")[0].splitlines()
    return next(line for line in lines if line.startswith("types "))


# Variables of the session


def test_a_word_may_be_a_variable(
    prog: drgn.Program, dump: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    page = pfn_to_page(prog, 0x140123)
    variables = {"page": page, "pfn": 0x140123, "flag": True, "node": prog["node_data"]}
    address = f"{page.value_():#x}"
    options = ["-c", dump.core, "-s", dump.vmlinux]
    for words, same in (
        ("page page", f"page {address}"),
        ("page pfn:pfn", "page pfn:0x140123"),
        ("walk page", f"walk {address}"),
        ("page init_mm", "page init_mm"),
    ):
        run_command(prog, f"vmemmap {words}", globals=variables)
        assert capsys.readouterr().out == by_command_line(options, same)[0]
    for word in ("flag", "node"):
        with pytest.raises(CommandError, match=f"no symbol '{word}'"):
            run_command(prog, f"vmemmap page {word}", globals=variables)
