#!/usr/bin/env python3
"""Stand-in for Weaviate, written for the test fleet: says that it is alive, and 501 to everything else.

The Dify stand-in keeps vectors in PostgreSQL; this one only lets the Compose project come up as the real one does.
"""

import http.server
import json
import os
import signal
import sys

VERSION = "1.27.0"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length:
            self.rfile.read(length)
        path = self.path.split("?")[0].rstrip("/")
        if self.command == "GET" and path in ("/v1/.well-known/ready", "/v1/.well-known/live"):
            self.reply(200, b"")
        elif self.command == "GET" and path == "/v1/meta":
            self.reply(200, json.dumps({"hostname": "http://[::]:8080", "modules": {}, "version": VERSION}).encode())
        else:
            text = f"this stand-in for Weaviate does not know {self.command} {path}"
            self.reply(501, json.dumps({"error": [{"message": text}]}).encode())

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer

    def log_message(self, *_arguments) -> None:
        """Health checks would fill the log."""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.makedirs(os.environ.get("PERSISTENCE_DATA_PATH") or "/var/lib/weaviate", exist_ok=True)
    print("weaviate stand-in: listening on port 8080", flush=True)
    http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
