# SPDX-License-Identifier: LGPL-2.1-or-later
"""What gdb imports can be read by the oldest Python that a gdb may have built in."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .door import LOADER
from .runner import TOP

OLDEST = (3, 9)
FILES = sorted((TOP / "vmemmap_tools").rglob("*.py"))


def test_the_check_refuses_what_came_later() -> None:
    with pytest.raises(SyntaxError):
        ast.parse("match 1:\n    case _: pass", feature_version=OLDEST)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TOP)))
def test_a_file_is_in_the_syntax_of_python_3_9(path: Path) -> None:
    ast.parse(path.read_text(), str(path), feature_version=OLDEST)


def test_the_loader_can_tell_an_older_python_what_it_lacks() -> None:
    ast.parse(LOADER.read_text(), str(LOADER), feature_version=(3, 6))
