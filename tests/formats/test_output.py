# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file is written completely or not at all, and through no link."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from vmemmap_tools.formats.output import OutputError, output_file


def write(path: Path, content: bytes, may_replace: bool = False) -> None:
    with output_file(path, may_replace) as file:
        file.write(content)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "out", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "out").read_bytes() == b"content"
    assert mode(tmp_path / "out") == 0o640
    assert os.listdir(tmp_path) == ["out"]


def test_an_existing_file_is_replaced_only_where_that_is_allowed(
    tmp_path: Path,
) -> None:
    write(tmp_path / "out", b"first")
    with pytest.raises(OutputError, match="--force"):
        write(tmp_path / "out", b"second")
    assert (tmp_path / "out").read_bytes() == b"first"
    write(tmp_path / "out", b"third", may_replace=True)
    assert (tmp_path / "out").read_bytes() == b"third"


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    write(tmp_path / "out", b"first")
    (tmp_path / "out").chmod(0o600)
    write(tmp_path / "out", b"second", may_replace=True)
    assert mode(tmp_path / "out") == 0o600


@pytest.mark.parametrize("may_replace", [True, False])
def test_a_symbolic_link_is_not_followed(tmp_path: Path, may_replace: bool) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "out").symlink_to("victim")
    with pytest.raises(OutputError, match="symbolic link"):
        write(tmp_path / "out", b"other", may_replace)
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_link_planted_under_the_name_of_the_temporary_file_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda size: "guessed")
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / ".out.guessed.partial").symlink_to("victim")
    with pytest.raises(FileExistsError):
        write(tmp_path / "out", b"other")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert (tmp_path / ".out.guessed.partial").is_symlink()


def test_a_file_that_appears_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists"), output_file(tmp_path / "out"):
        (tmp_path / "out").write_bytes(b"of another")
    assert (tmp_path / "out").read_bytes() == b"of another"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_could_not_be_completed_leaves_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error), output_file(tmp_path / "out") as file:
        file.write(b"half")
        raise error
    assert os.listdir(tmp_path) == []
