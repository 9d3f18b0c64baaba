"""Where the data of a NanoScope file lie, and whether that can be true: blocks against the file, curves in a block."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fvproc.readers.nanoscope_header import Header, Section

_WIDTHS = {2: "<i2", 4: "<i4"}
_EDIT = 256  # bytes; a header that was edited by hand shifts the data by less, an image is never as small


@dataclass(frozen=True, slots=True)
class Block:
    """One run of integers that the header declares, with its section."""

    section: Section
    kind: str  # "curves" or "image"
    offset: int
    length: int

    @property
    def end(self) -> int:
        """First byte after the block."""
        return self.offset + self.length

    @property
    def title(self) -> str:
        """Name for people of what it holds."""
        return self.section.selection("image data")[1]

    @property
    def internal(self) -> str:
        """Name that the instrument's software uses inside."""
        return self.section.selection("image data")[0]


@dataclass(frozen=True, slots=True)
class Shape:
    """Curves of a block: rows, columns, samples stored of each half, slots of a half, bytes of a sample."""

    ny: int
    nx: int
    extend: int
    retract: int
    slots: int
    width: int

    @property
    def dtype(self) -> str:
        """Stored dtype."""
        return _WIDTHS[self.width]


def declared_blocks(header: Header, size: int) -> tuple[list[Block], list[str]]:
    """Return the blocks in the order of the header, checked against a file of that size, and warnings.

    Raises
    ------
    FileFormatError
        If a block cannot lie where the header says.
    """
    blocks = []
    for section in header.sections:
        kind = {"ciao force image list": "curves", "ciao image list": "image"}.get(section.name)
        if kind is None or section.text("data offset") is None:
            continue
        offset, length = (_count(header, section, field) for field in ("Data offset", "Data length"))
        if offset < header.length:
            header.refuse(
                "Data offset", offset, f"lies within the header of {header.length} bytes; fetch the file again"
            )
        blocks.append(Block(section, kind, offset, length))
    if not any(block.kind == "curves" for block in blocks):
        header.refuse("Ciao force image list", "missing", "the file holds no force curves; open a force volume or ramp")
    for block in blocks:
        if block.end > size:
            header.refuse(
                "Data offset + Data length",
                f"{block.offset} + {block.length}",
                f"the block {block.title!r} ends at byte {block.end}, but the file has {size} bytes: it is truncated,"
                " or its header was edited; fetch it again",
            )
    ordered = sorted(blocks, key=lambda block: block.offset)
    for one, other in pairwise(ordered):
        if one.end > other.offset:
            header.refuse(
                "Data offset",
                other.offset,
                f"the block {other.title!r} begins within {one.title!r}, which ends at {one.end}:"
                " the header contradicts itself; fetch the file again",
            )
    return blocks, _check_tail(header, blocks, size)


def _check_tail(header: Header, blocks: list[Block], size: int) -> list[str]:
    """Refuse a file whose data do not sit where declared; return warnings.

    The data follow one another without gaps to the end of the file; only whole images may follow undeclared. A header
    that was edited moves the data by the number of bytes it grew, and nothing but the size of the file tells.
    """
    end = max(block.end for block in blocks)
    surplus = size - end
    images = [block.length for block in blocks if block.kind == "image"]
    unit = min(images) if images else 0
    past = surplus % unit if unit else surplus
    if past == 0:
        return []
    short = unit - past if unit else size
    if past % 2 or past < _EDIT or short < _EDIT:
        moved = past if not unit or past < short else -short
        header.refuse(
            "Data offset",
            min(block.offset for block in blocks),
            f"the declared data end at byte {end}, but the file has {size}, and {surplus} bytes are no whole number of"
            f" images{f' of {unit} bytes' if unit else ''}: the header was edited and is {abs(moved)} byte(s)"
            f" {'longer' if moved > 0 else 'shorter'} than it was, so that no data block sits where it is declared;"
            " fetch the original file",
        )
    return [f"{surplus} bytes after the declared data are of no known kind"]


def curve_shape(header: Header, block: Block, images: list[Block], *, symmetric: bool = False) -> Shape:
    """Return how many curves a block holds and how wide their samples are.

    The width follows from the length of the block, for ``Bytes/pixel`` is wrong since version 9.2. In a capture both
    halves are the same (`symmetric`), and only the first number of ``Samps/line`` is to be trusted.

    Raises
    ------
    FileFormatError
        If the numbers do not divide.
    """
    counts = block.section.numbers("samps/line") or header.first("ciao force list").numbers("samps/line")
    if not counts or any(count < 1 or count != int(count) for count in counts[:2]):
        header.refuse(
            "Samps/line", block.section.text("samps/line"), "needs the samples of retract and extend, above 0"
        )
    retract, extend = int(counts[0]), int(counts[1] if len(counts) > 1 and not symmetric else counts[0])
    slots = max(retract, extend)
    samples = 2 * slots
    for ny, nx in _grids(header, images):
        width, rest = divmod(block.length, ny * nx * samples)
        if rest == 0 and width in _WIDTHS:
            return Shape(ny, nx, extend, retract, slots, width)
    held = header.first("ciao force list").numbers("hold samples")
    hold = f", Hold Samples = {held[0]:g} (ramps with a hold cannot be read)" if held and held[0] else ""
    tried = ", ".join(f"{ny}×{nx}" for ny, nx in _grids(header, images))
    header.refuse(
        "Data length",
        block.length,
        f"is not 2 or 4 bytes × 2 × {slots} samples (Samps/line: {retract} {extend}) × any grid of curves that the"
        f" header names ({tried}){hold}; the file is incomplete or its header was edited: fetch it again",
    )


def _grids(header: Header, images: list[Block]) -> list[tuple[int, int]]:
    """Return the grids (ny, nx) that the header offers, the likeliest first.

    A file of one curve names the grid of the last image as well: one curve is tried first, but in a volume last.
    """
    scan, force = header.first("ciao scan list"), header.first("ciao force list")
    offers = [(scan.numbers("lines"), scan.numbers("samps/line"))]
    offers += [(b.section.numbers("number of lines"), b.section.numbers("samps/line")) for b in images]
    offers.append((force.numbers("force/line"), force.numbers("force/line")))
    volume = bool(images) or "volume" in (scan.text("operating mode") or "").lower()
    offers.insert(len(offers) if volume else 0, ([1.0], [1.0]))
    grids: list[tuple[int, int]] = []
    for rows, columns in offers:
        if rows and columns and rows[0] >= 1 and columns[0] >= 1:
            grids.append((int(rows[0]), int(columns[0])))
    return list(dict.fromkeys(grids))


def image_dtype(block: Block, ny: int, nx: int) -> np.dtype | None:
    """Return the stored dtype of an image of the grid's shape; None if it has another shape."""
    rows, columns = block.section.numbers("number of lines"), block.section.numbers("samps/line")
    width, rest = divmod(block.length, ny * nx)
    if not rows or not columns or (int(rows[0]), int(columns[0])) != (ny, nx) or rest or width not in _WIDTHS:
        return None
    return np.dtype(_WIDTHS[width])


def _count(header: Header, section: Section, field: str) -> int:
    text = section.text(field)
    try:
        number = int(text or "")
    except ValueError:
        number = -1
    if number <= 0:
        header.refuse(field, repr(text), f"of {section.name!r} must be a whole number above 0; fetch the file again")
    return number
