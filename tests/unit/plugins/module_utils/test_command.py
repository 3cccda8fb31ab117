# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _command
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import CANNOT_RUN, NOT_FOUND, TIMED_OUT, run_command


def test_status_output_and_errors_are_told_apart():
    assert run_command(["sh", "-c", "echo out; echo err >&2; exit 3"], 10) == (3, "out\n", "err\n")
    assert run_command(["sh", "-c", "echo err >&2; echo out"], 10, merged=True) == (0, "err\nout\n", "")


def test_commands_speak_english_and_get_no_input(monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run_command(["sh", "-c", "echo $LC_ALL; cat"], 10) == (0, "C\n", "")


def test_output_that_is_no_text_is_no_error():
    assert run_command(["printf", r"\377x"], 10)[1] == "\ufffdx"


def test_commands_are_killed_at_their_timeout_and_what_they_said_is_kept():
    start = time.monotonic()
    assert run_command(["sh", "-c", "echo begun; exec sleep 30"], 0.5) == (TIMED_OUT, "begun\n", "")
    assert time.monotonic() - start < 10


def test_a_process_that_does_not_die_is_left_behind(monkeypatch):
    """Its child keeps the output open, as a process that hangs in a driver does."""
    monkeypatch.setattr(_command, "_KILL_SECONDS", 0.2)
    start = time.monotonic()
    assert run_command(["sh", "-c", "echo begun; sleep 5; true"], 0.5)[:2] == (TIMED_OUT, "begun\n")
    assert time.monotonic() - start < 4


@pytest.mark.parametrize(("name", "status", "error"), [("/no/such/command", NOT_FOUND, ""), ("/etc", CANNOT_RUN, "Permission denied")])
def test_commands_that_cannot_run(name, status, error):
    answer = run_command([name], 1)
    assert answer[:2] == (status, "")
    assert error in answer[2]
