from __future__ import annotations

from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import HIDDEN, Difference


def test_equal_values_are_no_difference() -> None:
    difference = Difference()
    assert difference.add("port", 9997, 9997) is False
    assert difference.changed is False
    assert difference.names == []
    assert difference.diff() == {"before": {}, "after": {}}


def test_changed_and_diff_are_the_same_fact() -> None:
    difference = Difference()
    difference.add("same", 1, 1)
    assert difference.add("port", 9998, 9997) is True
    difference.add("address", "::1", None)
    assert difference.changed is True
    assert difference.names == ["address", "port"]
    assert difference.diff() == {"before": {"address": None, "port": 9997}, "after": {"address": "::1", "port": 9998}}
    assert list(difference.diff()["after"]) == ["address", "port"]


def test_a_secret_shows_on_neither_side() -> None:
    difference = Difference()
    difference.add("password", "new-secret", "old-secret", secret=True)
    assert difference.changed is True
    assert "secret" not in str(difference.diff())
    assert difference.diff()["before"] == {"password": HIDDEN}
    # The two sides differ, or a reader would take it for no change.
    assert difference.diff()["after"] != difference.diff()["before"]


def test_an_absent_secret_is_no_secret() -> None:
    created = Difference()
    created.add("key", "secret", None, secret=True)
    assert created.diff()["before"] == {"key": None}
    removed = Difference()
    removed.add("key", None, "secret", secret=True)
    assert removed.diff() == {"before": {"key": HIDDEN}, "after": {"key": None}}


def test_an_equal_secret_is_no_difference() -> None:
    difference = Difference()
    assert difference.add("key", "secret", "secret", secret=True) is False
    assert difference.changed is False


def test_merging_keeps_entries_under_their_owner() -> None:
    inner = Difference()
    inner.add("size", 7, 3)
    inner.add("", "present", "absent")
    outer = Difference()
    outer.merge("models.chat", inner)
    outer.merge("models.embed", Difference())
    assert outer.names == ["models.chat", "models.chat.size"]
    assert outer.diff()["before"]["models.chat.size"] == 3
