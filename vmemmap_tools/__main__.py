# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python -m vmemmap_tools``: the program ``vmemmap``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
