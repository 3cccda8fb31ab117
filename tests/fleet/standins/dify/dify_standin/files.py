# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where uploaded files, the workspaces' keys and plugin packages lie: a folder, or a bucket of an S3-compatible server."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import hmac
import pathlib
import urllib.error
import urllib.parse
import urllib.request


class Files:
    """Named contents; names have ``/`` in them. A missing one is a ``FileNotFoundError``, all other failures are ``OSError``."""

    def read(self, key: str) -> bytes:
        raise NotImplementedError

    def write(self, key: str, content: bytes) -> None:
        raise NotImplementedError

    def delete(self, key: str) -> None:
        """No error when it is not there."""
        raise NotImplementedError

    def exists(self, key: str) -> bool:
        raise NotImplementedError


class FolderFiles(Files):
    def __init__(self, root: str | pathlib.Path) -> None:
        self.root = pathlib.Path(root)

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def write(self, key: str, content: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if key.startswith("privkeys/"):
            path.chmod(0o600)

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def exists(self, key: str) -> bool:
        return (self.root / key).exists()


@dataclasses.dataclass
class Bucket:
    """As the variables S3_* (api) and S3_*, AWS_* (plugin daemon) name it. Addresses are path-style."""

    endpoint: str = ""
    region: str = "us-east-1"
    name: str = ""
    access_key: str = ""
    secret_key: str = ""


class BucketFiles(Files):
    """Signature version 4, whole objects. A bucket that is not there is made with the first object, as Dify makes it."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def read(self, key: str) -> bytes:
        return self._call("GET", key)

    def write(self, key: str, content: bytes) -> None:
        try:
            self._call("PUT", key, content)
        except FileNotFoundError:
            self._call("PUT", "")
            self._call("PUT", key, content)

    def delete(self, key: str) -> None:
        try:
            self._call("DELETE", key)
        except FileNotFoundError:
            pass

    def exists(self, key: str) -> bool:
        try:
            self._call("HEAD", key)
        except FileNotFoundError:
            return False
        return True

    def _call(self, method: str, key: str, content: bytes = b"") -> bytes:
        path = urllib.parse.quote(f"/{self.bucket.name}/{key}" if key else f"/{self.bucket.name}")
        request = urllib.request.Request(self.bucket.endpoint.rstrip("/") + path, data=content or None, method=method)
        for name, value in self._signature(method, path, content).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # the address is the operator's
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise FileNotFoundError(f"{key} is not in the bucket {self.bucket.name}") from error
            raise OSError(f"{method} {path}: {error.code} {error.read()[:300]!r}") from error

    def _signature(self, method: str, path: str, content: bytes) -> dict[str, str]:
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{now[:8]}/{self.bucket.region}/s3/aws4_request"
        digest = hashlib.sha256(content).hexdigest()
        headers = {"host": urllib.parse.urlsplit(self.bucket.endpoint).netloc, "x-amz-content-sha256": digest, "x-amz-date": now}
        names = ";".join(sorted(headers))
        listed = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = "\n".join([method, path, "", listed, names, digest])
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{self.bucket.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={self.bucket.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        return headers


def open_files(folder: str, bucket: Bucket | None) -> Files:
    return BucketFiles(bucket) if bucket else FolderFiles(folder)


__all__ = ["Bucket", "BucketFiles", "Files", "FolderFiles", "open_files"]
