"""Names and geometry of the HDF5 curves file that its reader and its writer share."""

from __future__ import annotations

from collections.abc import Iterator

from fvproc.volume import Grid, Tile

FORMAT = "fvproc-curves"
FORMAT_VERSION = 1
BRANCHES = ("approach", "retract")
VENDOR_RECIPE = "vendor_recipe"  # root attribute: JSON of the fit settings of the instrument's software


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
