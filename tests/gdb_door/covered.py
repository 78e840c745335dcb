# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of the gdb door and its target ran inside gdb: prints it, fails below a share.

``python -m tests.gdb_door.covered DIRECTORY``, after the tests ran with
``VMEMMAP_TOOLS_GDB_COVERAGE=DIRECTORY``.
"""

from __future__ import annotations

import sys

import coverage

LEAST = 85.0


def main(directory: str) -> int:
    measured = coverage.Coverage(data_file=f"{directory}/data", config_file=False)
    measured.combine([directory], keep=True)
    share = measured.report(
        include=["*/vmemmap_tools/target/gdb*", "*/vmemmap_tools/gdb_door/*"]
    )
    return int(share < LEAST)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
