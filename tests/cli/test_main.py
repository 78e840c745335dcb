# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.samples import Sample
from vmemmap_tools import __version__
from vmemmap_tools.cli import main
from vmemmap_tools.cli import open as opening
from vmemmap_tools.cli.program import vmemmap
from vmemmap_tools.commands import VERBS, progress
from vmemmap_tools.target.base import Fault, TargetError
from vmemmap_tools.target.vmcoreinfo import read_vmcoreinfo

from .verbs import FAKE_VERBS

CLI = [sys.executable, "-m", "vmemmap_tools.cli"]
NOBODY = 65534


@pytest.fixture(autouse=True)
def only_fake_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmemmap, "verbs", FAKE_VERBS)


def failing(error: BaseException) -> Any:
    def open_kernel(_: opening.Opening) -> Any:
        raise error

    return open_kernel


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The line on standard error; the test fails if there are more or none."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vmemmap {__version__}\n"


def test_an_answer_is_exit_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--format", "json", "echo", "--node", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "vmemmap-tools/echo/1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nonsense"], "No such option"),
        (["echo", "--node", "many"], "Invalid value for '--node'"),
        (["echo", "--pfn", "5-5"], "the end is not part of a range"),
        (["echp"], "did you mean echo?"),
        (["-c", "vmcore", "--live", "echo"], "-c and --live exclude each other"),
        (["--vmcoreinfo", "note", "echo"], "--vmcoreinfo belongs to -c or --qemu"),
        (["--types", "stabs", "echo"], "'stabs' is not one of"),
    ],
)
def test_wrong_use_is_one_line_and_exit_status_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    line = one_line(capsys)
    assert line.startswith("vmemmap: ")
    assert message in line
    assert "--help'" in line


