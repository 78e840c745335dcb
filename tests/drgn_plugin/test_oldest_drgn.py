# SPDX-License-Identifier: LGPL-2.1-or-later
"""The oldest drgn that the package admits, in an environment of its own.

The package is installed there as users do, so that drgn finds it by its entry point.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

from tests.drgn_helpers import examples
from tests.drgn_plugin.doors import by_command_line
from tests.samples import Sample

OLDEST = "0.2.0"
TOP = Path(__file__).parents[2]
WORDS = ("summary", "sections", "zones --all", "hvo", "dax", "check --format json")


@pytest.fixture(scope="session")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the oldest drgn and this package."""
    directory = tmp_path_factory.mktemp("oldest")
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    pip: list[str | Path] = [directory / "bin" / "pip", "install", "--quiet"]
    found = subprocess.run(
        [*pip, "--disable-pip-version-check", f"drgn=={OLDEST}", TOP],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        pytest.fail(f"pip cannot install drgn {OLDEST}: {found.stderr}", pytrace=False)
    return directory / "bin"


def output(*words: str | Path) -> str:
    found = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, timeout=120
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_it_is_the_one_that_the_package_admits() -> None:
    text = (TOP / "pyproject.toml").read_text("utf-8")
    floor = re.search(r'"drgn>=([0-9.]+)"', text)
    assert floor is not None
    assert OLDEST.startswith(floor[1])


def test_every_answer_is_the_same(
    oldest: Path, sample: Callable[[str], Sample], tmp_path: Path
) -> None:
    dump = sample("gen-7.3")
    script = tmp_path / "ask.py"
    script.write_text(
        "from drgn.commands import run_command\n"
        f"for words in {WORDS}:\n"
        "    run_command(prog, f'vmemmap {words}')\n"
        "try:\n"
        "    run_command(prog, 'vmemmap nope')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
        "run_command(prog, 'crash vmemmap page pfn:0x140000 | tail -1')\n"
    )
    found = output(
        oldest / "drgn", "-q", "-c", dump.core, "-s", dump.vmlinux, script
    ).splitlines()
    options = ["-c", dump.core, "-s", dump.vmlinux]
    expected = "".join(by_command_line(options, words)[0] for words in WORDS)
    assert found[:-2] == expected.splitlines()
    assert found[-2].startswith("CommandArgumentError vmemmap: no verb 'nope'")
    page = by_command_line(options, "page pfn:0x140000")[0]
    assert found[-1] == page.splitlines()[-1]


def test_the_examples_print_the_same(
    oldest: Path, sample: Callable[[str], Sample]
) -> None:
    dump = sample("gen-7.3")
    output(oldest / "python", examples.__file__, dump.core, dump.vmlinux)
