# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where bytes, symbols and types come from. May import ``formats`` and ``arch``."""