@pytest.mark.parametrize("option", ["-c", "-s", "--qemu", "--vmcoreinfo"])
def test_an_empty_file_name_is_wrong_use(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A variable of a script that was not set; it is not as if nothing was given."""
    assert main([option, "", "echo"]) == 2
    assert f"{option} was given an empty name" in one_line(capsys)


def test_a_dump_in_the_verbs_place_is_recognised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = tmp_path / "vmcore"
    dump.touch()
    assert main([str(dump)]) == 2
    assert f"vmemmap -c {dump}" in one_line(capsys)


def test_a_missing_file_a_directory_and_a_pipe_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, reason in [
        (tmp_path / "gone", "No such file or directory"),
        (tmp_path, "is a directory"),
        (pipe, "is a pipe"),
    ]:
        assert main(["-c", str(path), "echo", "--open"]) == 2
        line = one_line(capsys)
        assert str(path) in line
        assert reason in line


@pytest.fixture
def no_privilege() -> Iterator[None]:
    """Root may read everything: be nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(user)


def test_a_file_without_permission_is_named(
    no_privilege: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder, "vmcore")
        secret.touch(mode=0)
        assert main(["-c", str(secret), "echo", "--open"]) == 2
    assert one_line(capsys) == f"vmemmap: {secret}: Permission denied"


def test_a_file_that_is_no_vmcoreinfo_is_refused(tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.write_bytes(b"\x7fELF")
    with pytest.raises(TargetError, match=f"{note} is no VMCOREINFO"):
        read_vmcoreinfo(str(note))


def test_a_vmcoreinfo_note_is_taken_with_or_without_its_header(tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.write_bytes(b"\x0b\0\0\0VMCOREINFO\0\0OSRELEASE=7.3.0\nPAGESIZE=4096\0\0")
    assert read_vmcoreinfo(str(note)) == "OSRELEASE=7.3.0\nPAGESIZE=4096\n"


def test_nothing_is_opened_until_the_verb_asks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["-c", "/nowhere/vmcore", "echo"]) == 0
    assert main(["-c", "/nowhere/vmcore", "echo", "--help"]) == 0


def test_the_kernel_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[opening.Opening] = []

    def open_kernel(options: opening.Opening) -> object:
        opened.append(options)
        return SimpleNamespace()

    monkeypatch.setattr(opening, "open_kernel", open_kernel)
    kernel = opening.lazily(opening.Opening(core="vmcore"))
    assert kernel() is kernel()
    assert [options.core for options in opened] == ["vmcore"]


@pytest.mark.parametrize(
    "error",
    [
        TargetError("vmcore is truncated:\n copy it again"),
        Fault(0x1000, 8, "excluded"),
    ],
)
def test_an_unreadable_target_is_one_line_and_exit_status_2(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(opening, "open_kernel", failing(error))
    assert main(["echo", "--open"]) == 2
    assert one_line(capsys) == "vmemmap: " + str(error).replace("\n ", " ")


def test_an_internal_error_is_one_line_that_says_how_to_report_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(opening, "open_kernel", failing(KeyError("zone\nlist")))
    assert main(["echo", "--open"]) == 2
    assert one_line(capsys) == (
        "vmemmap: internal error: KeyError: 'zone\\nlist'; run it again with --debug "
        "and report the traceback to the developers of vmemmap_tools"
    )


def test_debug_shows_where_an_error_came_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(opening, "open_kernel", failing(TargetError("no dump")))
    assert main(["--debug", "echo", "--open"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.endswith("vmemmap: no dump\n")


def test_text_from_a_dump_cannot_command_the_terminal_through_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(opening, "open_kernel", failing(TargetError("\x1b[2J\udc80")))
    assert main(["echo", "--open"]) == 2
    assert one_line(capsys) == "vmemmap: \\x1b[2J\\udc80"


def test_an_interrupt_is_quiet_and_exit_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(opening, "open_kernel", failing(KeyboardInterrupt()))
    assert main(["echo", "--open"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "module", ["vmemmap_tools.cli.program", "click", "vmemmap_tools.commands.options"]
)
def test_an_interrupt_while_python_reads_the_program_is_quiet_too(module: str) -> None:
    script = (
        "import runpy, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}:\n"
        "            print('interrupted', flush=True)\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "runpy.run_module('vmemmap_tools.cli', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "interrupted\n", "")


def test_a_closed_pipe_is_quiet() -> None:
    script = (
        "import sys; from vmemmap_tools.cli.program import main, vmemmap;"
        "from tests.cli.verbs import FAKE_VERBS; vmemmap.verbs = FAKE_VERBS;"
        "sys.stdin.readline();"
        "sys.exit(main(['echo']))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin and child.stdout and child.stderr
    child.stdout.close()
    child.stdin.write(b"go\n")
    child.stdin.close()
    assert child.stderr.read() == b""
    assert child.wait(60) == 128 + signal.SIGPIPE


def test_a_full_disk_is_one_line_and_exit_status_2() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*CLI, "--version"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    assert done.stderr == "vmemmap: output: No space left on device\n"


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_imports_no_drgn_no_numpy_and_no_tabulate(verb: str) -> None:
    script = (
        "import sys; from vmemmap_tools.cli import main;"
        f"assert main({[*verb.split(), '--help']}) == 0;"
        "print(sorted({'drgn', 'numpy', 'tabulate'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_commands_of_drgns_prompt_are_not_loaded_but_other_plugins_are(
    tmp_path: Path, sample: Callable[[str], Sample]
) -> None:
    """They would take a third of the time of a summary."""
    plugin = tmp_path / "finder.py"
    plugin.write_text("def drgn_prog_set(prog): print('asked')")
    script = (
        "import sys; from vmemmap_tools.cli import main;"
        f"sys.argv[1:] = ['-c', {sample('laptop').core!r}, 'zones'];"
        "assert main() == 0;"
        "print([n for n in sys.modules if n.startswith('drgn.commands')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "DRGN_PLUGINS": f"finder={plugin}"},
    )
    lines = done.stdout.splitlines()
    assert "asked" in lines and lines[-1] == "[]", done.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as standard error. Not a fixture: pytest changes it after those."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


@pytest.mark.parametrize("total", [3, None])
def test_long_work_shows_a_bar_on_a_terminal(
    total: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = screen(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0)
    with progress.terminal_progress("walking the vmemmap", total) as work:
        for _ in range(3):
            work.update(1)
    assert "walking the vmemmap" in terminal.getvalue()


def test_short_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = screen(monkeypatch)
    started = time.monotonic()
    with progress.terminal_progress("walking", 2) as work:
        work.update(2)
    assert time.monotonic() - started < progress.PATIENCE_SECONDS
    assert terminal.getvalue() == ""


def test_no_bar_is_shown_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0)
    with progress.terminal_progress("walking", 2) as work:
        work.update(2)
    assert pipe.getvalue() == ""


def test_completion_offers_the_verbs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_VMEMMAP_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "vmemmap e")
    monkeypatch.setenv("COMP_CWORD", "1")
    main([])
    assert capsys.readouterr().out == "plain,echo\n"
