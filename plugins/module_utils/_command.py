# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Run one command of the host, never longer than a timeout."""

from __future__ import annotations

import os
import subprocess
import typing as t

# As of a shell and of timeout(1).
TIMED_OUT = 124
CANNOT_RUN = 126
NOT_FOUND = 127

# What runs a command for somebody: words and seconds to exit status, standard output and standard error.
Runner = t.Callable[[t.List[str], float], t.Tuple[int, str, str]]

# A process inside a driver call may outlive SIGKILL (nvidia-smi on a GPU that fell off the bus): it is left behind then.
_KILL_SECONDS = 2.0


def run_command(argv: list[str], timeout: float, merged: bool = False) -> tuple[int, str, str]:
    """Run ``argv`` without input, in the C locale, for at most ``timeout`` seconds; returns exit status, output and errors.

    ``merged`` puts the errors among the output, in the order in which they were written. Nothing is raised: the status is
    :data:`TIMED_OUT` with what was written until then, :data:`NOT_FOUND`, :data:`CANNOT_RUN` with the reason among the
    errors, or minus the number of the signal that ended the command.
    """
    env = dict(os.environ, LC_ALL="C", LANGUAGE="C")
    errors = subprocess.STDOUT if merged else subprocess.PIPE
    try:
        # AnsibleModule.run_command knows no timeout, and one hanging command must not hang the host's whole play.
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=env)  # pylint: disable=ansible-bad-function
    except FileNotFoundError:
        return NOT_FOUND, "", ""
    except OSError as error:
        return CANNOT_RUN, "", str(error)
    status = None
    try:
        out, err = process.communicate(timeout=timeout)
        status = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        try:
            out, err = process.communicate(timeout=_KILL_SECONDS)
        except subprocess.TimeoutExpired as late:
            out, err = late.stdout or b"", late.stderr or b""
        status = TIMED_OUT
    return status, _text(out), _text(err)


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


__all__ = ["CANNOT_RUN", "NOT_FOUND", "TIMED_OUT", "Runner", "run_command"]
