# SPDX-License-Identifier: LGPL-2.1-or-later
"""Capsules: a small vmcore with what the verbs read, and none of its machine's data.

`capture` runs the analyses over a recorder, `write_elf` and `write_kdump_file` store
what was read. What else lies in the same pages is not carried.
"""

from .capture import Capsule, capture
from .write import write_elf, write_kdump_file

__all__ = ["Capsule", "capture", "write_elf", "write_kdump_file"]
