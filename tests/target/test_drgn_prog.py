# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that somebody else opened: what is known of them, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import drgn
import pytest

from vmemmap_tools.target.base import Fault, TargetError, incomplete
from vmemmap_tools.target.drgn import DrgnTarget
from vmemmap_tools.target.drgn_prog import target_of_program

from .dumps import FIRST, PA, RELEASE, VA, core, write_core

PAGE = 4096


def opened(path: str, *, with_types: bool = True) -> drgn.Program:
    """A Program on a dump, its types from a finder such as a plugin would bring."""
    prog = drgn.Program()
    prog.set_core_dump(path)

    def find(
        prog: drgn.Program, kinds: drgn.TypeKindSet, name: str, filename: str | None
    ) -> drgn.Type | None:
        if drgn.TypeKind.STRUCT in kinds and name == "page":
            return prog.struct_type("page", 64, ())
        return None

    if with_types:
        prog.register_type_finder("ours", find, enable_index=0)
    return prog


def test_types_of_a_finder_are_types(tmp_path: Path) -> None:
    target = target_of_program(opened(write_core(tmp_path)))
    assert isinstance(target, DrgnTarget)
    found = {fact.subject: (fact.value, fact.source) for fact in target.evidence()}
    assert found["types"][0] == "type finders"
    assert found["types"][1].startswith("ours")
    assert target.release == RELEASE


def test_what_the_file_leaves_out_is_a_fault(tmp_path: Path) -> None:
    """drgn itself reads zeros there."""
    path = write_core(tmp_path)
    prog = opened(path)
    assert prog.read(PA + PAGE, 8, True) == bytes(8)
    target = target_of_program(prog)
    assert target.read(VA, 16) == FIRST[:16]
    for read, address in ((target.read, VA), (target.read_physical, PA)):
        with pytest.raises(Fault) as caught:
            read(address + PAGE, 8)
        assert caught.value.kind == "excluded"
    assert {extent.present for extent in target.ranges()} == {True, False}


def memory_of(prog: drgn.Program) -> str:
    facts = target_of_program(prog).evidence()
    return next(fact.value for fact in facts if fact.subject == "memory")


def test_a_file_that_was_deleted_or_replaced_is_still_the_one(tmp_path: Path) -> None:
    path = write_core(tmp_path)
    prog = opened(path)
    os.unlink(path)
    for step in ("deleted", "replaced"):
        if step == "replaced":
            write_core(tmp_path, core(has_hole=False))
        with pytest.raises(Fault, match="excluded"):
            target_of_program(prog).read_physical(PA + PAGE, 8)
        assert memory_of(prog) == f"{path} (ELF)"


def test_a_file_that_was_moved_away_is_said_to_be_gone(tmp_path: Path) -> None:
    path = write_core(tmp_path)
    prog = opened(path)
    os.rename(path, tmp_path / "elsewhere")
    assert "file is gone" in memory_of(prog)
    assert target_of_program(prog).read(VA, 16) == FIRST[:16]


def test_of_a_file_that_was_cut_short_the_rest_is_cut(tmp_path: Path) -> None:
    path = write_core(tmp_path)
    prog = opened(path)
    os.truncate(path, len(core()) - PAGE)
    target = target_of_program(prog)
    assert f"{path} is cut short: {PAGE} of {len(core())} bytes" in incomplete(target)


def test_without_any_types_the_error_says_what_to_do(tmp_path: Path) -> None:
    prog = opened(write_core(tmp_path), with_types=False)
    with pytest.raises(
        TargetError, match=f"debug info for {RELEASE}: start it with -s"
    ):
        target_of_program(prog)


def test_a_process_is_refused() -> None:
    prog = drgn.Program()
    prog.set_pid(os.getpid())
    with pytest.raises(TargetError, match="no Linux kernel"):
        target_of_program(prog)
