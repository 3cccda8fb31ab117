"""Writes the stand-in of libcuda.so.1: an ELF library for x86-64 whose functions return what a profile says.

It is written byte by byte, so that no compiler is needed where a fleet is made. It never talks to a GPU.
"""

from __future__ import annotations

import struct

STAND_IN = b"STAND-IN of libcuda.so.1: constant answers, there is no GPU.\0"
NOT_INITIALIZED = 3
_PAGE = 0x1000
_PT_LOAD, _PT_DYNAMIC, _PT_GNU_STACK = 1, 2, 0x6474E551
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 4, 5, 6, 10, 11, 14
_GLOBAL_FUNCTION = 0x12


def build(devices: int, cuda_version: str, init: int = 0) -> bytes:
    """The library's bytes. init is the CUresult of cuInit; devices and cuda_version ("13.2") are what the others tell."""
    major, minor = (int(part) for part in cuda_version.split(".")[:2])
    functions = {
        "cuInit": _return(init),
        "cuDeviceGetCount": _return(NOT_INITIALIZED) if init else _write(devices),
        "cuDriverGetVersion": _write(major * 1000 + minor * 10),
    }
    return _shared_object("libcuda.so.1", functions)


def _return(value: int) -> bytes:
    # mov eax, value; ret
    return b"\xb8" + struct.pack("<I", value) + b"\xc3"


def _write(value: int) -> bytes:
    # mov dword [rdi], value; xor eax, eax; ret
    return b"\xc7\x07" + struct.pack("<I", value) + b"\x31\xc0\xc3"


def _shared_object(name: str, functions: dict[str, bytes]) -> bytes:
    strings = b"\0" + name.encode() + b"\0"
    names = {}
    for function in functions:
        names[function] = len(strings)
        strings += function.encode() + b"\0"
    count = len(functions) + 1
    # One bucket whose chain has every symbol: three names need no real hash table.
    table = struct.pack(f"<{3 + count}I", 1, count, 1, 0, *range(2, count), 0)
    at_hash = 64 + 4 * 56
    at_symbols = _align(at_hash + len(table))
    at_strings = at_symbols + 24 * count
    at_text = _align(at_strings + len(strings))
    symbols, text = bytes(24), b""
    for function, code in functions.items():
        symbols += struct.pack("<IBBHQQ", names[function], _GLOBAL_FUNCTION, 0, 1, at_text + len(text), len(code))
        text += code.ljust(16, b"\x90")
    entries = [
        (_DT_SONAME, 1),
        (_DT_HASH, at_hash),
        (_DT_STRTAB, at_strings),
        (_DT_SYMTAB, at_symbols),
        (_DT_STRSZ, len(strings)),
        (_DT_SYMENT, 24),
        (0, 0),
    ]
    dynamic = b"".join(struct.pack("<QQ", tag, value) for tag, value in entries)
    end = at_text + len(text)
    # The loader writes addresses into the dynamic section, so it has a writable page of its own.
    segments = [
        _segment(_PT_LOAD, 5, 0, end + len(STAND_IN), _PAGE),
        _segment(_PT_LOAD, 6, _PAGE, len(dynamic), _PAGE),
        _segment(_PT_DYNAMIC, 6, _PAGE, len(dynamic), 8),
        # Without this glibc takes the stack to be executable, and refuses.
        _segment(_PT_GNU_STACK, 6, 0, 0, 16),
    ]
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    image = bytearray(_PAGE + len(dynamic))
    parts = {0: header + b"".join(segments), at_hash: table, at_symbols: symbols, at_strings: strings, at_text: text, end: STAND_IN, _PAGE: dynamic}
    for offset, part in parts.items():
        image[offset : offset + len(part)] = part
    return bytes(image)


def _align(offset: int) -> int:
    return (offset + 15) // 16 * 16


def _segment(kind: int, flags: int, offset: int, size: int, alignment: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, flags, offset, offset, offset, size, size, alignment)
