# SPDX-License-Identifier: LGPL-2.1-or-later
"""``vmemmap gdb``: what it starts, and what it says instead."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.elf import ET_EXEC, elf
from tests.samples import Sample
from tests.tools import require_tool
from vmemmap_tools.cli import gdb as verb
from vmemmap_tools.cli import main

CLI = [sys.executable, "-m", "vmemmap_tools.cli"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line that gdb would have been started with."""
    words: list[str] = []

    def execv(program: str, arguments: list[str]) -> None:
        words.extend([program, *arguments[1:]])

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    return words


def test_the_script_is_where_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gdb", "--script"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.name == "vmemmap-gdb.py" and path.is_file()


def test_a_dump_is_opened_with_symbols_only(
    started: list[str], sample: Callable[[str], Sample], tmp_path: Path
) -> None:
    two_node = sample("two-node")
    btf = tmp_path / "some btf"
    btf.write_bytes(b"\x9f\xeb\x01\x00")
    note = tmp_path / "note"
    note.write_text("OSRELEASE=1\n")
    options = ["-c", two_node.core, "-s", two_node.vmlinux, "-s", str(btf)]
    options += ["--types", "dwarf", "--vmcoreinfo", str(note)]
    assert main([*options, "gdb"]) == 0
    assert started == [
        "/bin/gdb",
        *("-c", two_node.core, "-s", two_node.vmlinux),
        *("-x", str(verb.find_script())),
        *("-ex", f'set vmemmap symbols "{btf}"'),
        *("-ex", "set vmemmap types dwarf"),
        *("-ex", f"set vmemmap vmcoreinfo {note}"),
    ]
    assert "site-packages" in os.environ[verb.SITE]


def test_a_file_that_has_no_symbols_is_not_for_gdb(
    started: list[str], sample: Callable[[str], Sample], tmp_path: Path
) -> None:
    two_node, types = sample("two-node"), tmp_path / "types"
    types.write_bytes(elf(kind=ET_EXEC))
    options = ["-c", two_node.core, "-s", str(types), "-s", two_node.vmlinux]
    assert main([*options, "gdb"]) == 0
    assert ["-s", two_node.vmlinux] == started[3:5]
    assert started[-1] == f'set vmemmap symbols "{types}"'


def test_a_stub_is_connected_to_once_everything_is_loaded(
    started: list[str], sample: Callable[[str], Sample]
) -> None:
    vmlinux = sample("two-node").vmlinux
    assert main(["-s", vmlinux, "gdb", "--remote", "localhost:1234"]) == 0
    assert started[1:] == [
        *("-s", vmlinux, "-x", str(verb.find_script())),
        *("-ex", "target remote localhost:1234"),
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-c", "KDUMP", "gdb"], "is a kdump file, which gdb cannot open"),
        (["-c", "KDUMP", "gdb"], "vmemmap -c CORE -s VMLINUX capsule OUT"),
        (["-c", "nothing", "gdb"], "nothing: No such file"),
        (["-c", "CORE", "-s", "nothing", "gdb"], "nothing: No such file"),
        (["--qemu", "sock", "gdb"], "gdb speaks to QEMU's gdb stub: --remote"),
        (["-c", "CORE", "gdb", "--remote", "h:1"], "-c and --remote exclude"),
    ],
)
def test_what_gdb_cannot_do_is_one_line(
    started: list[str],
    sample: Callable[[str], Sample],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    reason: str,
) -> None:
    two_node = sample("two-node")
    paths = {"CORE": two_node.core, "KDUMP": f"{two_node.core}.kdump"}
    assert main([paths.get(word, word) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert not started


def test_without_gdb_the_package_is_named(
    sample: Callable[[str], Sample],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["-c", sample("two-node").core, "gdb"]) == 2
    expected = "vmemmap: gdb is not installed: install the package gdb\n"
    assert capsys.readouterr().err == expected


def test_gdb_starts_with_the_verbs_in_it(sample: Callable[[str], Sample]) -> None:
    """The real thing, typed at through a pipe."""
    require_tool("gdb")
    two_node = sample("two-node")
    done = subprocess.run(
        [*CLI, "-c", two_node.core, "-s", two_node.vmlinux, "gdb"],
        input="lx-pfn_to_page 16\nvmemmap page pfn:0x10 --format csv\n",
        env={**os.environ, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    base = two_node.books.data["vmemmap_base_va"]
    assert f"pfn_to_page(0x10) = {int(base, 16) + 16 * 64:#x}\n" in done.stdout
    assert "pfn:0x10," in done.stdout


def test_what_follows_two_dashes_is_passed_to_gdb(
    started: list[str], sample: Callable[[str], Sample]
) -> None:
    core = sample("two-node").core
    assert main(["-c", core, "gdb", "--", "-batch", "-ex", "vmemmap hvo"]) == 0
    assert started[-3:] == ["-batch", "-ex", "vmemmap hvo"]
    assert started[1:3] == ["-c", core]


def test_a_packed_core_is_named_with_its_packer(
    started: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vmcore.gz"
    path.write_bytes(gzip.compress(b"x"))
    assert main(["-c", str(path), "gdb"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path} is packed by gzip" in line and not started


def test_in_gdb_an_incomplete_dump_has_one_warning(
    sample: Callable[[str], Sample], tmp_path: Path
) -> None:
    require_tool("gdb")
    two_node, path = sample("two-node"), tmp_path / "vmcore"
    subprocess.run(["cp", "--sparse=always", two_node.core, path], check=True)
    os.truncate(path, path.stat().st_size - 4096)
    batch = ["-nx", "-batch", "-ex", "vmemmap hvo", "-ex", "vmemmap zones"]
    done = subprocess.run(
        [*CLI, "-c", path, "-s", two_node.vmlinux, "gdb", "--", *batch],
        env={**os.environ, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    warning = f"vmemmap: warning: {path} is cut short: 4096 of"
    assert done.stderr.count(warning) == 1 and "OPTIMISED" in done.stdout
