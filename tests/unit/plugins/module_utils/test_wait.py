from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._wait import WaitTimeout, wait_for


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def look_at(states: list):
    """The states one after the other, the last one for ever."""
    seen = iter(states)
    last = [None]

    def look():
        last[0] = next(seen, last[0])
        return last[0]

    return look


def test_a_state_that_is_there_costs_no_pause() -> None:
    clock = Clock()
    assert wait_for(look_at(["READY"]), lambda state: state == "READY", "the model", 60, clock=clock, sleep=clock.sleep) == "READY"
    assert clock.pauses == []


def test_pauses_grow_up_to_their_limit() -> None:
    clock = Clock()
    wait_for(look_at([1, 2, 3, 4, 5, 6]), lambda state: state == 6, "six", 60, interval=1, max_interval=3, clock=clock, sleep=clock.sleep)
    assert clock.pauses == [1, 1.5, 2.25, 3, 3]


def test_the_timeout_says_what_was_seen_last() -> None:
    clock = Clock()
    with pytest.raises(WaitTimeout, match=r"the model did not happen within 10 s; last seen: LOADING") as caught:
        wait_for(look_at(["CREATING", "LOADING"]), lambda state: False, "the model", 10, clock=clock, sleep=clock.sleep)
    assert caught.value.last == "LOADING"
    assert caught.value.waited == pytest.approx(10)
    assert sum(clock.pauses) == pytest.approx(10)


def test_a_state_reached_during_the_last_pause_counts() -> None:
    clock = Clock()
    assert wait_for(lambda: clock.now >= 1010, bool, "ten seconds", 10, interval=4, clock=clock, sleep=clock.sleep) is True


def test_it_looks_once_even_without_time() -> None:
    clock = Clock()
    assert wait_for(lambda: "READY", bool, "it", 0, clock=clock, sleep=clock.sleep) == "READY"
    with pytest.raises(WaitTimeout):
        wait_for(lambda: "", bool, "it", 0, clock=clock, sleep=clock.sleep)
    assert clock.pauses == []
