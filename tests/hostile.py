"""Changed copies of files, and what must hold when fvproc meets them: its own error or numbers, soon and small."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import fvproc as fv
from fvproc import readers
from fvproc.errors import FvprocError
from fvproc.volume import Tile

resource = pytest.importorskip("resource")  # Unix tells how much memory was taken

SECONDS = 5.0
BYTES = 1 << 30
_LIES = [-1, 0, 1, 2**15, 2**31 - 1, -(2**31), 2**32 - 1, 0x7FFFFFF0, 10**9]
_TEXTS = [b"-1", b"0", b"999999999", b"1e999", b"nan", b"1e-320", b"99999999999999999999", b"", b"\xff\x00", b"inf"]


def mutations(content: bytes, count: int, header: int, seed: int = 0) -> Iterator[bytes]:
    """Yield changed copies of a file: cut, bits flipped, counts and offsets that lie, texts replaced, pieces moved.

    `header` is the length of the part that matters most: most changes fall into it.
    """
    generator = np.random.default_rng(seed)
    for number in range(count):
        changed = bytearray(content)
        reach = min(header if generator.random() < 0.9 else len(content), len(content))
        kind = number % 6
        at = int(generator.integers(0, reach))
        if kind == 0:
            del changed[int(generator.integers(0, len(content))) if generator.random() < 0.5 else at :]
        elif kind == 1:
            for _ in range(int(generator.integers(1, 5))):
                changed[int(generator.integers(0, reach))] ^= 1 << int(generator.integers(0, 8))
        elif kind == 2:
            lie = int(generator.choice(_LIES)) & 0xFFFFFFFF
            changed[at : at + 4] = struct.pack(generator.choice(["<I", ">I"]), lie)
        elif kind == 3:
            digits = [i for i in range(at, min(at + 2000, len(changed))) if 48 <= changed[i] <= 57]
            if digits:
                place = digits[int(generator.integers(0, len(digits)))]
                changed[place : place + 1] = _TEXTS[int(generator.integers(0, len(_TEXTS)))]
        elif kind == 4:
            length = int(generator.integers(1, 64))
            if generator.random() < 0.5:
                del changed[at : at + length]
            else:
                changed[at:at] = changed[at : at + length]
        else:
            length = int(generator.integers(1, 32))
            changed[at : at + length] = generator.integers(0, 256, length, np.uint8).tobytes()
        yield bytes(changed)


def survives(path: Path, open_file: Callable[[Path], fv.ForceVolume] = fv.open) -> bool:
    """Open and read a file; return whether it was read; anything but an fvproc error is raised."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        volume = open_file(path)
        readers.vendor_maps(volume)
        stop = min(volume.grid.curves, 64)
        tile = readers.read_tile(volume, Tile(0, stop))
        for branch in ("approach", "retract"):
            raw, told = getattr(tile, branch), getattr(volume, branch)
            assert raw.deflection.shape == (stop, told.samples)
            assert raw.z.shape == ((told.samples,) if told.z_shared else (stop, told.samples))
            assert raw.deflection.dtype == told.deflection.dtype and raw.z.dtype == told.z.dtype
            if raw.valid_length is not None:
                assert raw.valid_length.min() >= 0 and raw.valid_length.max() <= told.samples
        return True
    except FvprocError as error:
        assert path.name in str(error), f"{error!r} does not name the file"
        return False
    finally:
        seconds = time.perf_counter() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        assert seconds < SECONDS, f"{seconds:.1f} s"
        assert grown < BYTES, f"{grown >> 20} MB"
