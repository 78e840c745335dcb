# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs gdb, real ones of four versions, and brings back what each command printed.

Debian's gdb is the oldest; newer ones come as wheels, each in an environment of its
own, made in the cache when it is first asked for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.real.cache import cache_root, locked
from tests.tools import ToolMissing, require_tool

__all__ = ["COVERAGE", "DRIVER", "VERSIONS", "Answer", "Gdb", "GdbFailed", "find_gdb"]

WHEELS = {"16": "16.3.0.post6", "17": "17.2.0.post5", "18": "18.1.0.post1"}
VERSIONS = ("distribution", *WHEELS)
"""What `find_gdb` takes; the first is the one that the system has."""
COVERAGE = "VMEMMAP_TOOLS_GDB_COVERAGE"
"""Environment variable: a directory that receives coverage data of each gdb."""

TOP = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("driver.py")
NEEDED = ("click", "tabulate", "coverage")
QUIET = (
    "set debuginfod enabled off",
    "set confirm off",
    "set auto-load python-scripts off",
)


class GdbFailed(Exception):
    """gdb ended without having run all commands; the text is what it printed."""


@dataclass(frozen=True)
class Answer:
    """What a command printed, and gdb's error message, None where it succeeded."""

    text: str
    error: str | None


@dataclass(frozen=True)
class Gdb:
    """A gdb: its version as asked for, and its program."""

    version: str
    program: Path

    def run(
        self,
        *commands: str,
        variables: Mapping[str, str] | None = None,
        timeout: float = 300,
    ) -> list[Answer]:
        """Run gdb commands one after the other, errors or not; one answer each.

        Lines that begin with "python " are Python, in one namespace for all. Raises
        `GdbFailed` when gdb dies or hangs.
        """
        with tempfile.TemporaryDirectory() as directory:
            answers = Path(directory) / "answers"
            environment = {
                **self.environment(),
                **(variables or {}),
                "GDB_COMMANDS": json.dumps(commands),
                "GDB_ANSWERS": str(answers),
            }
            done = subprocess.run(
                self.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
            # An exception in a script does not change the exit status of old gdbs:
            # only the whole file of answers tells that all went well.
            if done.returncode or not answers.exists():
                raise GdbFailed(f"status {done.returncode}: {done.stdout}")
            return [Answer(**found) for found in json.loads(answers.read_text())]

    @property
    def command(self) -> list[str]:
        """The command line; what to do stands in the variables that DRIVER reads."""
        settings = [word for setting in QUIET for word in ("-iex", setting)]
        return [str(self.program), "-nx", "--batch", *settings, "-x", str(DRIVER)]

    def text(self, *commands: str, variables: Mapping[str, str] | None = None) -> str:
        """What the last of these commands printed; all have to succeed."""
        answers = self.run(*commands, variables=variables)
        for command, answer in zip(commands, answers):
            assert answer.error is None, f"{command}: {answer.error}"
        return answers[-1].text

    def environment(self) -> dict[str, str]:
        """In which its Python finds our package, and click, tabulate, coverage."""
        paths = os.pathsep.join([str(TOP), str(self._site())])
        return {**os.environ, "PYTHONPATH": paths}

    def _site(self) -> Path:
        if self.version != VERSIONS[0]:
            return next(self.program.parents[1].glob("lib/python3*/site-packages"))
        found = subprocess.run(
            [
                self.program,
                *("-nx", "--batch", "-ex"),
                "python import sys; print('%d.%d' % sys.version_info[:2])",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        minor = found.stdout.strip().splitlines()[-1]
        return _packages(f"site-{minor}", minor)


def find_gdb(version: str) -> Gdb:
    """The gdb of this version, installed if need be. Raises `ToolMissing`."""
    if version == VERSIONS[0]:
        return Gdb(version, Path(require_tool("gdb")))
    release = WHEELS[version]
    directory = cache_root() / "gdb" / release
    with locked(directory):
        if not (directory / "complete").exists():
            _run(sys.executable, "-m", "venv", str(directory))
            _pip(directory / "bin" / "python", f"gdb-for-pwndbg=={release}", *NEEDED)
            (directory / "complete").touch()
    return Gdb(version, directory / "bin" / "gdb")


def _packages(name: str, minor: str) -> Path:
    """A directory of the packages needed, for a Python of another environment."""
    directory = cache_root() / "gdb" / name
    with locked(directory):
        if not (directory / "complete").exists():
            options = ["--target", str(directory), "--upgrade"]
            if f"{sys.version_info[0]}.{sys.version_info[1]}" != minor:
                options += ["--only-binary", ":all:", "--python-version", minor]
            _pip(Path(sys.executable), *options, *NEEDED)
            (directory / "complete").touch()
    return directory


def _pip(python: Path, *arguments: str) -> None:
    _run(
        *(str(python), "-m", "pip", "install", "--quiet"),
        "--disable-pip-version-check",
        *arguments,
    )


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolMissing(f"{' '.join(command)}: {done.stderr.strip()}")
