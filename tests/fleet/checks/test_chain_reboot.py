"""After a reboot the declared state serves again by itself, and a run finds nothing to do."""

from __future__ import annotations

import re
import time

from tests.fleet import Fleet
from tests.fleet.checks.playbook import Run
from tests.fleet.suite import Play

PATIENCE = 300.0

# Asks the server on the host with the key that is kept there, and prints the status; nothing of the key is printed.
ASK = """sudo python3 - <<'ASK'
import json, urllib.request, urllib.error
key = json.load(open("/opt/xinference/credentials.json"))["api_keys"]["dify"]["key"]
request = urllib.request.Request("http://127.0.0.1:9997/v1/models/{uid}", headers={{"Authorization": "Bearer " + key}})
try:
    print(urllib.request.urlopen(request, timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError as error:
    print(error)
ASK"""


def test_models_and_dify_come_back_after_a_reboot(fleet: Fleet, play: Play, second: Run) -> None:
    for host in ("dify1", "gpu1"):
        fleet.reboot(host)
    started = time.monotonic()
    said = ""
    while time.monotonic() - started < PATIENCE and said != "200":
        said = fleet.ssh("gpu1", ASK.format(uid="chat")).stdout.strip()
        time.sleep(2)
    print(f"the model serves again {time.monotonic() - started:.0f} s after the host is up")
    assert said == "200", f"no answer of the model within {PATIENCE:.0f} s; last: {said}"
    run = play("site.yml", "--limit", "gpu1,gpu2,dify1")
    assert run.rc == 0, run.text[-3000:]
    for host in ("gpu1", "gpu2", "dify1"):
        changed = [result["task"] for result in run.results if result["host"] == host and result["changed"]]
        assert run.recap[host].changed == 0, changed
    assert re.search(r"dify1: ok - .{0,300}; answered", run.said), "Dify was not asked, or did not answer, after the reboot"
