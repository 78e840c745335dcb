# SPDX-License-Identifier: LGPL-2.1-or-later
"""File formats, read and written. Know no kernel; import the standard library only."""
