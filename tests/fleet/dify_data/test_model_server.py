"""A model server's home restored in place: accounts, registrations and autostart are there afterwards, and the models serve."""

from __future__ import annotations

import json
import shlex
import time
from typing import Any

from tests.fleet import Fleet
from tests.fleet.suite import Play

KEY = "a key for these tests only"
GPU = ["--limit", "gpu1", "-e", f"dify_backup_key='{KEY}'"]

# On the host, with the server's own account. An argument adds what no inventory declares: a registration, and a model started with the server.
PROGRAM = """
import json, sys, time, urllib.request as web
kept = json.load(open('/opt/xinference/credentials.json'))
def ask(path, body=None, method=None, token=''):
    headers = {'Content-Type': 'application/json', **({'Authorization': 'Bearer ' + token} if token else {})}
    answer = web.urlopen(web.Request('http://127.0.0.1:9997' + path, json.dumps(body).encode() if body else None, headers, method=method), timeout=120).read()
    return json.loads(answer) if answer else None
token = ask('/token', {k: kept['admin'][k] for k in ('username', 'password')})['access_token']
def entries():
    return [entry['launch'] for entry in ask('/v1/autostart/models', token=token)['models']]
if sys.argv[1:] == ['add']:
    model = json.load(open('/opt/xinference/data/model/v2/embedding/tiny-embedding.json'))
    model['model_name'] = 'kept-embedding'
    if all(m['model_name'] != 'kept-embedding' for m in ask('/v1/model_registrations/embedding', token=token)):
        ask('/v1/model_registrations/embedding', {'model': json.dumps(model), 'persist': True}, token=token)
    launch = {**next(e for e in entries() if e['model_uid'] == 'embed'), 'model_uid': 'kept', 'model_name': 'kept-embedding'}
    ask('/v1/autostart/models', {'launch': launch, 'priority': 200, 'enabled': True}, token=token)
    # An entry that is switched on is launched at once as well.
    until = time.time() + 120
    while 'kept' not in [m['id'] for m in ask('/v1/models', token=token)['data']] and time.time() < until:
        time.sleep(2)
own = sorted(m['model_name'] for kind in ('LLM', 'embedding', 'rerank') for m in ask('/v1/model_registrations/' + kind, token=token) if not m['is_builtin'])
serving = sorted(m['id'] for m in ask('/v1/models', token=token)['data'])
vectors = [ask('/v1/embeddings', {'model': uid, 'input': 'the same'}, token=token)['data'][0]['embedding'][:4] for uid in serving if uid in ('embed', 'kept')]
with_key = ask('/v1/models', token=kept['api_keys']['dify']['key'])
print(json.dumps([kept, own, sorted(e['model_uid'] for e in entries()), serving, vectors, len(with_key['data'])]))
"""


def told(fleet: Fleet, *arguments: str) -> list[Any]:
    """Credentials that work, own registrations, autostart entries, what serves, vectors, and what the key of Dify sees."""
    done = fleet.ssh("gpu1", f"sudo python3 -c {shlex.quote(PROGRAM)} {' '.join(arguments)}", timeout=300)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_a_lost_home_is_restored_in_place(fleet: Fleet, play: Play) -> None:
    play("site.yml", "--limit", "gpu1")
    before = told(fleet, "add")
    print(before[1:4])
    assert "kept-embedding" in before[1] and "kept" in before[2] and "kept" in before[3]
    play("backup.yml", *GPU)
    # Everything that the backup is for is lost.
    fleet.ssh(
        "gpu1", "sudo docker stop xinference; cd /opt/xinference && sudo rm -rf credentials.json launched.json data/auth data/model data/*.db*", check=True
    )
    run = play("restore.yml", *GPU, "-e", "restore_xinference=true")
    until = time.monotonic() + 180
    while (after := told(fleet)) != before:
        assert time.monotonic() < until, (after[1:], before[1:])
        time.sleep(5)
    print(f"restored in place in {run.seconds:.0f} s: {after[1:4]}")
    assert fleet.ssh("gpu1", "sudo ls -A /opt/xinference | grep -E 'aside|restore'").stdout == ""


def test_a_wrong_key_leaves_the_server_alone(fleet: Fleet, play: Play) -> None:
    since = "sudo docker inspect -f '{{.State.StartedAt}} {{.State.Status}}' xinference"
    before = fleet.ssh("gpu1", since, check=True).stdout
    run = play("restore.yml", "--limit", "gpu1", "-e", "dify_backup_key='not the key at all'", "-e", "restore_xinference=true", expected=2)
    assert "another key" in run.messages("gpu1"), run.messages("gpu1")
    assert fleet.ssh("gpu1", since, check=True).stdout == before
