"""Looks at a Dify host from another one, again and again, and says at the end what it saw. Runs on the services host, with Python alone.

    watch.py ADDRESS SECONDS_BETWEEN RESULT_FILE

Until SIGTERM. The result is one JSON object: how often it looked, which ports were ever open, how often the web page answered and did
not, and every moment in which a stranger could have become the first administrator.
"""

from __future__ import annotations

import collections
import json
import signal
import socket
import sys
import time
import urllib.error
import urllib.request

# Web server, api, plugin daemon and its debugging port, console, databases, sandbox, proxies, agents, as upstream's compose file has them.
PORTS = (80, 443, 3000, 5001, 5002, 5003, 5004, 5050, 5432, 6379, 8080, 8194, 3128, 50051)


def fetch(url: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status, json.loads(answer.read() or b"null") if "json" in answer.headers.get("Content-Type", "") else {}
    except urllib.error.HTTPError as error:
        return error.code, {}
    except (OSError, ValueError):
        return 0, {}


def open_port(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=0.05):
            return True
    except OSError:
        return False


def main(address: str, pause: float, target: str) -> None:
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    looks, gaps, start = 0, 0.0, time.monotonic()
    ports: collections.Counter[int] = collections.Counter()
    pages: collections.Counter[int] = collections.Counter()
    claimable: list[dict] = []
    states: collections.Counter[str] = collections.Counter()
    before = start
    while not stop:
        begun = time.monotonic()
        gaps = max(gaps, begun - before)
        before = begun
        looks += 1
        for port in PORTS:
            ports[port] += open_port(address, port)
        if ports[80]:
            pages[fetch(f"http://{address}/")[0]] += 1
            step = fetch(f"http://{address}/console/api/setup")[1].get("step")
            lock = fetch(f"http://{address}/console/api/init")[1].get("status")
            states[f"{step}/{lock}"] += 1
            if step == "not_started" and lock == "finished":
                claimable.append({"second": round(begun - start, 1), "step": step, "init": lock})
        time.sleep(max(0.0, pause - (time.monotonic() - begun)))
    seen = {
        "looks": looks,
        "seconds": round(time.monotonic() - start, 1),
        "longest_pause": round(gaps, 2),
        "open": {str(port): count for port, count in sorted(ports.items()) if count},
        "pages": {str(status): count for status, count in sorted(pages.items())},
        "states": dict(states),
        "claimable": claimable,
    }
    with open(target, "w", encoding="utf-8") as handle:
        json.dump(seen, handle)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
