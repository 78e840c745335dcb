# SPDX-License-Identifier: LGPL-2.1-or-later
"""Split BTF of modules, read on top of the kernel's, against the modules' DWARF."""

from __future__ import annotations

from pathlib import Path

import drgn
import pytest

from vmemmap_tools.formats.btf import Btf, Kind

from .compare import Compare
from .kernels import section
from .runs import Run

MODULES = ("dax_pmem", "device_dax", "nd_pmem", "libnvdimm")


def of_btf(path: Path, base: Btf) -> dict[str, tuple[int, dict[str, int]]]:
    """{struct of this module: size, {member: bit offset}}; namesakes are left out."""
    btf = Btf(section(path, b".BTF"), base)
    found = {}
    for type_id in btf.ids(Kind.STRUCT):
        record = btf[type_id]
        if record.name and btf.find_all(record.name, Kind.STRUCT) == [type_id]:
            members = {m.name: m.bit_offset for m in record.members if m.name}
            found[record.name] = record.size, members
    return found


def of_dwarf(prog: drgn.Program, name: str) -> tuple[int, dict[str, int]]:
    type_ = prog.type(f"struct {name}")
    members = {m.name: m.bit_offset for m in type_.members or () if m.name}
    assert type_.size is not None
    return type_.size, members


@pytest.mark.variants("kaslr")
def test_types_of_modules_are_those_of_dwarf(run: Run, compare: Compare) -> None:
    directory = run.vmlinux.parent
    base = Btf(run.btf.read_bytes())
    prog = drgn.Program()
    prog.set_core_dump(str(run.elf))
    files = [directory / "debug" / f"{module}.ko" for module in MODULES]
    prog.load_debug_info([str(run.vmlinux), *map(str, files)])
    found = 0
    for module in MODULES:
        own = of_btf(directory / "modules" / f"{module}.ko", base)
        for name in sorted(own)[:3]:
            found += 1
            judge = of_dwarf(prog, name)
            compare.equal(f"{module}: struct {name}: BTF = DWARF", own[name], judge)
    compare.true("modules: structs of their own", found > 0, str(found))
