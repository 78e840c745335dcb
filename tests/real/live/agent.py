# SPDX-License-Identifier: LGPL-2.1-or-later
"""Inside the guest: does what the host asks for through a virtio port.

A request is a line of JSON, ``{"do": NAME, ...}``, and so is the answer. Runs in the
guest's Python with nothing but what `bundle` put there.
"""

from __future__ import annotations

import glob
import json
import os
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.drgn_open import open_live

from .rounds import play_round, print_verb

PORT_NAME = "agent"


def run(command: list[str], limit: float = 600) -> dict[str, Any]:
    """Run a program to its end."""
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
    )
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr}


class Opened:
    """The kernel that verbs are asked about, kept from one request to the next."""

    kernel: Kernel


def open_kernel() -> None:
    """Open the running kernel, or open it again."""
    Opened.kernel = Kernel(open_live())


def write(path: str, text: str) -> None:
    """Make an executable file."""
    Path(path).write_text(text)
    os.chmod(path, 0o755)


ACTIONS: dict[str, Callable[..., Any]] = {
    "run": run,
    "write": write,
    "open": open_kernel,
    "verb": lambda words, form: print_verb(Opened.kernel, words, form),
    "verb_anew": lambda words, form: print_verb(Opened.kernel.fresh(), words, form),
    "round": lambda: play_round(Opened.kernel),
}


def answer(line: str) -> dict[str, Any]:
    """Do what one line asks for; a failure is an answer, too."""
    request: dict[str, Any] = json.loads(line)
    try:
        return {"answer": ACTIONS[request.pop("do")](**request)}
    except Exception:
        return {"failure": traceback.format_exc()}


def port() -> str:
    """The device of the port that QEMU named `PORT_NAME`."""
    while True:
        for name in glob.glob("/sys/class/virtio-ports/*/name"):
            with open(name) as file:
                if file.read().strip() == PORT_NAME:
                    return "/dev/" + name.split("/")[-2]
        time.sleep(0.1)


def main() -> None:
    """Answer requests for ever."""
    device = os.open(port(), os.O_RDWR)  # a port can be open only once
    pending = b""
    while True:
        chunk = os.read(device, 65536)
        if not chunk:  # nobody is connected yet
            time.sleep(0.1)
        pending += chunk
        while b"\n" in pending:
            line, pending = pending.split(b"\n", 1)
            left = memoryview(json.dumps(answer(line.decode())).encode() + b"\n")
            while left:
                left = left[os.write(device, left) :]


if __name__ == "__main__":
    os.chdir("/run")
    main()
