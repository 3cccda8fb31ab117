# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Parts of a backup, encrypted with a key of the user's and authenticated: first encrypted, then checked over what lies on disk.

Python's standard library has no cipher, so ``openssl`` (on every host that has ``ca-certificates``) encrypts: AES-256 in counter
mode, key by PBKDF2-HMAC-SHA256. Counter mode notices no change, so the manifest holds the SHA-256 of each encrypted part, and an
HMAC-SHA256 with a key derived from the same words holds the manifest. Without this collection a part is opened with
``openssl enc -d -aes-256-ctr -pbkdf2 -iter 200000 -md sha256 -pass file:KEYFILE -in PART``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import threading
import typing as t

CIPHER = "aes-256-ctr"
ITERATIONS = 200000
SHORTEST_KEY = 12
BLOCK = 1 << 20
_KEY_CHECK = b"llmops backup key check"


class BackupError(Exception):
    """A backup cannot be made, read or used; the message says what was found and what to do next."""


def check_key(key: str) -> None:
    if len(key or "") < SHORTEST_KEY:
        raise BackupError(
            f"The backup's key has {len(key or '')} characters; give at least {SHORTEST_KEY} (dify_backup_key), and keep it outside of "
            "these hosts: without it no backup can be opened."
        )
    if "\n" in key or "\r" in key or "\0" in key:
        raise BackupError("The backup's key holds a line break; openssl reads one line. Use another key.")


def authentication_key(key: str, salt: bytes, iterations: int = ITERATIONS) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", key.encode(), b"authentication" + salt, iterations)


def key_check(secret: bytes) -> str:
    """Tells a wrong key from damage; says nothing about the key."""
    return hmac.new(secret, _KEY_CHECK, "sha256").hexdigest()[:32]


def signature(secret: bytes, content: bytes) -> str:
    return hmac.new(secret, content, "sha256").hexdigest()


def canonical(manifest: dict[str, t.Any]) -> bytes:
    return (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()


def open_manifest(content: bytes, signed: str, key: str, where: str) -> dict[str, t.Any]:
    """The manifest, when it is whole and the key is its key. Raises :class:`BackupError`, which tells the two apart."""
    damaged = f"{where} is damaged: its manifest is not what was written. Nothing was changed; use another backup."
    try:
        manifest = json.loads(content)
        seal = manifest["seal"]
        secret = authentication_key(key, bytes.fromhex(seal["salt"]), int(seal["iterations"]))
        wanted = str(seal["key_check"])
    except (ValueError, KeyError, TypeError) as error:
        raise BackupError(damaged) from error
    if not hmac.compare_digest(key_check(secret), wanted):
        raise BackupError(f"{where} was made with another key than the one given (dify_backup_key). Nothing was changed.")
    if not hmac.compare_digest(signature(secret, content), signed.strip()):
        raise BackupError(damaged)
    return manifest


def sha256_of(path: str) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(BLOCK), b""):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def _openssl(arguments: list[str], key: str, **streams: t.Any) -> subprocess.Popen:
    """Start openssl; the key goes through a pipe: never on a command line, in the environment or in a file."""
    reading, writing = os.pipe()
    argv = ["openssl", "enc", f"-{CIPHER}", "-pbkdf2", "-iter", str(ITERATIONS), "-md", "sha256", "-pass", f"fd:{reading}", *arguments]
    try:
        # AnsibleModule.run_command cannot stream.
        process = subprocess.Popen(argv, pass_fds=(reading,), stderr=subprocess.PIPE, **streams)  # pylint: disable=ansible-bad-function
        os.write(writing, key.encode() + b"\n")
    except FileNotFoundError as error:
        raise BackupError("openssl is not on this host; install the package openssl.") from error
    finally:
        os.close(reading)
        os.close(writing)
    return process


def _gather(process: subprocess.Popen, name: str) -> tuple[threading.Thread, list[bytes]]:
    """What a process writes to its standard error, read beside, so that it never waits for us."""
    words: list[bytes] = []
    reader = threading.Thread(target=lambda: words.append(process.stderr.read()), name=name, daemon=True)  # type: ignore[union-attr]
    reader.start()
    return reader, words


def _start(argv: list[str], **streams: t.Any) -> subprocess.Popen:
    try:
        environment = dict(os.environ, LC_ALL="C")
        return subprocess.Popen(argv, stderr=subprocess.PIPE, env=environment, **streams)  # pylint: disable=ansible-bad-function
    except OSError as error:
        raise BackupError(f"{argv[0]} cannot be run: {error}") from error


def _told(argv: list[str], status: int, words: list[bytes], doing: str) -> BackupError:
    text = b"".join(words).decode("utf-8", "replace").strip()
    return BackupError(f"{doing} failed: {' '.join(argv[:6])} ended with {status}: {text[-600:] or 'no message'}")


def seal(producer: list[str], path: str, key: str, doing: str) -> tuple[int, str]:
    """Encrypt what a command writes into ``path`` (0600). Returns size and SHA-256 of what the command wrote."""
    digest, size = hashlib.sha256(), 0
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
        source = _start(producer, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        cipher = _openssl(["-e", "-salt"], key, stdin=subprocess.PIPE, stdout=target)
        readers = [_gather(source, "source"), _gather(cipher, "cipher")]
        broken = False
        try:
            for block in iter(lambda: source.stdout.read(BLOCK), b""):  # type: ignore[union-attr]
                digest.update(block)
                size += len(block)
                cipher.stdin.write(block)  # type: ignore[union-attr]
            cipher.stdin.close()  # type: ignore[union-attr]
        except BrokenPipeError:
            broken = True  # openssl says why, most often that the disk is full
            source.kill()
        for reader, words in readers:
            reader.join()
        cipher_status, source_status = cipher.wait(), source.wait()
        if cipher_status != 0 or broken:
            raise _told(["openssl"], cipher_status, readers[1][1], f"Writing {path}")
        if source_status != 0:
            raise _told(producer, source_status, readers[0][1], doing)
        os.fsync(target.fileno())
    return size, digest.hexdigest()


def unseal(path: str, consumer: list[str], key: str, doing: str) -> tuple[int, str]:
    """Decrypt a part into the standard input of a command. Returns size and SHA-256 of what went there."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as source:
        cipher = _openssl(["-d"], key, stdin=source, stdout=subprocess.PIPE)
        sink = _start(consumer, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        readers = [_gather(cipher, "cipher"), _gather(sink, "sink")]
        try:
            for block in iter(lambda: cipher.stdout.read(BLOCK), b""):  # type: ignore[union-attr]
                digest.update(block)
                size += len(block)
                sink.stdin.write(block)  # type: ignore[union-attr]
            sink.stdin.close()  # type: ignore[union-attr]
        except BrokenPipeError:
            cipher.kill()
        for reader, words in readers:
            reader.join()
        sink_status, cipher_status = sink.wait(), cipher.wait()
        if sink_status != 0:
            raise _told(consumer, sink_status, readers[1][1], doing)
        if cipher_status != 0:
            raise _told(["openssl"], cipher_status, readers[0][1], f"Reading {path}")
    return size, digest.hexdigest()


__all__ = [
    "BLOCK",
    "CIPHER",
    "ITERATIONS",
    "SHORTEST_KEY",
    "BackupError",
    "authentication_key",
    "canonical",
    "check_key",
    "key_check",
    "open_manifest",
    "seal",
    "sha256_of",
    "signature",
    "unseal",
]
