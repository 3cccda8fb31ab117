from __future__ import annotations

from tests.tools.preflight_docs import FILE, document


def test_the_documentation_is_what_the_checks_are() -> None:
    assert FILE.read_text() == document(), "run: python -m tests.tools.preflight_docs"
