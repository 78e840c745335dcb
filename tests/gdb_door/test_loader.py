# SPDX-License-Identifier: LGPL-2.1-or-later
"""The script that users source: what it finds, borrows, and says when it cannot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click
import pytest
import tabulate

from .door import LOADER, Small
from .runner import TOP, VERSIONS, Gdb, find_gdb

HAS = "python import vmemmap_tools; print(vmemmap_tools.__file__)"


def source(gdb: Gdb, script: Path, *after: str, **environment: str) -> str:
    """What a gdb prints whose Python has nothing but its own library."""
    words = ["-nx", "--batch", "-iex", "set debuginfod enabled off", "-ex"]
    words += [
        "python import sys; sys.path[:] = [p for p in sys.path if not "
        "p.endswith('-packages')]"
    ]
    words += ["-ex", f"source {script}"]
    for command in after:
        words += ["-ex", command]
    done = subprocess.run(
        [str(gdb.program), *words],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


def install(site: Path) -> Path:
    """The package as a wheel puts it into an environment; returns the script."""
    ignore = shutil.ignore_patterns("__pycache__", "*.btf")
    shutil.copytree(TOP / "vmemmap_tools", site / "vmemmap_tools", ignore=ignore)
    scripts = site / "vmemmap_tools" / "gdb_scripts"
    shutil.copytree(TOP / "gdb_scripts", scripts)
    return scripts / LOADER.name


def lend(site: Path) -> None:
    """click and tabulate as another Python's environment has them."""
    for package in (click, tabulate):
        folder = Path(str(package.__file__)).parent
        shutil.copytree(folder, site / folder.name)


def test_installed_for_another_python_it_takes_its_neighbours(
    gdb: Gdb, tmp_path: Path
) -> None:
    site = tmp_path / "lib" / "python3.99" / "site-packages"
    script = install(site)
    lend(site)
    (site / "numpy.py").write_text("raise SystemExit('of another Python')\n")
    told = source(
        gdb, script, HAS, "vmemmap --help", "python import sys; print(sys.path)"
    )
    assert str(site / "vmemmap_tools" / "__init__.py") in told
    assert "Usage: vmemmap [OPTIONS]" in told
    assert str(site) not in told.splitlines()[-1], "the path holds another Python's"


def test_a_link_to_the_script_will_do(any_gdb: Gdb, tmp_path: Path) -> None:
    site = tmp_path / "site"
    script = install(site)
    lend(site)
    link = tmp_path / "elsewhere" / "v.py"
    link.parent.mkdir()
    link.symlink_to(script)
    assert str(site) in source(any_gdb, link, HAS)


def test_packages_are_borrowed_from_the_environment_that_is_active(
    any_gdb: Gdb, tmp_path: Path
) -> None:
    script = install(tmp_path / "site")
    venv = tmp_path / "venv"
    lend(venv / "lib" / "python3.99" / "site-packages")
    told = source(any_gdb, script, "vmemmap --help", VIRTUAL_ENV=str(venv))
    assert "Usage: vmemmap [OPTIONS]" in told


def test_without_click_one_line_says_what_to_install(gdb: Gdb, tmp_path: Path) -> None:
    script = install(tmp_path / "site")
    told = source(gdb, script, "echo go on")
    line = next(x for x in told.splitlines() if "vmemmap: " in x)
    assert "its package click is missing" in line
    assert f"pip install --target {tmp_path / 'site'} 'click>=8.1,<8.2'" in line
    assert f"looked in: gdb's own path, {tmp_path / 'site'}" in line
    assert "Traceback" not in told


def test_a_click_that_is_too_new_is_named(any_gdb: Gdb, tmp_path: Path) -> None:
    site = tmp_path / "site"
    script = install(site)
    lend(site)
    (site / "click" / "__init__.py").write_text("def type X = int\n")
    told = source(any_gdb, script)
    line = next(x for x in told.splitlines() if "vmemmap: " in x)
    assert f"click of {site} does not work with it" in line
    assert "Traceback" not in told


def test_without_the_package_the_place_is_named(any_gdb: Gdb, tmp_path: Path) -> None:
    alone = tmp_path / LOADER.name
    shutil.copy(LOADER, alone)
    told = source(any_gdb, alone)
    assert f"neither beside {tmp_path} nor installed" in told


@pytest.mark.parametrize(
    ("pretence", "reason"),
    [
        ("sys.version_info = (3, 8, 1)", "gdb has Python 3.8; 3.9 or later is needed"),
        ("del gdb.RemoteTargetConnection", "12 or later is needed"),
    ],
)
def test_what_is_too_old_is_said(any_gdb: Gdb, pretence: str, reason: str) -> None:
    answer = any_gdb.run(f"python import sys; {pretence}", f"source {LOADER}")[1]
    (line,) = answer.text.splitlines()
    assert reason in line


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_what_an_older_gdb_lacks_is_done_without(version: str, small: Small) -> None:
    """Events are taken away before the door is loaded; others need not be there."""
    lacking = ("free_objfile", "memory_changed", "register_changed")
    gone = f"python for name in {lacking}: delattr(gdb.events, name)"
    before = [gone, f"symbol-file {small.vmlinux}", f"core-file {small.core}"]
    answers = find_gdb(version).run(
        *before, f"source {LOADER}", "lx-pfn_to_page 4096", "vmemmap kaslr --apply"
    )
    assert [answer.error for answer in answers] == [None] * len(answers)
    assert answers[-2].text == f"pfn_to_page(0x1000) = {small.page_va(4096):#x}\n"


def test_sourcing_it_again_changes_nothing(gdb: Gdb, small: Small) -> None:
    first, _, second, alias, names = small.told(
        gdb,
        "vmemmap sections",
        f"source {LOADER}",
        "vmemmap sections",
        "vmm sections",
        "python print('_vmemmap_load' in globals())",
    )
    assert first == second == alias
    assert names == "False\n"
