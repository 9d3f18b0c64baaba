"""What a curves file says of itself, checked: from the open HDF5 file to a ForceVolume."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from fvproc.errors import CalibrationError, FileFormatError
from fvproc.readers.curves_layout import (
    BRANCHES,
    FORMAT_VERSION,
    ORIGIN,
    SOURCE_WARNINGS,
    TIP_DEPENDS,
    VENDOR_RECIPE,
    common_alignment,
)
from fvproc.readers.hdf5_chunks import plain
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, Setting

_DEFLECTION_TYPES = ("int16", "int32", "float32")
_Z_TYPES = (*_DEFLECTION_TYPES, "float64")
_HEADER_BYTES = 4000  # of provenance; the volume has to stay small enough to travel with every task


def describe(path: str, file: h5py.File, reader: str) -> ForceVolume:
    """Return the volume of an open curves file; FileFormatError where it lacks something or contradicts itself."""
    return _Description(path, file, reader).volume()


def text(value: Any) -> str | None:
    """Return an attribute as text; None if it is something else."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


class _Description:
    """Turns the attributes and datasets of one open file into a volume; each message names file, place and remedy."""

    def __init__(self, path: str, file: h5py.File, reader: str) -> None:
        self.path, self.file, self.reader = path, file, reader
        self.layout: dict[str, Any] = {}
        self.steps = [1]
        self.digest = hashlib.sha256()
        self.grid: Grid

    def volume(self) -> ForceVolume:
        """Return the description of the whole file."""
        version = self._number("", "format_version", None)
        if version != FORMAT_VERSION:
            self._refuse(
                "",
                f"format_version = {version:g}: this fvproc reads {FORMAT_VERSION}; update fvproc or write it anew",
            )
        shape = self._dataset("approach/deflection").shape
        if len(shape) != 3 or 0 in shape:
            self._refuse("approach/deflection", f"shape {shape}: it must be (ny, nx, samples), none of them 0")
        self.grid = self._grid(shape)
        branches = [self._branch(branch) for branch in BRANCHES]
        calibration, tip_radius, tip_half_angle, poisson_ratio = self._calibration()
        rel_std, tip_depends = self._uncertainties()
        height = self._height()
        header, vendor_recipe, warnings = self._header()
        status = Path(self.path).stat()
        volume = ForceVolume(
            path=self.path,
            format=self.reader,
            grid=self.grid,
            approach=branches[0],
            retract=branches[1],
            calibration=calibration,
            tip_radius=tip_radius,
            tip_half_angle=tip_half_angle,
            poisson_ratio=poisson_ratio,
            has_height=height,
            vendor_recipe=vendor_recipe,
            header=header,
            layout=self.layout,
            file_size=status.st_size,
            modified_ns=status.st_mtime_ns,
            header_digest=self._digest(),
            warnings=warnings,
            rel_std=rel_std,
            tip_depends=tip_depends,
        )
        return replace(volume, tile_alignment=common_alignment(self.steps, self.grid, volume.curve_bytes))

    # ---- the parts of the file

    def _grid(self, shape: tuple[int, ...]) -> Grid:
        sizes: dict[str, float | None] = {"size_y": None, "size_x": None}
        for key in sizes:
            if "scan" in self.file and key in self.file["scan"].attrs:
                sizes[key] = self._number("scan", key, None)
        try:
            return Grid(shape[0], shape[1], **sizes, rotation=self._number("scan", "rotation", 0.0))
        except FileFormatError as error:
            self._refuse("scan", f"{error}; give size_x and size_y in metres")

    def _branch(self, branch: str) -> Branch:
        where = f"{branch}/deflection"
        dataset = self._dataset(where)
        if len(dataset.shape) != 3 or dataset.shape[:2] != self.grid.shape or dataset.shape[2] < 1:
            self._refuse(
                where, f"shape {dataset.shape}: expected {(*self.grid.shape, 'samples')}, as approach/deflection has it"
            )
        samples = dataset.shape[2]
        deflection = self._channel(where, _DEFLECTION_TYPES)
        self.layout[f"{where} samples"] = samples
        self._align(dataset)
        where = f"{branch}/z"
        positions = self._dataset(where)
        if positions.shape not in ((samples,), dataset.shape):
            self._refuse(
                where, f"shape {positions.shape}: expected {(samples,)} or {dataset.shape}, as {branch}/deflection"
            )
        z = self._channel(where, _Z_TYPES)
        shared = positions.ndim == 1
        if shared:
            self.layout[f"{where} length"] = samples
            self._check_shared(where, positions, z, 1.0 if branch == "approach" else -1.0)
        else:
            self.layout[f"{where} samples"] = samples
            self._align(positions)
        for place in (f"{branch}/valid_length", "valid_length"):
            if place in self.file:
                self._valid_length(branch, place)
                break
        return Branch(samples, deflection, z, shared)

    def _channel(self, where: str, allowed: tuple[str, ...]) -> Channel:
        dataset = self._dataset(where)
        dtype = dataset.dtype.newbyteorder("=").name
        if dtype not in allowed:
            self._refuse(where, f"dtype {dtype}: allowed are {', '.join(allowed)}; store it as one of them")
        self._locate(where, dataset)
        unit = text(dataset.attrs.get("units"))
        if unit not in ("V", "m"):
            self._refuse(where, f'attribute units = {unit!r}: set it to "V" or "m"')
        invalid = None
        fill = _user_fill(dataset)
        if fill is not None and dataset.dtype.kind == "i":
            invalid = int(fill)
        elif fill is not None and not math.isnan(fill):
            self.layout[f"{where} fill"] = float(fill)
        return Channel(dtype, unit, *self._scale(where), invalid=invalid)

    def _scale(self, where: str) -> tuple[float, float]:
        scale = self._number(where, "scale_factor", 1.0)
        if scale == 0:
            self._refuse(
                where,
                "attribute scale_factor = 0: every value would be the same; value = raw·scale_factor + add_offset",
            )
        return scale, self._number(where, "add_offset", 0.0)

    def _check_shared(self, where: str, dataset: h5py.Dataset, z: Channel, direction: float) -> None:
        values = dataset[()].astype(np.float64)
        self.digest.update(np.ascontiguousarray(values).tobytes())
        if not np.all(np.isfinite(values)):
            self._refuse(
                where, f"{np.count_nonzero(~np.isfinite(values))} values are not finite: a shared z must be whole"
            )
        if len(values) > 1 and not (values[-1] - values[0]) * z.scale * direction > 0:
            self._refuse(
                where,
                f"runs from {values[0] * z.scale + z.offset:g} to {values[-1] * z.scale + z.offset:g} {z.unit}: z is"
                " the position toward the sample, growing along approach, falling along retract, in the order of time;"
                " negate it or reverse the samples",
            )

    def _valid_length(self, branch: str, where: str) -> None:
        dataset = self._dataset(where)
        if dataset.shape != self.grid.shape or dataset.dtype.kind not in "iu":
            self._refuse(
                where, f"{dataset.dtype} of shape {dataset.shape}: expected integers of shape {self.grid.shape}"
            )
        self._locate(where, dataset)
        self.layout[f"{branch} valid_length"] = where

    def _height(self) -> bool:
        if "scan/height" not in self.file:
            return False
        where = "scan/height"
        dataset = self._dataset(where)
        if dataset.shape != self.grid.shape or dataset.dtype.kind not in "if":
            self._refuse(
                where, f"{dataset.dtype} of shape {dataset.shape}: expected numbers of shape {self.grid.shape}"
            )
        unit = text(dataset.attrs.get("units", "m"))
        if unit != "m":
            self._refuse(where, f"attribute units = {unit!r}: heights must be in m (scale_factor may bring them there)")
        self._locate(where, dataset)
        self.layout["height_scale"], self.layout["height_offset"] = self._scale(where)
        return True

    def _calibration(self) -> tuple[Calibration, Setting | None, Setting | None, float | None]:
        names = ("spring_constant", "deflection_sensitivity", "z_sensitivity", "tip_radius", "tip_half_angle")
        attributes = self.file["calibration"].attrs if "calibration" in self.file else {}
        known: dict[str, Setting | None] = dict.fromkeys(names)
        for key in names:
            if key not in attributes:
                continue
            value = self._number("calibration", key, None)
            spread = f"{key}_rel_std"
            rel_std = self._number("calibration", spread, None) if spread in attributes else None
            try:
                known[key] = Setting(value, text(attributes.get(f"{key}_source")) or "file", rel_std)
            except (CalibrationError, ValueError) as error:
                self._refuse("calibration", f"attribute {key}: {error}; leave it out if it is unknown")
        angle = known["tip_half_angle"]
        if angle is not None and angle.value >= math.pi / 2:
            self._refuse("calibration", f"attribute tip_half_angle = {angle.value:g}: it is in rad, below π/2")
        ratio = None
        if "poisson_ratio" in attributes:
            ratio = self._number("calibration", "poisson_ratio", None)
            if not -1.0 <= ratio <= 0.5:
                self._refuse("calibration", f"attribute poisson_ratio = {ratio:g}: allowed is [-1, 0.5]")
        calibration = Calibration(known["spring_constant"], known["deflection_sensitivity"], known["z_sensitivity"])
        return calibration, known["tip_radius"], angle, ratio

    def _uncertainties(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return what no setting holds: of Poisson's ratio, and by what the tip is off where its sources are."""
        attributes = self.file["calibration"].attrs if "calibration" in self.file else {}
        rel_std, depends = {}, {}
        if "poisson_ratio_rel_std" in attributes:
            value = rel_std["poisson_ratio"] = self._number("calibration", "poisson_ratio_rel_std", None)
            if not 0.0 <= value < 1.0:
                self._refuse("calibration", f"attribute poisson_ratio_rel_std = {value:g}: expected 0 to 1")
        for source in ("spring_constant", "deflection_sensitivity"):
            if TIP_DEPENDS + source in attributes:
                depends[source] = self._number("calibration", TIP_DEPENDS + source, None)
        return rel_std, depends

    def _header(self) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
        """Return the root's other attributes as far as they are small, vendor's recipe, original's warnings."""
        header: dict[str, Any] = {}
        told: dict[str, Any] = {VENDOR_RECIPE: {}, SOURCE_WARNINGS: []}
        room = _HEADER_BYTES
        # what tells the origin comes first: long headers must not take its room
        for key, value in sorted(self.file.attrs.items(), key=lambda item: (not item[0].endswith(ORIGIN), item[0])):
            if key in ("format", "format_version"):
                continue
            if key in told:
                try:
                    content = json.loads(text(value) or "")
                except (ValueError, RecursionError):
                    content = None
                if not isinstance(content, type(told[key])):
                    self._refuse("", f"attribute {key}: not the JSON that fvproc convert writes; remove it")
                told[key] = content
                continue
            plain = value.item() if isinstance(value, (np.number, np.bool_)) else text(value)
            if isinstance(plain, (str, int, float)) and len(key) + len(str(plain)) <= room:
                header[key] = plain
                room -= len(key) + len(str(plain))
        return header, told[VENDOR_RECIPE], tuple(str(warning) for warning in told[SOURCE_WARNINGS])

    def _digest(self) -> str:
        """SHA-256 over all names, shapes, types and attributes, and over the shared z: HDF5 has no header to hash."""
        entries: list[str] = [json.dumps(_attributes(self.file))]

        def visit(where: str, item: Any) -> None:
            shape = (list(item.shape), item.dtype.str) if isinstance(item, h5py.Dataset) else None
            entries.append(json.dumps([where, shape, _attributes(item)]))

        self.file.visititems(visit)
        self.digest.update("\n".join(sorted(entries)).encode())
        return self.digest.hexdigest()

    # ---- small things

    def _dataset(self, where: str) -> h5py.Dataset:
        try:
            item = self.file[where]
        except KeyError:
            item = None
        if not isinstance(item, h5py.Dataset):
            self._refuse(where, "the dataset is missing")
        return item

    def _number(self, where: str, key: str, default: float | None) -> float:
        item = self.file[where] if where and where in self.file else self.file if not where else None
        value = item.attrs.get(key, default) if item is not None else default
        try:
            number = float(np.asarray(value).item())
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            self._refuse(where, f"attribute {key} = {value!r}: expected a finite number")
        return number

    def _locate(self, where: str, dataset: h5py.Dataset) -> None:
        """Note where a dataset lies if it lies plain in this file, so that tiles can be read without HDF5."""
        offset = dataset.id.get_offset()
        size = dataset.size * dataset.dtype.itemsize
        if offset is None or dataset.is_virtual or not plain(dataset):
            return
        if dataset.id.get_storage_size() == size:
            self.layout[f"{where} offset"] = int(offset)
            self.layout[f"{where} dtype"] = dataset.dtype.str

    def _align(self, dataset: h5py.Dataset) -> None:
        """Make tiles whole chunks: the alignment in curves at which a run starts with a fresh chunk."""
        if dataset.chunks is None:
            return
        nx = self.grid.nx
        cy, cx = dataset.chunks[:2]
        if cx >= nx:
            step = cy * nx
        elif cy == 1:
            step = cx if nx % cx == 0 else nx  # chunks that overhang the row's end start anew with every row
        else:
            step = cy * nx
        self.steps.append(step)

    def _refuse(self, where: str, why: str) -> NoReturn:
        raise FileFormatError(f"{self.path}: /{where}: {why}")


def _user_fill(dataset: h5py.Dataset) -> Any:
    """Return the fill value if the writer of the file chose it; HDF5's own default of 0 marks nothing."""
    plist = dataset.id.get_create_plist()
    if plist.fill_value_defined() != h5py.h5d.FILL_VALUE_USER_DEFINED:
        return None
    return dataset.fillvalue


def _attributes(item: Any) -> dict[str, str]:
    return {key: repr(np.asarray(value).tolist()) for key, value in sorted(item.attrs.items())}
