# SPDX-License-Identifier: LGPL-2.1-or-later
"""Live guests: the tool inside a booted kernel, and outside of it over QMP."""
