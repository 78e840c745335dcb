# SPDX-License-Identifier: LGPL-2.1-or-later
"""The house rules (docs/rooms.md), read from the source: who may import whom.

A new file is checked without a change here; a new room needs a place in `ROOMS`.
"""

from __future__ import annotations

import ast
import pkgutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "vmemmap_tools"
TOP = Path(__file__).parent.parent
HOUSE = TOP / PACKAGE

ROOMS = (
    "formats",
    "arch",
    "target",
    "kernel",
    "analysis",
    "render",
    "commands",
    "capsule",
    "model",
    "drgn_helpers",
    "cli",
    "drgn_plugin",
    "gdb_door",
)
"""From the bottom up: a room may import from those before it."""

DOORS = frozenset({"cli", "drgn_plugin", "gdb_door"})
ALONE: dict[str, set[str]] = {"formats": set(), "render": set(), "model": {"formats"}}
"""Rooms that may import less than the order would allow."""

FOREIGN: dict[str, tuple[str, ...]] = {
    "drgn": ("target/drgn", "drgn_helpers", "drgn_plugin"),
    "_drgn_util": (),
    "gdb": ("target/gdb", "gdb_door/"),
    "numpy": ("model/",),
    "tomli": ("model/",),
    "click": ("commands/", "cli/", "drgn_plugin", "gdb_door/"),
    "tabulate": ("render/",),
}
"""Packages from outside, and the beginnings of the files that may import them."""

SPDX = "SPDX-License-Identifier: LGPL-2.1-or-later"


def source_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if not is_derived(path))


def is_derived(path: Path) -> bool:
    parts = path.relative_to(TOP).parts
    return any(part.startswith(".") or part == "__pycache__" for part in parts)


def name_of(path: Path) -> str:
    return path.relative_to(TOP).as_posix()


@dataclass(frozen=True)
class Import:
    """An import statement: the module named, and whether it runs when loading."""

    module: str
    line: int
    is_at_load: bool


def imports(path: Path) -> Iterator[Import]:
    """All imports of a file, relative ones made absolute."""
    package = list(path.relative_to(TOP).parts[:-1])
    tree = ast.parse(path.read_text("utf-8"))
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.Lambda)) or is_type_checking(node)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            modules = [submodule(base, alias.name) for alias in node.names]
        else:
            continue
        for module in modules:
            yield Import(module, node.lineno, id(node) not in late)


def submodule(base: str, name: str) -> str:
    """``base.name`` if that is a module of ours, else ``base``."""
    path = TOP.joinpath(*base.split("."), name)
    is_module = path.with_suffix(".py").exists() or (path / "__init__.py").exists()
    return (
        f"{base}.{name}"
        if base.split(".", maxsplit=1)[0] == PACKAGE and is_module
        else base
    )


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def room_of(module: str) -> str:
    """The room of a module; "" for the package itself, which holds only the version."""
    _, _, inside = module.partition(".")
    room = inside.partition(".")[0]
    # `python -m vmemmap_tools` is the command line.
    return "cli" if room == "__main__" else room


def module_of(path: Path) -> str:
    parts = list(path.relative_to(TOP).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def may_import(room: str, other: str) -> bool:
    if other in ("", room):
        return True
    if room in ALONE:
        return other in ALONE[room]
    if other in DOORS:
        return False
    if other == "model":
        return room == "cli"
    return ROOMS.index(other) < ROOMS.index(room)


def project_files() -> list[Path]:
    """Files that carry the licence line: everything we wrote but prose and data."""
    settings = ("*.toml", "Makefile", ".pre-commit-config.yaml", ".ci/run")
    found = [path for pattern in settings for path in sorted(TOP.glob(pattern))]
    for folder in sorted(TOP.iterdir()):
        if folder.is_dir() and not is_derived(folder):
            found += source_files(folder)
    return found


MODULES = source_files(HOUSE)
every_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


def test_the_files_are_found() -> None:
    assert HOUSE / "__init__.py" in MODULES
    assert TOP / "pyproject.toml" in project_files()


@every_module
def test_a_room_imports_only_from_rooms_below_it(path: Path) -> None:
    room = room_of(module_of(path))
    assert room in ("", *ROOMS), f"room {room!r} has no place in ROOMS"
    wrong = [
        f"{name_of(path)}:{found.line} imports {found.module}"
        for found in imports(path)
        if found.module.split(".")[0] == PACKAGE
        and not may_import(room, room_of(found.module))
    ]
    assert not wrong


@every_module
def test_packages_from_outside_stay_where_they_belong(path: Path) -> None:
    inside = path.relative_to(HOUSE).as_posix()
    wrong = [
        f"{name_of(path)}:{found.line} imports {found.module}"
        for found in imports(path)
        if not inside.startswith(FOREIGN.get(found.module.split(".")[0], (inside,)))
    ]
    assert not wrong


def standard_library() -> frozenset[str]:
    """Names of its modules; Python 3.9 has no list of them."""
    if sys.version_info >= (3, 10):
        return sys.stdlib_module_names
    places = [sysconfig.get_path("stdlib"), sysconfig.get_config_var("DESTSHARED")]
    found = {module.name for module in pkgutil.iter_modules(filter(None, places))}
    # Asked for only where there is one.
    return frozenset({*found, *sys.builtin_module_names, "tomllib"})


@every_module
def test_only_known_packages_are_imported(path: Path) -> None:
    allowed = {PACKAGE, *FOREIGN}
    if room_of(module_of(path)) == "formats":
        allowed = {PACKAGE}
    names = {found.module.split(".")[0] for found in imports(path)}
    assert names - allowed <= standard_library()


def test_no_module_imports_itself_through_others() -> None:
    graph = {
        module_of(path): {
            found.module
            for found in imports(path)
            if found.is_at_load and found.module.split(".")[0] == PACKAGE
        }
        for path in MODULES
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module not in done:
            for other in sorted(graph.get(module, set()) - {module}):
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", project_files(), ids=name_of)
def test_every_file_names_its_licence_at_the_top(path: Path) -> None:
    first_lines = path.read_text("utf-8").splitlines()[:3]
    assert any(SPDX in line for line in first_lines)


@pytest.mark.parametrize(
    ("room", "other", "allowed"),
    [
        ("kernel", "target", True),
        ("kernel", "analysis", False),
        ("render", "kernel", False),
        ("model", "formats", True),
        ("model", "arch", False),
        ("commands", "model", False),
        ("cli", "model", True),
        ("cli", "gdb_door", False),
        ("drgn_plugin", "drgn_helpers", True),
        ("gdb_door", "commands", True),
        ("formats", "arch", False),
        ("kernel", "", True),
    ],
)
def test_the_rule_itself(room: str, other: str, allowed: bool) -> None:
    assert may_import(room, other) is allowed


def test_imports_are_seen_in_every_form() -> None:
    sample = HOUSE / "commands" / "session.py"
    found = {(found.module, found.is_at_load) for found in imports(sample)}
    assert ("vmemmap_tools.kernel.kernel", False) in found
    assert ("vmemmap_tools.render", True) in found
    assert ("click", True) in found
