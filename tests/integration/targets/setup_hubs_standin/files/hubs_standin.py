# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A STAND-IN for the download side of Hugging Face and ModelScope, and for a plain file server. Not the real thing.

The routes and answers are those that huggingface_hub 1.16 and modelscope 1.40 ask for and understand; both real clients download
from it in tests/contract/test_hubs_standin.py. What it does not know it answers with 501.

``python3 hubs_standin.py PORT`` serves on 127.0.0.1 until it is ended. ``POST /_standin/faults`` takes a JSON list of faults,
``GET /_standin/log`` has every request. A fault is ``{"match": part of the path, "kind": ..., "times": n}`` with ``kind`` one of
``status`` (``status``, ``retry_after``), ``cut`` (the connection ends after ``at`` bytes of the body), ``slow`` (``at`` bytes, then
so many seconds of silence as ``seconds`` says), ``wrong`` (one byte differs), ``norange`` (ranges are ignored), ``proxy`` (a proxy's 403).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import tarfile
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "standin-token-0123456789"
KIB = 1024


def made(seed, size):
    """Bytes that look random and are the same every time."""
    block = hashlib.sha256(seed.encode()).digest() * 32
    return (block * (size // len(block) + 1))[:size]


def commit_of(text):
    return hashlib.sha1(text.encode()).hexdigest()  # a name, not a signature


FIRST = {
    ".gitattributes": b"*.safetensors filter=lfs\n",
    "README.md": b"# tiny\n",
    "config.json": json.dumps({"model_type": "tiny", "hidden_size": 8}).encode(),
    "docs/read me.md": b"A path with a space.\n",
    "model-00001-of-00002.safetensors": made("one", 3000 * KIB + 17),
    "model-00002-of-00002.safetensors": made("two", 1500 * KIB),
    "onnx/model.onnx": made("onnx", 64 * KIB),
}
SECOND = {path: content for path, content in FIRST.items() if path not in ("README.md", "docs/read me.md")}
SECOND["model-00002-of-00002.safetensors"] = made("two, trained longer", 1500 * KIB)
# Repository -> commit -> files; the last commit is what main and master mean.
REPOS = {
    "acme/tiny": {commit_of("tiny 1"): FIRST, commit_of("tiny 2"): SECOND},
    "acme/gated": {commit_of("gated"): FIRST},
    "acme/many": {commit_of("many"): {f"part-{number:04d}.txt": str(number).encode() for number in range(1100)}},
}
BRANCHES = ("main", "master")


def is_lfs(path):
    return path.endswith((".safetensors", ".onnx"))


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def blob_id(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def archive(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as pack:
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo("tiny-main/" + path)
            entry.size = len(content)
            pack.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


class State:
    """Shared by all requests of one server. ``heads``: repository -> number of the commit that its branches mean."""

    def __init__(self):
        self.lock = threading.Lock()
        self.log = []
        self.faults = []
        self.heads = {repo: 0 for repo in REPOS}
        self.archive = archive(FIRST)

    def resolve(self, repo, revision):
        """(commit, files), or None."""
        commits = list(REPOS[repo])
        if revision in BRANCHES:
            revision = commits[self.heads[repo]]
        return (revision, REPOS[repo][revision]) if revision in commits else None

    def fault(self, path, kinds):
        with self.lock:
            for fault in self.faults:
                if fault["kind"] in kinds and fault.get("match", "") in path and fault.get("times", 1) > 0:
                    fault["times"] = fault.get("times", 1) - 1
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "hubs-standin"
    disable_nagle_algorithm = True
    state: State

    def log_message(self, format, *args):
        pass

    # Answers

    def begin(self, status, headers, length):
        self.send_response(status)
        self.send_header("X-Stand-In", "hubs")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.entry["status"] = status

    def answer(self, status, body, headers=None, kind="application/json"):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.begin(status, {"Content-Type": kind, **(headers or {})}, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status, code, message):
        """As the Hugging Face Hub says no."""
        self.answer(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message})

    def content(self, body, headers, ranges=True):
        """A file, or what is asked for of it."""
        fault = self.state.fault(self.path, ("cut", "slow", "wrong", "norange"))
        kind = fault["kind"] if fault else ""
        start, status = 0, 200
        wanted = re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range", ""))
        if wanted and ranges and kind != "norange":
            start = int(wanted.group(1))
            if start >= len(body):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
                return
            end = min(int(wanted.group(2) or len(body) - 1), len(body) - 1)
            headers = {**headers, "Content-Range": f"bytes {start}-{end}/{len(body)}"}
            status, part = 206, body[start : end + 1]
        else:
            part = body
        if kind == "wrong" and part:
            part = bytes([part[0] ^ 1]) + part[1:]
        self.begin(status, {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}, len(part))
        if self.command == "HEAD":
            return
        if kind in ("cut", "slow"):
            self.wfile.write(part[: fault["at"]])
            self.wfile.flush()
            self.entry["sent"] = len(part[: fault["at"]])
            if kind == "slow":
                time.sleep(fault.get("seconds", 30))
            self.close_connection = True
            self.connection.close()
            return
        self.entry["sent"] = len(part)
        self.wfile.write(part)

    # Routes

    def do_HEAD(self):
        self.route()

    def do_GET(self):
        self.route()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.entry = {}
        if self.path == "/_standin/faults":
            with self.state.lock:
                self.state.faults = json.loads(body or b"[]")
                self.state.log.clear()
            self.answer(200, {})
        elif self.path == "/_standin/heads":
            self.state.heads.update(json.loads(body))
            self.answer(200, {})
        else:
            self.answer(501, {"error": "the stand-in knows no POST " + self.path})

    def route(self):
        parts = urllib.parse.urlsplit(self.path)
        path, query = urllib.parse.unquote(parts.path), {key: values[0] for key, values in urllib.parse.parse_qs(parts.query).items()}
        self.entry = {
            "method": self.command,
            "path": path,
            "range": self.headers.get("Range"),
            "host": self.headers.get("Host"),
            "token": self.headers.get("Authorization"),
            "sent": 0,
            "status": 0,
        }
        if path == "/_standin/log":
            with self.state.lock:
                self.answer(200, list(self.state.log))
            return
        with self.state.lock:
            self.state.log.append(self.entry)
        fault = self.state.fault(self.path, ("status", "proxy"))
        if fault and fault["kind"] == "proxy":
            self.answer(403, b"<html>Access denied by policy</html>", {"X-Squid-Error": "ERR_ACCESS_DENIED 0"}, "text/html")
        elif fault:
            after = {"Retry-After": str(fault["retry_after"])} if "retry_after" in fault else {}
            self.answer(fault["status"], {"error": "as told"}, after)
        elif path.startswith("/cdn/"):
            self.cdn(path)
        elif path.startswith("/files/"):
            self.plain(path[len("/files/") :])
        elif path.startswith("/api/v1/models/"):
            self.modelscope(path[len("/api/v1/models/") :], query)
        elif path.startswith("/api/models/"):
            self.hub_api(path[len("/api/models/") :], query)
        else:
            self.hub_file(path)

    def authorized(self):
        return self.headers.get("Authorization") == "Bearer " + TOKEN

    def cdn(self, path):
        # As object stores do: a signed address and a token are one too many.
        if self.headers.get("Authorization"):
            self.answer(400, b"<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>", kind="application/xml")
            return
        wanted = path.rpartition("/")[2]
        for commits in REPOS.values():
            for files in commits.values():
                for content in files.values():
                    if sha256(content) == wanted:
                        self.content(content, {"ETag": f'"{wanted}"'})
                        return
        self.answer(403, b"<Error><Code>AccessDenied</Code></Error>", kind="application/xml")

    def plain(self, path):
        if path == "tiny.tar.gz":
            self.content(self.state.archive, {})
        elif path == "tiny/SHA256SUMS":
            self.content("".join(f"{sha256(content)}  {name}\n" for name, content in sorted(FIRST.items())).encode(), {})
        elif path.startswith("tiny/") and path[len("tiny/") :] in FIRST:
            self.content(FIRST[path[len("tiny/") :]], {})
        else:
            self.answer(404, b"<html>404 Not Found</html>", kind="text/html")

    def hub_repo(self, repo, revision):
        """(commit, files) as the Hub lets one see it; otherwise the answer is given."""
        if repo not in REPOS:
            if self.authorized():
                self.error(404, "RepoNotFound", "Repository not found")
            else:
                self.error(401, "RepoNotFound", "Invalid username or password.")
            return None
        found = self.state.resolve(repo, revision)
        if found is None:
            self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    def hub_api(self, path, query):
        match = re.match(r"^([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?$", path)
        if not match:
            self.answer(501, {"error": "the stand-in does not know " + path})
            return
        repo, what, revision = match.group(1), match.group(2), match.group(3) or "main"
        found = self.hub_repo(repo, revision)
        if found is None:
            return
        commit, files = found
        if what == "tree":
            self.hub_tree(repo, revision, files, query)
            return
        siblings = []
        for name, content in sorted(files.items())[:1001]:  # the Hub leaves some out of a long list
            entry = {"rfilename": name}
            if query.get("blobs"):
                entry.update(size=len(content), blobId=blob_id(content))
                if is_lfs(name):
                    entry["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        self.answer(
            200, {"id": repo, "modelId": repo, "sha": commit, "private": False, "gated": "manual" if repo == "acme/gated" else False, "siblings": siblings}
        )

    def hub_tree(self, repo, revision, files, query):
        names = sorted(files)
        first = int(query.get("cursor") or 0)
        page = []
        for name in names[first : first + 1000]:
            content = files[name]
            entry = {"type": "file", "oid": blob_id(content), "size": len(content), "path": name}
            if is_lfs(name):
                entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
            page.append(entry)
        more = {}
        if first + 1000 < len(names):
            more["Link"] = f'<http://{self.headers["Host"]}/api/models/{repo}/tree/{revision}?recursive=true&cursor={first + 1000}>; rel="next"'
        self.answer(200, page, more)

    def hub_file(self, path):
        match = re.match(r"^/([^/]+/[^/]+)/resolve/([^/]+)/(.+)$", path)
        if not match:
            self.answer(501, {"error": "the stand-in does not know " + path})
            return
        repo, revision, name = match.groups()
        found = self.hub_repo(repo, revision)
        if found is None:
            return
        if repo == "acme/gated" and not self.authorized():
            self.error(401, "GatedRepo", "Access to model acme/gated is restricted. You must have access to it and be authenticated to access it.")
            return
        commit, files = found
        if name not in files:
            self.error(404, "EntryNotFound", "Entry not found")
            return
        content = files[name]
        if not is_lfs(name):
            self.content(content, {"X-Repo-Commit": commit, "ETag": f'"{blob_id(content)}"'})
            return
        port = self.server.server_address[1]
        self.answer(
            302,
            b"",
            {
                "Location": f"http://localhost:{port}/cdn/{sha256(content)}?X-Signature=secret-signature",
                "X-Repo-Commit": commit,
                "X-Linked-Etag": f'"{sha256(content)}"',
                "X-Linked-Size": str(len(content)),
            },
        )

    def modelscope(self, path, query):
        match = re.match(r"^([^/]+/[^/]+)(?:/(repo/files|repo|revisions))?$", path)
        if not match:
            self.answer(501, {"error": "the stand-in does not know " + path})
            return
        repo, what = match.group(1), match.group(2) or ""
        if repo not in REPOS or (repo == "acme/gated" and not self.authorized()):
            self.answer(404, {"Code": 10010205001, "Message": "获取模型信息失败，信息不存在", "RequestId": "stand-in", "Success": False})
            return
        found = self.state.resolve(repo, query.get("Revision") or "master")
        if found is None:
            self.answer(404, {"Code": 10010205001, "Message": "the revision does not exist", "RequestId": "stand-in", "Success": False})
            return
        commit, files = found
        if what == "repo/files":
            self.answer(200, self.success({"Files": self.entries(commit, files)}))
        elif what == "repo":
            name = query.get("FilePath", "")
            if name in files:
                self.content(files[name], {"ETag": f'"{sha256(files[name])}"'})
            else:
                self.answer(404, {"Code": 10010205001, "Message": "file not found", "RequestId": "stand-in", "Success": False})
        elif what == "revisions":
            branches = [{"Revision": "master", "CreatedAt": 1700000000}]
            self.answer(200, self.success({"RevisionMap": {"Branches": branches, "Tags": []}}))
        else:
            owner, name = repo.split("/")
            self.answer(200, self.success({"Name": name, "Path": owner, "Visibility": 5, "Revision": "master"}))

    @staticmethod
    def success(data):
        return {"Code": 200, "Data": data, "Message": "success", "RequestId": "stand-in", "Success": True}

    @staticmethod
    def entries(commit, files):
        result = []
        for folder in sorted({name.rpartition("/")[0] for name in files if "/" in name}):
            result.append({"Path": folder, "Name": folder, "Type": "tree", "Size": 0, "Sha256": "", "Revision": commit, "CommittedDate": 1700000000})
        for name, content in sorted(files.items()):
            result.append(
                {
                    "CommittedDate": 1700000000,
                    "CommitterName": "stand-in",
                    "InCheck": False,
                    "IsLFS": is_lfs(name),
                    "Mode": "33188",
                    "Name": name.rpartition("/")[2],
                    "Path": name,
                    "Revision": commit,
                    "Sha256": sha256(content),
                    "Size": len(content),
                    "Type": "blob",
                }
            )
        return result


def serve(port=0):
    """A server in a thread; ``server_address[1]`` is its port, ``state`` what it knows."""
    state = State()
    server = ThreadingHTTPServer(("127.0.0.1", port), type("BoundHandler", (Handler,), {"state": state}))
    server.daemon_threads = True
    server.state = state
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    return server


if __name__ == "__main__":
    running = serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(f"stand-in for Hugging Face and ModelScope on http://127.0.0.1:{running.server_address[1]}", flush=True)
    while True:
        time.sleep(3600)
