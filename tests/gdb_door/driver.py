# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs inside gdb: the commands that `runner` gave, with what each printed."""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from contextlib import redirect_stdout
from typing import Any

import gdb


def main() -> None:
    measured = _coverage()
    namespace: dict[str, Any] = {"gdb": gdb, "__name__": "__main__"}
    answers = [
        _answer(command, namespace)
        for command in json.loads(os.environ["GDB_COMMANDS"])
    ]
    if measured is not None:
        measured.stop()
        measured.save()
    part = os.environ["GDB_ANSWERS"] + ".part"
    with open(part, "w") as file:
        json.dump(answers, file)
    os.rename(part, os.environ["GDB_ANSWERS"])


def _answer(command: str, namespace: dict[str, Any]) -> dict[str, str | None]:
    if command.startswith("python "):
        out = io.StringIO()
        try:
            with redirect_stdout(out):
                exec(command[len("python ") :], namespace)
        except Exception:
            return {"text": out.getvalue(), "error": traceback.format_exc()}
        return {"text": out.getvalue(), "error": None}
    try:
        return {"text": gdb.execute(command, to_string=True), "error": None}
    except gdb.error as error:
        return {"text": "", "error": str(error)}


def _coverage() -> Any:
    directory = os.environ.get("VMEMMAP_TOOLS_GDB_COVERAGE")
    if not directory:
        return None
    import coverage

    measured = coverage.Coverage(
        data_file=os.path.join(directory, "data"),
        data_suffix=True,
        branch=False,
        include=["*/vmemmap_tools/target/*", "*/vmemmap_tools/gdb_door/*"],
        config_file=False,
    )
    measured.start()
    return measured


sys.dont_write_bytecode = True
main()
