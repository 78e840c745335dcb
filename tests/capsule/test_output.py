# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a capsule is written to, in which form, and what becomes of what was there."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.target.gdb.cores import small_machine
from vmemmap_tools.cli import main

from .made import make_capsule

Capsys = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("output")
    small_machine("four-level").write(directory)
    return make_capsule(directory).parent


def write(folder: Path, *options: str) -> int:
    opening = ["-c", str(folder / "vmcore"), "-s", str(folder / "vmlinux")]
    return main([*opening, "capsule", *options])


def ask(path: Path, capsys: Capsys) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["-c", str(path), "--format", "json", "hvo", "--folios"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_an_existing_file_is_replaced_only_by_force(
    folder: Path, tmp_path: Path, capsys: Capsys
) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"precious")
    out.chmod(0o600)
    assert write(folder, str(out)) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"
    assert write(folder, "--force", str(out)) == 0
    assert out.read_bytes()[:4] == b"\x7fELF"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_planted_link_is_not_followed(
    folder: Path, tmp_path: Path, capsys: Capsys
) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / ".small.partial").symlink_to("victim")
    assert write(folder, str(tmp_path / "small")) == 0
    assert not (tmp_path / "small").is_symlink()
    (tmp_path / "link").symlink_to("victim")
    assert write(folder, "--force", str(tmp_path / "link")) == 2
    assert "symbolic link" in capsys.readouterr().err
    assert (tmp_path / "victim").read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
@pytest.mark.parametrize("form", [(), ("--kdump",), ("--xz",)])
def test_standard_output_takes_the_capsule_and_nothing_else(
    folder: Path, tmp_path: Path, name: str, form: tuple[str, ...], capsys: Capsys
) -> None:
    opening = ["-c", str(folder / "vmcore"), "-s", str(folder / "vmlinux")]
    command = [sys.executable, "-m", "vmemmap_tools.cli", *opening]
    done = subprocess.run(
        [*command, "capsule", name, *form],
        capture_output=True,
        cwd=tmp_path,
        check=True,
    )
    assert done.stderr.startswith(b"Pages carried")
    assert os.listdir(tmp_path) == []
    (tmp_path / "out").write_bytes(done.stdout)
    assert ask(tmp_path / "out", capsys) == ask(folder / "capsule", capsys)


@pytest.mark.parametrize("form", [(), ("--kdump",)])
def test_a_compressed_capsule_answers_as_it_is(
    folder: Path, tmp_path: Path, form: tuple[str, ...], capsys: Capsys
) -> None:
    assert write(folder, "--xz", *form, str(tmp_path / "out.xz")) == 0
    packed = (tmp_path / "out.xz").read_bytes()
    assert len(lzma.decompress(packed)) > 4 * len(packed)
    assert ask(tmp_path / "out.xz", capsys) == ask(folder / "capsule", capsys)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_any_program_may_compress_a_capsule(
    folder: Path, tmp_path: Path, pack: Callable[[bytes], bytes], capsys: Capsys
) -> None:
    (tmp_path / "packed").write_bytes(pack((folder / "capsule").read_bytes()))
    assert ask(tmp_path / "packed", capsys) == ask(folder / "capsule", capsys)


@pytest.mark.parametrize(
    ("name", "content"),
    [("gzip", gzip.compress), ("xz", lzma.compress), ("bzip2", bz2.compress)],
)
def test_another_compressed_dump_is_to_be_unpacked_first(
    folder: Path,
    tmp_path: Path,
    name: str,
    content: Callable[[bytes], bytes],
    capsys: Capsys,
) -> None:
    head = (folder / "vmcore").read_bytes()[: 4 << 20]
    (tmp_path / "packed").write_bytes(content(head))
    assert main(["-c", str(tmp_path / "packed"), "summary"]) == 2
    error = capsys.readouterr().err
    assert f"packed by {name}: unpack it first" in error
    assert len(error.splitlines()) == 1


def test_zstd_is_to_be_unpacked_first(tmp_path: Path, capsys: Capsys) -> None:
    (tmp_path / "packed").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(64))
    assert main(["-c", str(tmp_path / "packed"), "summary"]) == 2
    assert "packed by zstd: unpack it first" in capsys.readouterr().err


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_compressed_capsule_that_is_cut_is_refused(
    folder: Path,
    tmp_path: Path,
    pack: Callable[[bytes], bytes],
    share: float,
    capsys: Capsys,
) -> None:
    packed = pack((folder / "capsule").read_bytes())
    (tmp_path / "cut").write_bytes(packed[: int(len(packed) * share)])
    assert main(["-c", str(tmp_path / "cut"), "summary"]) == 2
    error = capsys.readouterr().err
    assert "cut short" in error
    assert len(error.splitlines()) == 1


def test_a_compressed_file_is_unpacked_within_a_bound(
    folder: Path, tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    capsule = (folder / "capsule").read_bytes()
    (tmp_path / "bomb").write_bytes(lzma.compress(capsule + bytes(1 << 20)))
    monkeypatch.setattr("vmemmap_tools.target.compressed.MAX_SIZE", len(capsule))
    assert main(["-c", str(tmp_path / "bomb"), "summary"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_packed_dump_is_refused_before_all_of_it_is_unpacked(
    tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zeros").write_bytes(gzip.compress(b"\x7fELF" + bytes(8 << 20)))
    read = []
    inner = gzip.GzipFile.read

    def counted(file: gzip.GzipFile, size: int | None = -1) -> bytes:
        data = inner(file, size)
        read.append(len(data))
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    assert main(["-c", str(tmp_path / "zeros"), "summary"]) == 2
    assert sum(read) < 1 << 20


def test_an_error_names_the_compressed_file(
    folder: Path, tmp_path: Path, capsys: Capsys
) -> None:
    damaged = bytearray((folder / "capsule").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "damaged.xz").write_bytes(lzma.compress(damaged))
    assert main(["-c", str(tmp_path / "damaged.xz"), "summary"]) == 2
    error = capsys.readouterr().err
    assert "damaged.xz is a damaged capsule" in error
    assert "/proc/" not in error
