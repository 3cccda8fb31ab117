# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""The fingerprint of an OpenPGP public key, so that a key can be checked where gnupg is not installed.

Only what apt repositories use: version 4 keys, armoured or binary (RFC 4880, sections 4.2, 5.5.2, 6.2 and 12.2).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

_ARMOR = re.compile(r"-----BEGIN PGP PUBLIC KEY BLOCK-----[ \t\r]*\n(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL)
_PUBLIC_KEY = 6


class KeyFormatError(ValueError):
    """This is no OpenPGP public key that can be read."""


def _crc24(data: bytes) -> int:
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for dummy in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc & 0xFFFFFF


def dearmor(text: str) -> list[bytes]:
    """The key blocks of an armoured file, binary; raises :class:`KeyFormatError`."""
    blocks = []
    for match in _ARMOR.finditer(text):
        lines = [line.strip() for line in match.group(1).splitlines()]
        # Headers ("Version: ...") end at the first empty line.
        if "" in lines and any(": " in line for line in lines[: lines.index("")]):
            lines = lines[lines.index("") + 1 :]
        checksum = next((line[1:] for line in lines if line.startswith("=")), None)
        try:
            data = base64.b64decode("".join(line for line in lines if line and not line.startswith("=")), validate=True)
            expected = int.from_bytes(base64.b64decode(checksum, validate=True), "big") if checksum else None
        except (binascii.Error, ValueError) as error:
            raise KeyFormatError(f"the key's armour cannot be decoded: {error}") from error
        if expected is not None and _crc24(data) != expected:
            raise KeyFormatError("the key is damaged: its armour's checksum does not fit")
        blocks.append(data)
    if not blocks:
        raise KeyFormatError("there is no PGP PUBLIC KEY BLOCK in it")
    return blocks


def _packets(data: bytes) -> list[tuple[int, bytes]]:
    """(tag, body) of each packet."""
    found = []
    at = 0
    while at < len(data):
        head = data[at]
        at += 1
        if not head & 0x80:
            raise KeyFormatError("it is no OpenPGP data")
        if head & 0x40:
            tag = head & 0x3F
            first = data[at]
            if first < 192:
                length, at = first, at + 1
            elif first < 224:
                length, at = ((first - 192) << 8) + data[at + 1] + 192, at + 2
            elif first == 255:
                length, at = int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
            else:
                raise KeyFormatError("it has a packet of unknown length")
        else:
            tag = (head >> 2) & 0x0F
            width = {0: 1, 1: 2, 2: 4}.get(head & 3)
            if width is None:
                raise KeyFormatError("it has a packet of unknown length")
            length, at = int.from_bytes(data[at : at + width], "big"), at + width
        if at + length > len(data):
            raise KeyFormatError("it is cut short")
        found.append((tag, data[at : at + length]))
        at += length
    return found


def fingerprints(text: str) -> list[str]:
    """Fingerprints of the primary keys in an armoured file: 40 upper-case hex digits each. Raises :class:`KeyFormatError`."""
    found = []
    for block in dearmor(text):
        try:
            packets = _packets(block)
        except IndexError as error:
            raise KeyFormatError("it is cut short") from error
        for tag, body in packets:
            if tag != _PUBLIC_KEY:
                continue
            if body[:1] != b"\x04":
                raise KeyFormatError("it is no version 4 key")
            # SHA-1 is what defines a version 4 fingerprint; it is a name here, not a signature.
            found.append(hashlib.new("sha1", b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest().upper())
    if not found:
        raise KeyFormatError("there is no primary key in it")
    return found


def normal_fingerprint(text: str) -> str:
    """A fingerprint as people write it (blanks, colons, small letters) in the form of :func:`fingerprints`."""
    return re.sub(r"[\s:]", "", text).upper()


__all__ = ["KeyFormatError", "dearmor", "fingerprints", "normal_fingerprint"]
