"""What stays and what changes while dockerd takes over another file: processes, starts, and the configuration it runs with.

Run with `reload` to make dockerd log that configuration first: it does so after each reload, also after one it refused.
"""

import json
import re
import socket
import subprocess
import sys
import time


def run(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def answers(port):
    """network-diagnostic-port is the one key that dockerd does not log."""
    with socket.socket() as client:
        client.settimeout(2)
        return client.connect_ex(("127.0.0.1", port)) == 0


def logged():
    """The configurations in the log of the running dockerd, the latest last."""
    lines = run("journalctl", "-u", "docker", "-o", "json", "--no-pager", "--output-fields=MESSAGE").splitlines()
    return [found for found in (re.search(r'msg="Reloaded configuration: (.*)"$', str(json.loads(line).get("MESSAGE"))) for line in lines) if found]


if sys.argv[1:] == ["reload"]:
    before = len(logged())
    run("systemctl", "reload", "docker")
    for _attempt in range(50):
        if len(logged()) > before:
            break
        time.sleep(0.1)
container = json.loads(run("docker", "inspect", "keys"))[0]["State"]
configurations = logged()
configuration = json.loads(json.loads('"' + configurations[-1].group(1) + '"')) if configurations else {}
configuration["network-diagnostic-port"] = 2017 if answers(2017) else 0
print(
    json.dumps(
        {
            "dockerd": run("systemctl", "show", "docker", "--property=MainPID,ExecMainStartTimestampMonotonic").split(),
            "container": [container["Pid"], container["StartedAt"]],
            "starts": run("journalctl", "-u", "docker", "-o", "cat", "--no-pager").count('msg="Starting up"'),
            "configuration": configuration,
        }
    )
)
