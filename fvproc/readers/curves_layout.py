"""Names and geometry of the HDF5 curves file that its reader and its writer share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from fvproc.volume import Grid, Tile

FORMAT = "fvproc-curves"
FORMAT_VERSION = 1
BRANCHES = ("approach", "retract")
_TILE_BYTES = 1 << 30  # a tile of whole chunks that takes more is worse than chunks that are read twice
TIP_DEPENDS = "tip_depends_on_"  # attributes of /calibration: ∂ln length/∂ln source, the source's name behind it
VENDOR_RECIPE = "vendor_recipe"  # root attribute: JSON of the fit settings of the instrument's software
SOURCE_WARNINGS = "source_warnings"  # root attribute: JSON list of what the reader of the original warned of
# ends of root attributes that tell which file, and which header, a copy was made of
ORIGIN = ("source_name", "source_format", "source_size", "source_header_sha256")
VENDOR_MAPS = "vendor"  # group: the maps that the instrument's software left in the original


def hyperslabs(tile: Tile, nx: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yield (rows, columns, part of the tile) of the at most three rectangles that make up a run of curves."""
    position = tile.start
    while position < tile.stop:
        row, column = divmod(position, nx)
        if column or tile.stop - position < nx:
            count = min(nx - column, tile.stop - position)
            rows, columns = slice(row, row + 1), slice(column, column + count)
        else:
            count = (tile.stop - position) // nx * nx
            rows, columns = slice(row, row + count // nx), slice(0, nx)
        yield rows, columns, slice(position - tile.start, position - tile.start + count)
        position += count


def chunk_shape(grid: Grid, curves: int, samples: int) -> tuple[int, int, int]:
    """Return a chunk of about so many whole curves: whole rows, or an even part of one row."""
    if curves >= grid.nx:
        return min(grid.ny, curves // grid.nx), grid.nx, samples
    # a part that divides the row keeps every tile of whole chunks a run of curves
    part = next(count for count in range(curves, 0, -1) if grid.nx % count == 0)
    return 1, part, samples


def common_alignment(steps: Iterable[int], grid: Grid, curve_bytes: int) -> int:
    """Return the number of curves whose multiples begin with a fresh chunk in every dataset.

    Parameters
    ----------
    steps : iterable of int
        The same for each dataset by itself.
    grid : Grid
        Of the volume.
    curve_bytes : int
        Bytes of one curve; where a tile of whole chunks of all datasets would take more than 1 GiB, the largest of the
        steps that stays below counts.
    """
    most = max(1, min(_TILE_BYTES // max(curve_bytes, 1), grid.curves))
    together = min(math.lcm(*steps), grid.curves)
    return together if together <= most else max((step for step in steps if step <= most), default=1)
