# SPDX-License-Identifier: LGPL-2.1-or-later
"""``set vmemmap ...``, ``show vmemmap ...``: the options of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gdb

from ..target.base import TYPE_SOURCES, TypeSource
from ..target.gdb import PHYSICAL_MODES
from ..target.vmcoreinfo import read_vmcoreinfo

__all__ = ["Settings", "budget", "register_parameters", "settings"]


@dataclass(frozen=True)
class Settings:
    """How the kernel is to be opened, as the user has set it."""

    types: TypeSource = "auto"
    physical: str = "auto"
    symbols: tuple[str, ...] = ()
    vmcoreinfo: str | None = None

    def vmcoreinfo_text(self) -> str | None:
        """The text in the file that was named. Raises `TargetError`."""
        return None if self.vmcoreinfo is None else read_vmcoreinfo(self.vmcoreinfo)


class _Setting(gdb.Parameter):  # type: ignore[misc]
    """One parameter. Without a text for ``set`` old versions of gdb print one."""

    def get_set_string(self) -> str:
        return ""

    def get_show_string(self, value: str) -> str:
        return f"{self.show_doc.rstrip('.')}: {value or 'nothing'}."


@dataclass(frozen=True)
class _Kind:
    """What there is to know of a parameter: its gdb type, its words, its choices."""

    code: int
    doc: str
    help_text: str
    choices: tuple[str, ...] = ()

    @property
    def default(self) -> str | int:
        if self.code == gdb.PARAM_ZUINTEGER:
            return 0
        return self.choices[0] if self.choices else ""


PARAMETERS = {
    "types": _Kind(
        gdb.PARAM_ENUM,
        "where type layouts come from",
        "auto takes BTF where there is some, since gdb reads DWARF slowly, then\n"
        "DWARF, then VMCOREINFO.",
        TYPE_SOURCES,
    ),
    "phys-mode": _Kind(
        gdb.PARAM_ENUM,
        "how physical memory is read",
        "qemu switches QEMU's stub to physical addresses for each read, core takes\n"
        "the addresses in a core's headers, directmap the kernel's map of all memory.",
        PHYSICAL_MODES,
    ),
    "symbols": _Kind(
        gdb.PARAM_STRING_NOESCAPE,
        "vmlinux or BTF files to use before what gdb has loaded",
        "FILE...; a System.map serves where there is no vmlinux. Empty for what gdb\n"
        "has loaded.",
    ),
    "vmcoreinfo": _Kind(
        gdb.PARAM_OPTIONAL_FILENAME,
        "a file with VMCOREINFO text, for a target without it",
        "Empty for what the target has.",
    ),
    "budget": _Kind(
        gdb.PARAM_ZUINTEGER,
        "how many bytes a command may fetch from a stub",
        "For slow lines, such as kgdb's. What was fetched is kept until the machine\n"
        "runs: the same command again comes further. 0 for no limit.",
    ),
}


def register_parameters() -> None:
    """Make the parameters known to gdb; doing so again keeps what was set."""
    before = {name: _value(name) for name in PARAMETERS}
    for word in ("set", "show"):
        type(
            "Prefix", (gdb.Command,), {"__doc__": "Settings of the vmemmap commands."}
        )(f"{word} vmemmap", gdb.COMMAND_DATA, prefix=True)
    for name, kind in PARAMETERS.items():
        texts = {
            "set_doc": f"Set {kind.doc}.",
            "show_doc": f"{kind.doc[0].upper()}{kind.doc[1:]}.",
            "__doc__": kind.help_text,
        }
        choices = (kind.choices,) if kind.choices else ()
        made = type("Setting", (_Setting,), texts)(
            f"vmemmap {name}", gdb.COMMAND_DATA, kind.code, *choices
        )
        made.value = before[name] or kind.default


def _value(name: str) -> Any:
    try:
        return gdb.parameter(f"vmemmap {name}")
    except RuntimeError:
        return None


def settings() -> Settings:
    """The settings as they are now."""
    return Settings(
        _value("types"),
        _value("phys-mode"),
        tuple(gdb.string_to_argv(_value("symbols") or "")),
        _value("vmcoreinfo") or None,
    )


def budget() -> int:
    """How many bytes a command may fetch from a stub, 0 for any number."""
    return int(_value("budget") or 0)
