"""The blocks of an Asylum Research .ARDF file: headers with their checksums, tables of contents, texts.

A block is 16 bytes of header and its content, little-endian::

    checksum (uint32)    CRC-32 of all bytes of the block after this number
    size (uint32)        bytes of the block, header included
    name (4 letters)     what it is
    flags (uint32)

A table is a block of 32 bytes (header, bytes of the whole table as uint64, entries, bytes of an entry as uint32) and
entries that are blocks themselves, each with a pointer (a byte of the file) at its end.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from fvproc.errors import FileFormatError

HEADER_BYTES = 16
TABLE_BYTES = 32
_HEADER = struct.Struct("<II4sI")
_TABLE = struct.Struct("<QII")
_POINTER = struct.Struct("<Q")
_TEXT = struct.Struct("<II")
_PROBE = 64  # bytes that hold most blocks
_BLOCK_BYTES = 16 << 20  # of a block that is read whole, such as a note: real ones take some 100 kB
_TABLE_LIMIT = 256 << 20  # bytes of a table: an entry for each line of a map, or an image

LIST_ENTRY = 24  # header, pointer
TEXT_ENTRY = 32  # header, number, pointer


@dataclass(frozen=True, slots=True)
class Blocks:
    """An open file, from which blocks are read.

    Parameters
    ----------
    path : str
        For wording errors.
    handle : int
        The open file.
    size : int
        Its bytes.
    """

    path: str
    handle: int
    size: int

    def bytes_at(self, place: int, length: int, what: str) -> bytes:
        """Read so many bytes from a place; FileFormatError where the file ends before."""
        if place + length > self.size:
            refuse(
                self.path,
                what,
                f"{length} bytes at byte {place}",
                f"the file ends at byte {self.size}: it is truncated; fetch it again",
            )
        os.lseek(self.handle, place, os.SEEK_SET)
        content = os.read(self.handle, length)
        if len(content) != length:
            refuse(self.path, what, f"{length} bytes at byte {place}", "they cannot be read; fetch the file again")
        return content

    def some(self, place: int, length: int) -> bytes:
        """Read up to so many bytes from a place: fewer where the file ends, none outside it."""
        if not 0 <= place < self.size:
            return b""
        os.lseek(self.handle, place, os.SEEK_SET)
        return os.read(self.handle, length)

    def name_at(self, place: int) -> bytes:
        """Return the name of the block at a place; nothing where the file has ended."""
        return self.some(place, HEADER_BYTES)[8:12]

    def block(self, place: int, name: str, size: int | None = None, *, checked: bool = True) -> bytes:
        """Return a block, header included.

        Parameters
        ----------
        place : int
            Its first byte.
        name : str
            What it must be called.
        size : int, optional
            Bytes that it must have.
        checked : bool
            Whether its checksum must be right.
        """
        content = self.some(place, _PROBE)
        if len(content) < HEADER_BYTES:
            self.bytes_at(place, HEADER_BYTES, name)  # which tells why
        _, told, found, _ = _HEADER.unpack_from(content)
        if found != name.encode():
            refuse(self.path, f"byte {place}", repr(found), f"expected the block {name}: the file is damaged")
        if told != (size or told) or not HEADER_BYTES <= told <= _BLOCK_BYTES:
            refuse(
                self.path, f"{name} at byte {place}", f"size {told}", f"expected {size or 'a sane size'}; fetch again"
            )
        content = content[:told] if told <= len(content) else self.bytes_at(place, told, name)
        if checked:
            check(self.path, name, place, content)
        return content

    def table(self, place: int, name: str, stride: int, *, checked: bool = True) -> tuple[int, bytes]:
        """Return the first byte after a table, and its entries as they lie in the file."""
        head = self.block(place, name, TABLE_BYTES, checked=checked)
        total, count, told = _TABLE.unpack_from(head, HEADER_BYTES)
        if told != stride or total != TABLE_BYTES + count * stride or total > _TABLE_LIMIT:
            refuse(
                self.path,
                f"{name} at byte {place}",
                f"{count} entries of {told} bytes in {total}",
                f"expected entries of {stride} bytes; fetch the file again",
            )
        return place + total, self.bytes_at(place + TABLE_BYTES, count * stride, name)

    def pointers(self, place: int, name: str, stride: int) -> tuple[int, list[tuple[str, int]]]:
        """Return the first byte after a table, and name and pointer of its entries up to the first that is empty."""
        end, content = self.table(place, name, stride)
        found = []
        for start in range(0, len(content), stride):
            entry = content[start : start + stride]
            (pointer,) = _POINTER.unpack_from(entry, stride - _POINTER.size)
            if not pointer:
                break  # the rest is padding
            check(self.path, f"entry of {name}", place + TABLE_BYTES + start, entry)
            found.append((entry[8:12].decode("latin-1"), pointer))
        return end, found

    def text(self, place: int) -> bytes:
        """Return the content of a text block, with lines that end in CR."""
        content = self.block(place, "TEXT")
        if len(content) < HEADER_BYTES + _TEXT.size:
            refuse(self.path, f"TEXT at byte {place}", f"size {len(content)}", "too short; fetch the file again")
        _, length = _TEXT.unpack_from(content, HEADER_BYTES)
        start = HEADER_BYTES + _TEXT.size
        if start + length > len(content):
            refuse(self.path, f"TEXT at byte {place}", f"{length} characters", "it is shorter; fetch the file again")
        return content[start : start + length].replace(b"\r\n", b"\r").replace(b"\n", b"\r")


@contextmanager
def opened(path: str) -> Iterator[Blocks]:
    """Open a file to read blocks of it; an operating system's error becomes a FileFormatError."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise FileFormatError(f"{path}: the file cannot be reached: {error.strerror or error}") from None
    try:
        yield Blocks(path, handle, os.fstat(handle).st_size)
    except OSError as error:
        raise FileFormatError(f"{path}: the file cannot be read: {error.strerror or error}") from None
    finally:
        os.close(handle)


def check(path: str, name: str, place: int, content: bytes | memoryview) -> None:
    """Refuse a block whose checksum is not that of its bytes."""
    told = int.from_bytes(content[:4], "little")
    found = zlib.crc32(content[4:])
    if told != found:
        refuse(
            path,
            f"{name} at byte {place}",
            f"checksum {told:08x}",
            f"its bytes have {found:08x}: the file is damaged; fetch it again",
        )


def text_of(field: bytes) -> str:
    """Return a text of a fixed length, which ends at its first zero."""
    return field.split(b"\0")[0].decode("windows-1252", errors="replace").strip()


def refuse(path: str, field: str, value: str, remedy: str) -> NoReturn:
    """Raise FileFormatError that names file, field, value and remedy."""
    raise FileFormatError(f"{path}: {field}: {value}: {remedy}")
