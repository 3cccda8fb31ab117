"""An S3-compatible server that checks signatures, for tests: moto's, of the Python index, in a virtual environment of its own.

Accounts and buckets are made with boto3, so that nothing of the collection is tested by itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

MOTO = "5.2.5"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "llmops-dify-xinference" / f"moto-{MOTO}"

_SETUP = """
import boto3, json, sys
more = dict(endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id='x', aws_secret_access_key='x')
iam = boto3.client('iam', **more)
iam.create_user(UserName='backup')
rules = [{'Effect': 'Allow', 'Action': 's3:*', 'Resource': '*'}]
iam.put_user_policy(UserName='backup', PolicyName='all', PolicyDocument=json.dumps({'Version': '2012-10-17', 'Statement': rules}))
key = iam.create_access_key(UserName='backup')['AccessKey']
boto3.client('s3', **more).create_bucket(Bucket='backups')
print(json.dumps([key['AccessKeyId'], key['SecretAccessKey']]))
"""


class Server(NamedTuple):
    endpoint: str
    access_key: str
    secret_key: str
    bucket: str = "backups"


def ensure() -> Path:
    """Folder of the programs; made when it is not there."""
    programs = CACHE / "bin"
    if not (CACHE / "done").exists():
        subprocess.run(["python3", "-m", "venv", "--clear", str(CACHE)], check=True)
        subprocess.run([str(programs / "pip"), "install", "-q", "--disable-pip-version-check", f"moto[server,s3,iam]=={MOTO}"], check=True)
        (CACHE / "done").touch()
    return programs


@contextmanager
def serve(port: int) -> Iterator[Server]:
    """A server on loopback with one bucket and one account; from then on every request has to be signed by it."""
    programs = ensure()
    endpoint = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "1000", "MOTO_S3_DEFAULT_MAX_KEYS": "20"}
    command = [str(programs / "python"), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.5)
        done = subprocess.run([str(programs / "python"), "-c", _SETUP, endpoint], env=environment, check=True, capture_output=True, text=True)
        asked = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}, method="POST")
        urllib.request.urlopen(asked, timeout=10).close()
        yield Server(endpoint, *json.loads(done.stdout))
    finally:
        process.terminate()
        process.wait(30)
