"""ParameterMaps: one record per curve on the scan grid, its fields by name, and a tally of the flags."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fvproc.errors import FvprocError
from fvproc.quantities import FLAG_MEANINGS, QUANTITIES, RECORD, Flag
from fvproc.volume import Grid, Tile, VendorMap

if TYPE_CHECKING:
    import xarray

_BLOCK = 1 << 20  # records that are looked at together


class NoSuchMap(FvprocError, KeyError):
    """A quantity that is not among the maps."""

    def __str__(self) -> str:
        # a KeyError shows its argument in quotation marks
        return str(self.args[0])


class ParameterMaps:
    """The result of a run: records on the (ny, nx) grid, row 0 at the bottom of the scan.

    Starts as ``Flag.NOT_COMPUTED`` with NaN everywhere; `place` fills in tiles.

    Parameters
    ----------
    grid : Grid
        Scan frame.
    records : ndarray of RECORD, shape (ny, nx), optional
        Finished records; by default none is computed yet. A Dask array of them, as `fvproc.lazy` returns, makes maps
        to look at with `to_xarray`, as lazy as it is.
    provenance : mapping, optional
        How the numbers came about; written to every output.
    vendor_maps : mapping of str to VendorMap, optional
        Maps of the instrument's own software.
    quantities : sequence of str, optional
        Those that the recipe asked for; by default all. The others are not in these maps: in `records` they are NaN.

    Attributes
    ----------
    quantities : tuple of str
        The maps that there are, beside the flags, in the order of the registry.

    Raises
    ------
    ValueError
        If the records are not of the grid, or the quantities none or unknown.
    """

    def __init__(
        self,
        grid: Grid,
        records: np.ndarray | None = None,
        *,
        provenance: Mapping[str, Any] | None = None,
        vendor_maps: Mapping[str, VendorMap] | None = None,
        quantities: Sequence[str] | None = None,
    ) -> None:
        if records is None:
            records = not_computed(grid.curves).reshape(grid.shape)
        if records.dtype != RECORD or records.shape != grid.shape:
            raise ValueError(f"records must be {RECORD} of shape {grid.shape}, not {records.dtype} of {records.shape}")
        self.grid = grid
        self.records = records
        self.provenance: dict[str, Any] = dict(provenance or {})
        self.vendor_maps: dict[str, VendorMap] = dict(vendor_maps or {})
        if quantities is not None and not (quantities and set(quantities) <= set(QUANTITIES)):
            raise ValueError(f"quantities must be some of {', '.join(QUANTITIES)}, not {quantities!r}")
        self.quantities = tuple(name for name in QUANTITIES if quantities is None or name in quantities)

    def __getitem__(self, name: str) -> np.ndarray:
        """Return the map of one quantity, (ny, nx) float32 in SI, or ``"flags"``, uint32; a view.

        Raises
        ------
        NoSuchMap
            Of an unknown quantity, and of one that the recipe did not ask for; it is a KeyError, too.
        """
        if name not in self:
            if name in QUANTITIES:
                raise NoSuchMap(
                    f"{name}: not among these maps, whose recipe asked for {', '.join(self)}:"
                    " process again with it, too, in maps.quantities"
                )
            raise NoSuchMap(f"no quantity {name!r}; choose from {', '.join(self)}, flags")
        return self.records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.quantities)

    def __len__(self) -> int:
        return len(self.quantities)

    def __contains__(self, name: object) -> bool:
        return name == "flags" or name in self.quantities

    def errors(self, name: str) -> np.ndarray | None:
        """Return the standard errors of a quantity, (ny, nx) float32 in SI, a view; None where there are none."""
        if f"{name}_std" not in self:
            return None
        return self[f"{name}_std"]

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.grid.shape

    @property
    def flags(self) -> np.ndarray:
        """Flags of each curve, (ny, nx) uint32; see `fvproc.Flag`."""
        return self.records["flags"]

    def place(self, tile: Tile, records: np.ndarray) -> None:
        """Put the records (len(tile),) of a tile in their place."""
        put(self.records.reshape(-1)[tile.start : tile.stop], records)

    def flag_counts(self) -> dict[Flag, int]:
        """Return how many curves carry each flag that occurs, in the order of the bits."""
        seen: Counter[int] = Counter()
        flags = self.records.reshape(-1)["flags"]
        for start in range(0, flags.size, _BLOCK):  # no copy of the flags of a map that memory does not hold
            values, counts = np.unique(flags[start : start + _BLOCK], return_counts=True)
            seen.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        tally = {flag: sum(n for value, n in seen.items() if value & int(flag)) for flag in FLAG_MEANINGS}
        return {flag: count for flag, count in tally.items() if count}

    def flag_summary(self) -> list[str]:
        """Return one sentence per flag that occurs: ``"12 of 256 curves: no contact … (no_contact)"``."""
        return [
            f"{count} of {self.grid.curves} curves: {FLAG_MEANINGS[flag]} ({flag.name.lower()})"  # type: ignore[union-attr]
            for flag, count in self.flag_counts().items()
        ]

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (y, x): pixel centres in metres, float64, ascending."""
        dy, dx = self.grid.pixel
        return (np.arange(self.grid.ny) + 0.5) * dy, (np.arange(self.grid.nx) + 0.5) * dx

    def to_xarray(self) -> xarray.Dataset:
        """Return an `xarray.Dataset` with units, labels, coordinates and provenance; needs xarray."""
        import xarray

        y, x = self.coordinates()
        systematic = self.provenance.get("systematic", {}).get("quantities", {})
        variables: dict[str, Any] = {}
        for name in self:
            quantity = QUANTITIES[name]
            attributes: dict[str, Any] = {"units": quantity.unit, "long_name": quantity.label}
            if name in systematic:
                attributes["systematic_rel_std"] = systematic[name]["rel_std"]
                attributes["systematic_unknown"] = " ".join(systematic[name]["unknown"])
            variables[name] = (("y", "x"), self[name], attributes)
        masks = list(FLAG_MEANINGS)
        variables["flags"] = (
            ("y", "x"),
            self.flags,
            {
                "long_name": "Flags",
                "flag_masks": np.array([int(flag) for flag in masks], np.uint32),
                "flag_meanings": " ".join(flag.name.lower() for flag in masks),  # type: ignore[union-attr]
            },
        )
        for name, vendor in self.vendor_maps.items():
            variable = f"vendor_{name}".replace("/", "_")  # which netCDF takes for a group
            while variable in variables:
                variable += "_"
            variables[variable] = (
                ("y", "x"),
                vendor.values,
                {"units": vendor.unit, "long_name": vendor.label or name},
            )
        coordinates = {
            name: (name, centres, {"units": "m", "long_name": f"{name}, pixel centres", "axis": name.upper()})
            for name, centres in (("y", y), ("x", x))
        }
        # as text, as netCDF has no nested attributes
        provenance = json.dumps(self.provenance, default=str, ensure_ascii=False)
        return xarray.Dataset(variables, coordinates, {"Conventions": "CF-1.11", "provenance": provenance})


