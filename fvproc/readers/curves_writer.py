"""CurvesWriter: writes the HDF5 curves file tile by tile, in flat memory, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from fvproc.errors import OutputError
from fvproc.readers.curves_layout import (
    BRANCHES,
    FORMAT,
    FORMAT_VERSION,
    TIP_DEPENDS,
    VENDOR_MAPS,
    chunk_shape,
    hyperslabs,
)
from fvproc.storage import whole_hdf5
from fvproc.volume import Branch, Calibration, Channel, Grid, RawBranch, RawTile, Setting, Tile, VendorMap

_CHUNK_BYTES = 1 << 20  # enough to compress and to read well, small enough for a chunk cache


class CurvesWriter:
    """Write a curves file; use it as a context manager.

    The file appears under its name when the block ends well and every curve was written; after an exception nothing
    is left, and a file that was there before stays.

    Parameters
    ----------
    path : path-like
        The file to write; one that exists is replaced at the end.
    grid : Grid
        Scan frame.
    approach, retract : Branch
        What the raw numbers are.
    calibration : Calibration, optional
        Values to store.
    tip_radius, tip_half_angle : Setting, optional
        Of the tip, m and rad.
    poisson_ratio, poisson_ratio_rel_std : float, optional
        Of the sample, and its relative standard uncertainty.
    tip_depends : mapping of str to float, optional
        As `ForceVolume` has it.
    shared_z : tuple of two ndarray, optional
        Raw z of approach and retract; needed for a branch whose `z_shared` is true.
    has_height : bool
        Whether every tile brings the scanner's height.
    attributes : mapping, optional
        Provenance, stored as attributes of the root; what is no text or number is stored as JSON.
    compression : {None, "gzip"}
        With ``"gzip"`` the curves are stored in compressed chunks.
    chunk_curves : int, optional
        Curves per chunk, about; by default 1 MB if compressed, and no chunks otherwise, which reads fastest.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        grid: Grid,
        approach: Branch,
        retract: Branch,
        *,
        calibration: Calibration | None = None,
        tip_radius: Setting | None = None,
        tip_half_angle: Setting | None = None,
        poisson_ratio: float | None = None,
        poisson_ratio_rel_std: float | None = None,
        tip_depends: Mapping[str, float] | None = None,
        shared_z: tuple[np.ndarray, np.ndarray] | None = None,
        has_height: bool = False,
        attributes: Mapping[str, Any] | None = None,
        compression: str | None = None,
        chunk_curves: int | None = None,
    ) -> None:
        if compression not in (None, "gzip"):
            raise OutputError(f"compression = {compression!r}: choose gzip or none")
        if chunk_curves is not None and chunk_curves < 1:
            raise OutputError(f"chunk_curves = {chunk_curves!r}: must be at least 1")
        self.path = Path(path)
        self.grid = grid
        self.branches = dict(zip(BRANCHES, (approach, retract), strict=True))
        self.has_height = has_height
        self._compression, self._chunk_curves = compression, chunk_curves
        self._written = np.zeros(grid.curves, np.bool_)
        for index, (name, branch) in enumerate(self.branches.items()):
            if branch.z_shared and (shared_z is None or np.shape(shared_z[index]) != (branch.samples,)):
                raise OutputError(f"{path}: shared_z of {name} must have the shape ({branch.samples},)")
        with ExitStack() as stack:
            self._file, self._require_written = stack.enter_context(whole_hdf5(self.path))
            self._describe(calibration or Calibration(), tip_radius, tip_half_angle, attributes or {})
            known = self._file["calibration"].attrs
            if poisson_ratio is not None:
                known["poisson_ratio"] = poisson_ratio
            if poisson_ratio_rel_std is not None:
                known["poisson_ratio_rel_std"] = poisson_ratio_rel_std
            for source, exponent in (tip_depends or {}).items():
                known[f"{TIP_DEPENDS}{source}"] = exponent
            self._create(shared_z)
            self._opened = stack.pop_all()

    def write(self, tile: Tile, raw: RawTile) -> None:
        """Write the curves of a tile; tiles may come in any order."""
        if tile.stop > self.grid.curves:
            raise ValueError(f"{self.path}: {tile} reaches beyond the {self.grid.curves} curves of the grid")
        for name, part in zip(BRANCHES, (raw.approach, raw.retract), strict=True):
            self._write_branch(name, tile, part)
        if self.has_height:
            if raw.height is None:
                raise ValueError(f"{self.path}: {tile} has no height, but the file was announced to have one")
            self._place("scan/height", tile, raw.height)
        self._written[tile.start : tile.stop] = True
        self._require_written()

    def write_truth(self, name: str, unit: str, values: np.ndarray) -> None:
        """Write a map (ny, nx) that made the curves."""
        if np.shape(values) != self.grid.shape:
            raise ValueError(
                f"{self.path}: truth {name!r} must have the shape {self.grid.shape}, not {np.shape(values)}"
            )
        dataset = self._file.require_group("truth").create_dataset(name, data=values)
        dataset.attrs["units"] = unit

    def write_vendor_map(self, vendor: VendorMap) -> None:
        """Write a map (ny, nx) of the instrument's software."""
        dataset = self._file.require_group(VENDOR_MAPS).create_dataset(
            vendor.name.replace("/", " "), data=vendor.values
        )
        dataset.attrs.update({"units": vendor.unit, "label": vendor.label})

    def __enter__(self) -> CurvesWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        missing = int(self._written.size - np.count_nonzero(self._written))
        if kind is None and missing:
            first = int(np.argmin(self._written))
            refused = OutputError(
                f"{self.path}: {missing} of {self._written.size} curves were never written, the first is {first}:"
                " nothing is kept"
            )
            self._opened.__exit__(OutputError, refused, None)
            raise refused
        self._opened.__exit__(kind, error, trace)

    # ---- creating

    def _describe(
        self,
        calibration: Calibration,
        tip_radius: Setting | None,
        tip_half_angle: Setting | None,
        attributes: Mapping[str, Any],
    ) -> None:
        file = self._file
        for key, value in attributes.items():
            file.attrs[key] = value if isinstance(value, (str, int, float)) else json.dumps(value, sort_keys=True)
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        known = file.create_group("calibration").attrs
        for key, setting in {
            "spring_constant": calibration.spring_constant,
            "deflection_sensitivity": calibration.deflection_sensitivity,
            "z_sensitivity": calibration.z_sensitivity,
            "tip_radius": tip_radius,
            "tip_half_angle": tip_half_angle,
        }.items():
            if setting is not None:
                known[key] = setting.value
                if setting.rel_std is not None:
                    known[f"{key}_rel_std"] = setting.rel_std
                if setting.source != "file":
                    known[f"{key}_source"] = setting.source
        scan = file.create_group("scan").attrs
        scan["rotation"] = self.grid.rotation
        for key, size in {"size_x": self.grid.size_x, "size_y": self.grid.size_y}.items():
            if size is not None:
                scan[key] = size

    def _create(self, shared_z: tuple[np.ndarray, np.ndarray] | None) -> None:
        for index, (name, branch) in enumerate(self.branches.items()):
            self._curves(f"{name}/deflection", branch.samples, branch.deflection)
            if branch.z_shared:
                assert shared_z is not None
                dataset = self._file.create_dataset(f"{name}/z", data=np.asarray(shared_z[index], branch.z.dtype))
                _label(dataset, branch.z)
            else:
                self._curves(f"{name}/z", branch.samples, branch.z)
        if self.has_height:
            dataset = self._file.create_dataset("scan/height", self.grid.shape, np.float64)
            dataset.attrs["units"] = "m"

    def _curves(self, where: str, samples: int, channel: Channel) -> None:
        shape = (*self.grid.shape, samples)
        options: dict[str, Any] = {}
        if self._compression or self._chunk_curves:
            curves = self._chunk_curves or max(1, _CHUNK_BYTES // (samples * np.dtype(channel.dtype).itemsize))
            options["chunks"] = chunk_shape(self.grid, curves, samples)
        if self._compression:
            options.update(compression=self._compression, shuffle=True)
        if channel.invalid is not None:
            options["fillvalue"] = channel.invalid
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_fill_time(
            h5py.h5d.FILL_TIME_NEVER
        )  # every sample is written once; filling first would write it twice
        dataset = self._file.create_dataset(where, shape, channel.dtype, dcpl=plist, **options)
        _label(dataset, channel)

    # ---- writing

    def _write_branch(self, name: str, tile: Tile, part: RawBranch) -> None:
        branch = self.branches[name]
        self._place(f"{name}/deflection", tile, part.deflection, branch.samples, branch.deflection.dtype)
        if not branch.z_shared:
            self._place(f"{name}/z", tile, part.z, branch.samples, branch.z.dtype)
        where = f"{name}/valid_length"
        if part.valid_length is not None and where not in self._file:
            self._file.create_dataset(where, self.grid.shape, np.int32, fillvalue=branch.samples)
        if where in self._file:
            lengths = np.full(len(tile), branch.samples) if part.valid_length is None else part.valid_length
            self._place(where, tile, lengths)

    def _place(
        self, where: str, tile: Tile, values: np.ndarray, samples: int | None = None, dtype: str | None = None
    ) -> None:
        rest = () if samples is None else (samples,)
        if values.shape != (len(tile), *rest) or (dtype is not None and values.dtype != np.dtype(dtype)):
            raise ValueError(
                f"{self.path}: {where} of {tile} must be {dtype or 'numbers'} of shape {(len(tile), *rest)},"
                f" not {values.dtype} of {values.shape}"
            )
        dataset = self._file[where]
        for rows, columns, span in hyperslabs(tile, self.grid.nx):
            block = np.ascontiguousarray(values[span])
            dataset[rows, columns] = block.reshape(rows.stop - rows.start, columns.stop - columns.start, *rest)


def _label(dataset: h5py.Dataset, channel: Channel) -> None:
    dataset.attrs["units"] = channel.unit
    dataset.attrs["scale_factor"] = channel.scale
    dataset.attrs["add_offset"] = channel.offset
