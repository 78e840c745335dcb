# SPDX-License-Identifier: LGPL-2.1-or-later
"""The project's benchmark: ``make bench``. Prints figures, asserts none."""