def not_computed(curves: int, flag: Flag = Flag.NOT_COMPUTED) -> np.ndarray:
    """Return (curves,) records that hold NaN everywhere and one fatal flag."""
    one = np.empty(1, RECORD)
    for name in QUANTITIES:
        one[name] = np.nan
    one["flags"] = np.uint32(flag)
    records = np.empty(curves, RECORD)
    # as numbers: NumPy fills records field by field, in five times as long
    records.view(np.uint32).reshape(curves, one.itemsize // 4)[:] = one.view(np.uint32)
    return records


def put(place: np.ndarray, records: np.ndarray) -> None:
    """Copy records (n,) to a contiguous place (n,), as bytes: NumPy copies field by field, in ten times as long."""
    place.view(np.uint8)[:] = np.ascontiguousarray(records, RECORD).view(np.uint8)


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return runs of records as one, again as bytes."""
    return np.concatenate([np.ascontiguousarray(part, RECORD).view(np.uint8) for part in parts]).view(RECORD)


@dataclass(frozen=True, slots=True)
class Density:
    """How often force and separation of all curves fall together, for plots.

    Parameters
    ----------
    separation_edges : ndarray of float64, shape (n + 1,)
        Of tip and undeformed surface, m; negative in contact.
    force_edges : ndarray of float64, shape (m + 1,)
        In N.
    approach, retract : ndarray of int64, shape (m, n)
        Samples in each cell, force along the rows.
    curves, left_out : int
        Curves counted, and those without a contact point, which could not be.
    """

    separation_edges: np.ndarray
    force_edges: np.ndarray
    approach: np.ndarray
    retract: np.ndarray
    curves: int
    left_out: int


@dataclass(frozen=True, slots=True)
class CurveFit:
    """One curve with its fit, for eyes and plots; arrays in SI, samples in the order of time.

    Parameters
    ----------
    y, x : int
        Pixel.
    approach_z, approach_force, retract_z, retract_force : ndarray of float64
        Piezo extension (m) and baseline-corrected force (N) of both branches.
    fit_z, fit_force : ndarray of float64
        The fitted model over its samples; empty where there is no fit.
    record : ndarray of RECORD, shape ()
        The numbers of this curve.
    """

    y: int
    x: int
    approach_z: np.ndarray
    approach_force: np.ndarray
    retract_z: np.ndarray
    retract_force: np.ndarray
    fit_z: np.ndarray
    fit_force: np.ndarray
    record: np.ndarray
