from __future__ import annotations

from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import HIDDEN, Difference


def test_equal_values_are_no_difference() -> None:
    difference = Difference()
    assert difference.add("port", 9997, 9997) is False
    assert difference.changed is False
    assert difference.diff() == {"before": {}, "after": {}}
