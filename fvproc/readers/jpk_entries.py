"""Entries of a ZIP archive into memory: neighbours by one read, each checked against its checksum."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from fvproc.errors import FileFormatError
from fvproc.readers.blocks import read_block
from fvproc.readers.jpk_directory import Directory, directory

_LOCAL_BYTES = 30
_LOCAL = int.from_bytes(b"PK\x03\x04", "little")
_GAP = 1 << 16  # bytes between two entries that cost less to read than another seek
_RUN = 8 << 20
_RATIO = 1032  # deflate cannot do better
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 1


def read_entry(path: str, name: str) -> bytes:
    """Return one entry outside ``index/``; FileFormatError if the archive has none of that name."""
    found = directory(path)
    if name not in found.plain:
        raise FileFormatError(f"{path}: the JPK archive holds no {name}: it is not complete; export the file again")
    return bytes(read_entries(path, found, np.array([found.plain[name]]))[0])


def read_entries(path: str, found: Directory, entries: np.ndarray) -> list[bytes | memoryview]:
    """Return the content of entries in the order given.

    The interpreter is free for other threads while an entry is decompressed, so that tiles, which are read in parallel,
    decompress in parallel.

    Parameters
    ----------
    path : str
        The archive.
    found : Directory
        Of the archive.
    entries : ndarray of int, shape (count,)
        Entry numbers.

    Raises
    ------
    FileFormatError
        If an entry is damaged or stored in a way other than ZIP's own two.
    """
    contents: list[bytes | memoryview] = [b""] * len(entries)
    order = np.argsort(found.offset[entries], kind="stable")
    for run in _runs(found, entries[order]):
        for place, content in zip(order[run].tolist(), _read_run(path, found, entries[order[run]]), strict=True):
            contents[place] = content
    return contents


def _runs(found: Directory, entries: np.ndarray) -> Iterator[slice]:
    """Cut entries in the order of the file into runs that are worth one read."""
    if not len(entries):
        return
    start, reach = found.offset[entries], found.reach[entries]
    apart = np.flatnonzero(start[1:] - reach[:-1] > _GAP) + 1
    for begin, end in zip([0, *apart.tolist()], [*apart.tolist(), len(entries)], strict=True):
        first = begin
        while first < end:
            last = int(np.searchsorted(reach[first:end], start[first] + _RUN, side="right")) + first
            last = max(last, first + 1)
            yield slice(first, last)
            first = last


def _read_run(path: str, found: Directory, entries: np.ndarray) -> list[bytes | memoryview]:
    start = int(found.offset[entries[0]])
    octets = read_block(path, start, np.uint8, (int(found.reach[entries[-1]]) - start,))
    at = found.offset[entries] - start
    signature = sum(octets[at + byte].astype(np.int64) << 8 * byte for byte in range(4))
    skip = sum(octets[at + byte].astype(np.int64) << 8 * (byte % 2) for byte in (26, 27, 28, 29))
    begin = at + _LOCAL_BYTES + skip
    end = begin + found.compressed[entries]
    method, flags = found.method[entries], found.flags[entries]
    odd = (signature != _LOCAL) | (end > found.reach[entries] - start)
    if odd.any():
        _refuse(path, start + int(at[np.argmax(odd)]), "is not where the directory says")
    odd = ((method != _STORED) & (method != _DEFLATED)) | (flags & _ENCRYPTED != 0)
    if odd.any():
        number = int(np.argmax(odd))
        how = "encrypted" if flags[number] & _ENCRYPTED else f"compressed by method {method[number]}"
        raise FileFormatError(
            f"{path}: the entry at byte {start + int(at[number])} is {how}: only stored and deflated entries can be"
            " read; pack the archive again"
        )
    view = octets.data
    contents: list[bytes | memoryview] = []
    size = found.size[entries]
    room = np.maximum(np.minimum(size, _RATIO * (end - begin) + 1), 1)  # a damaged size must not ask for gigabytes
    columns = (begin, end, method == _DEFLATED, size, room, found.crc[entries])
    for first, last, deflated, length, most, checksum in zip(*(column.tolist() for column in columns), strict=True):
        content: bytes | memoryview = view[first:last]
        if deflated:
            try:
                content = zlib.decompress(content, -zlib.MAX_WBITS, most)
            except zlib.error as error:
                _refuse(path, start + first, f"cannot be decompressed ({error})")
        if len(content) != length or zlib.crc32(content) != checksum:
            _refuse(path, start + first, "does not have the content that its checksum stands for")
        contents.append(content)
    return contents


def _refuse(path: str, byte: int, what: str) -> None:
    raise FileFormatError(f"{path}: the entry at byte {byte} {what}: the file is damaged; fetch it again")
