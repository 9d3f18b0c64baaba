"""A look at the global heaps of an HDF5 file, which hold its texts: the library does not come back from some damage.

A collection of a global heap is a run of objects, each with its size; one of size 0 lets HDF5 (2.0 and before) go round
for ever, inside a call that nothing can interrupt. HDF5 File Format Specification 3.0, III.E.
"""

from __future__ import annotations

import struct
from pathlib import Path

from fvproc.errors import FileFormatError

MAGIC = b"\x89HDF\r\n\x1a\n"
# attributes are written when a file is made: their texts lie near its beginning, and reading all of it would take long
_LOOKED_AT = 1 << 24
_SIGNATURE = b"GCOL\x01\0\0\0"
_HEAD = struct.Struct("<HHLQ")


def require_sound_heaps(path: str) -> None:
    """Look at the collections in the first 16 MB of a file.

    Raises
    ------
    FileFormatError
        If the objects of one do not fill it.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LOOKED_AT)
            size = file.seek(0, 2)
    except OSError as error:
        raise FileFormatError(f"{path}: the file cannot be read: {error.strerror or error}") from None
    # superblocks of versions 0 and 1 and later ones state the size of lengths at different places
    lengths = content[14 if content[8:9] in (b"\0", b"\1") else 10 :][:1]
    at = content.find(_SIGNATURE) if lengths == b"\x08" else -1
    while at >= 0:
        fault = _fault(content, at, size)
        if fault:
            raise FileFormatError(
                f"{path}: the global heap at byte {at}: {fault}: the HDF5 file is damaged; fetch it again"
            )
        at = content.find(_SIGNATURE, at + 8)


def _fault(content: bytes, at: int, file_size: int) -> str:
    """Tell what is wrong with a collection; empty if nothing is, or where it reaches beyond what was read."""
    if at + 16 > len(content):
        return ""
    length = int.from_bytes(content[at + 8 : at + 16], "little")
    if not 16 <= length <= file_size - at:
        return ""  # the library tells a file that is cut off from one that is damaged
    place = 16
    while place + _HEAD.size <= length and at + place + _HEAD.size <= len(content):
        index, _, _, size = _HEAD.unpack_from(content, at + place)
        # of the room that is free the size counts its head, too
        step = size if index == 0 else _HEAD.size + (size + 7) // 8 * 8
        if step < _HEAD.size or place + step > length:
            return f"an object of {size} bytes at byte {place} of {length}"
        place += step
    return ""
