# SPDX-License-Identifier: LGPL-2.1-or-later
"""What backs the ``struct page`` array of a Linux kernel, and is it right?"""

__version__ = "0.1.0"
