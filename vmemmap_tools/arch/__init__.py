# SPDX-License-Identifier: LGPL-2.1-or-later
"""Address-space layout and page-table format, one data file per architecture."""
