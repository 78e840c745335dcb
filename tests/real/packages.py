# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian packages of any suite, through an apt world of our own.

The archive's address is taken from the machine's own apt configuration, so no host is
named here.  Each suite has its own lists, status file and cache; the machine's package
state is neither read nor changed, while signatures are checked with the machine's keys.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from .cache import RealError, cache_root, locked, require_tool, say

__all__ = ["ADDRESS_VARIABLE", "AptWorld", "archive_address"]

ADDRESS_VARIABLE = "VMEMMAP_TOOLS_DEBIAN_ARCHIVE"
"""Environment variable that overrides the archive's address (all suites)."""

_OS_RELEASE = Path("/etc/os-release")


def _codename() -> str:
    text = _OS_RELEASE.read_text() if _OS_RELEASE.exists() else ""
    found = re.search(r"^VERSION_CODENAME=\"?([a-z]+)", text, re.M)
    return found.group(1) if found else ""


def archive_address(suite: str) -> str:
    """Return the address of the archive that carries *suite*.

    :raises RealError: if apt knows none; names the variable to set instead
    """
    override = os.environ.get(ADDRESS_VARIABLE)
    if override:
        return override.rstrip("/")
    codename = _codename()
    if suite.endswith("-security"):
        codename += "-security"
    run = subprocess.run(
        [require_tool("apt-get"), "update", "--print-uris"],
        check=False,
        capture_output=True,
        text=True,
    )
    pattern = rf"^'(\S+)/dists/{re.escape(codename)}/InRelease'"
    found = re.search(pattern, run.stdout, re.M)
    if not found:
        raise RealError(
            f"apt has no source for {codename or 'this system'}: set {ADDRESS_VARIABLE}"
            " to the address of a Debian archive"
        )
    return found.group(1)


class AptWorld:
    """The packages of one suite, isolated from the machine's own apt state.

    :param suite: name as the archive spells it, for example ``trixie-security``
    :param arch: Debian architecture of the packages
    """

    def __init__(self, suite: str, arch: str = "amd64") -> None:
        self.suite = suite
        self.arch = arch
        self.root = cache_root() / "apt" / f"{suite}-{arch}"

    def _command(self, program: str, *arguments: str) -> list[str]:
        settings = {
            "Dir::Etc::sourcelist": self.root / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State::lists": self.root / "lists",
            "Dir::State::status": self.root / "status",
            "Dir::Cache": self.root / "cache",
            "APT::Architecture": self.arch,
            "APT::Architectures": self.arch,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        command = [require_tool(program), "-q"]
        for name, value in settings.items():
            command += ["-o", f"{name}={value}"]
        return [*command, *arguments]

    def update(self) -> None:
        """Fetch the suite's package lists.

        :raises RealError: if the archive lacks the suite or cannot be reached
        """
        for name in ("lists/partial", "cache/archives/partial"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "status").touch()
        address = archive_address(self.suite)
        source = f"deb [arch={self.arch}] {address} {self.suite} main\n"
        (self.root / "sources.list").write_text(source)
        say(f"{self.suite}: reading the package lists")
        with locked(self.root):
            run = subprocess.run(
                self._command("apt-get", "--error-on=any", "update"),
                check=False,
                capture_output=True,
                text=True,
            )
        if run.returncode:
            reason = (run.stderr.strip().splitlines() or ["no reason given"])[0]
            raise RealError(f"suite {self.suite} cannot be read: {reason}")

    def show(self, package: str) -> dict[str, str]:
        """Return the control fields of the newest *package*, empty if unknown."""
        run = subprocess.run(
            self._command("apt-cache", "show", "--no-all-versions", package),
            check=False,
            capture_output=True,
            text=True,
        )
        stanza = run.stdout.split("\n\n")[0]
        return dict(re.findall(r"^([\w-]+): (.*)$", stanza, re.M))

    def depends(self, package: str) -> list[str]:
        """Return the names that *package* depends on, without versions."""
        field = self.show(package).get("Depends", "")
        return [part.split()[0] for part in re.split(r"[,|]", field) if part.strip()]

    def download(self, package: str, into: Path) -> Path:
        """Put the .deb of *package* into directory *into* unless it is there.

        :raises RealError: if the suite does not carry it
        """
        into.mkdir(parents=True, exist_ok=True)
        for deb in into.glob(f"{package}_*.deb"):
            return deb
        say(f"{self.suite}: downloading {package}")
        run = subprocess.run(
            self._command("apt-get", "download", package),
            cwd=into,
            check=False,
            capture_output=True,
            text=True,
        )
        for deb in into.glob(f"{package}_*.deb"):
            return deb
        reason = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RealError(f"{package} of {self.suite} cannot be downloaded: {reason}")
