# SPDX-License-Identifier: LGPL-2.1-or-later
"""Answers made from the kernel views. Reads only through views, never prints."""
