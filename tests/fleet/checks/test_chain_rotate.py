"""Keys are rotated on the running platform: also over a run that was cut off, and never to a state in which nobody can call."""

from __future__ import annotations

import json

from tests.fleet import Fleet
from tests.fleet.checks.conftest import Play
from tests.fleet.checks.playbook import Run

GPU = ["gpu1", "gpu2"]
KEPT = "sudo cat /opt/xinference/credentials.json"
# Asks the server on the host with each key of its file, the predecessor's too, and with the one given on standard input.
ASK = """sudo python3 -c '
import json, sys, urllib.request, urllib.error
def ask(key):
    request = urllib.request.Request("http://127.0.0.1:9997/v1/models", headers={"Authorization": "Bearer " + key})
    try:
        return urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
print(json.dumps([ask(key) for key in json.load(sys.stdin)]))'"""


def keys(fleet: Fleet, host: str) -> dict[str, str]:
    """The valid keys as the host keeps them: ``key`` and, while a rotation is under way, ``previous``."""
    entry = json.loads(fleet.ssh(host, KEPT, check=True).stdout)["api_keys"]["dify"]
    return {"key": entry["key"], **({"previous": entry["previous"]["key"]} if "previous" in entry else {})}


def answers(fleet: Fleet, host: str, *values: str) -> list[int]:
    """HTTP status for each key."""
    return json.loads(fleet.ssh(host, f"echo '{json.dumps(values)}' | {ASK}", check=True).stdout)


def changed(run: Run, host: str) -> list[str]:
    return [result["task"] for result in run.results if result["host"] == host and result["changed"]]


def test_rotation_that_is_cut_off_leaves_both_keys_valid_and_the_next_run_finishes(fleet: Fleet, play: Play, second: Run) -> None:
    old = {host: keys(fleet, host)["key"] for host in GPU}
    # Without its Dify in the run nobody has registered, let alone proven, the new key.
    cut = play("rotate.yml", "--limit", ",".join(GPU))
    assert cut.rc == 0, cut.text[-3000:]
    half = {host: keys(fleet, host) for host in GPU}
    for host in GPU:
        assert half[host]["previous"] == old[host] != half[host]["key"]
        assert answers(fleet, host, old[host], half[host]["key"]) == [200, 200]
        assert "Both keys are valid" in cut.messages(host) or "Both keys are valid" in cut.text

    whole = play("rotate.yml", "--limit", ",".join([*GPU, "dify1"]), "-v")
    assert whole.rc == 0, whole.text[-3000:]
    for host in GPU:
        assert keys(fleet, host) == {"key": half[host]["key"]}, "a third key was made, or the old one is still kept"
        assert answers(fleet, host, old[host], half[host]["key"]) in ([401, 200], [403, 200])
    registered = [result for result in whole.results if result["host"] == "dify1" and result["task"].startswith("Register the models")]
    assert registered and registered[-1]["changed"], changed(whole, "dify1")
    printed = [key for run in (cut, whole) for host in GPU for key in (old[host], half[host]["key"]) if key in run.text]
    assert not printed, "a key is in the output"


def test_nothing_is_left_to_do_after_a_rotation(fleet: Fleet, play: Play, second: Run) -> None:
    run = play("site.yml", "--limit", ",".join([*GPU, "dify1"]), "--tags", "models,registration,verify")
    assert run.rc == 0, run.text[-3000:]
    for host in (*GPU, "dify1"):
        assert run.recap[host].changed == 0, changed(run, host)
