# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-in of Dify 0.6.13, 0.15.8, 1.7.2, 1.9.2 and 1.16.1 for the embedded test fleet.

It is not Dify: it copies the behaviour of the parts this collection talks to, as recorded in
``tests/contract/recordings/dify`` (see docs/standin-dify.md for what holds each endpoint to the truth).
Whatever it does not copy it answers with 501, so that a test that needs more fails instead of passing on a guess.
"""

# The version that it is when nothing says otherwise (generations.py has them all).
VERSION = "1.16.1"
