"""AfmformatsWriter: curves in the HDF5 layout of the package afmformats, a group for each curve; for small sets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fvproc.errors import OutputError
from fvproc.storage import whole_hdf5
from fvproc.volume import ForceVolume, RawTile, Tile

# a group with three datasets takes 2 to 3 ms to write, and afmformats 2 ms to load: half a minute for so many
MOST_CURVES = 10_000
SOFTWARE = "fvproc, in the layout of afmformats"
_LAST_LAYOUT = "0.18"  # of afmformats, to which this writer was held


class AfmformatsWriter:
    """Write curves so that afmformats, and what is built on it, opens them; use it as a context manager.

    Each curve that has samples is a group, ``"0"``, ``"1"`` …, with the datasets ``force`` (N, as deflected, no
    baseline subtracted), ``height (measured)`` (m, falling toward the sample: minus z) and ``segment`` (0 approach,
    1 retract), and its metadata as attributes. Samples that are marked as invalid are left out.

    The file appears under its name when the block ends well; after an exception nothing is left, and a file that was
    there before stays.

    Parameters
    ----------
    path : path-like
        The file to write; one that exists is replaced at the end.
    volume : ForceVolume
        Whose curves will come.
    attributes : mapping of str to str or number, optional
        Provenance, stored as attributes of the root, which afmformats passes over.
    compression : {None, "gzip"}
        Of the datasets.

    Raises
    ------
    OutputError
        If the volume has more than `MOST_CURVES` curves, or the file cannot be made or written.
    CalibrationError
        If a value is missing without which there is no force or no height in metres.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        volume: ForceVolume,
        *,
        attributes: Mapping[str, Any] | None = None,
        compression: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.volume = volume
        if volume.grid.curves > MOST_CURVES:
            raise OutputError(
                f"{path}: {volume.grid.curves} curves, and the layout of afmformats is for {MOST_CURVES} at most:"
                " write a curves file (layout curves), which h5py and fvproc read at any size"
            )
        volume.require_calibration()
        constant = volume.calibration.spring_constant
        assert constant is not None
        self._constant = constant.value
        self._options = {} if compression is None else {"compression": compression, "shuffle": True}
        self._common = _metadata(volume)
        self._count = 0
        with ExitStack() as stack:
            self._file, self._require_written = stack.enter_context(whole_hdf5(self.path))
            self._file.attrs.update(attributes or {})
            self._file.attrs.update({"software": SOFTWARE, "software version": _LAST_LAYOUT})
            self._opened = stack.pop_all()

    def write(self, tile: Tile, raw: RawTile) -> None:
        """Write the curves of a tile; tiles come in order."""
        for row, pixel in enumerate(range(tile.start, tile.stop)):
            approach, retract = (self._branch(name, raw, row) for name in ("approach", "retract"))
            if not (approach[0].size and retract[0].size):
                continue
            force, height = (np.concatenate(pair) for pair in zip(approach, retract, strict=True))
            segment = np.repeat(np.array([0, 1], np.uint8), [approach[0].size, retract[0].size])
            self._place(pixel, force, height, segment)
        self._require_written()

    def __enter__(self) -> AfmformatsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._count:
            refused = OutputError(f"{self.path}: no curve of the input has samples: there is nothing to write")
            self._opened.__exit__(OutputError, refused, None)
            raise refused
        self._opened.__exit__(kind, error, trace)

    def _branch(self, name: str, raw: RawTile, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return force (N) and height (m) of the valid samples of one curve."""
        part, branch = getattr(raw, name), getattr(self.volume, name)
        end = branch.samples if part.valid_length is None else int(part.valid_length[row])
        stored = part.deflection[row, :end], (part.z if part.z.ndim == 1 else part.z[row])[:end]
        good = np.ones(end, np.bool_)
        metres = []
        for values, channel, (scale, offset) in zip(
            stored,
            (branch.deflection, branch.z),
            (self.volume.deflection_scale(name), self.volume.z_scale(name)),
            strict=True,
        ):
            metres.append(values.astype(np.float64) * scale + offset)
            good &= np.isfinite(metres[-1])
            if channel.invalid is not None:
                good &= values != channel.invalid
        return metres[0][good] * self._constant, -metres[1][good]

    def _place(self, pixel: int, force: np.ndarray, height: np.ndarray, segment: np.ndarray) -> None:
        group = self._file.create_group(str(self._count))
        for name, unit, values in (("force", "N", force), ("height (measured)", "m", height), ("segment", "", segment)):
            group.create_dataset(name, data=values, **self._options).attrs["unit"] = unit
        y, x = divmod(pixel, self.volume.grid.nx)
        own: dict[str, Any] = {
            "enum": self._count,
            "curve id": f"{self._common['session id']}:{pixel}",
            "point count": force.size,
            "z range": float(np.ptp(height)),
        }
        if self.volume.grid.curves > 1:
            own.update({"grid index x": x, "grid index y": y})
        for axis, index in (("x", x), ("y", y)):
            if f"grid size {axis}" in self._common:
                pixels = self._common[f"grid shape {axis}"]
                own[f"position {axis}"] = (index + 0.5) * self._common[f"grid size {axis}"] / pixels
        group.attrs.update({**self._common, **own})
        self._count += 1


def _metadata(volume: ForceVolume) -> dict[str, Any]:
    """Return what all curves share, under afmformats' names; what the input does not tell is left out."""
    grid, calibration = volume.grid, volume.calibration
    told: dict[str, Any] = {
        "imaging mode": "force-distance",
        "segment count": 2,
        "session id": Path(volume.path).name,
    }
    for key, setting in (
        ("spring constant", calibration.spring_constant),
        ("sensitivity", calibration.deflection_sensitivity),
    ):
        if setting is not None:
            told[key] = setting.value
    if grid.curves > 1:
        told.update({"grid shape x": grid.nx, "grid shape y": grid.ny})
        for axis, size in (("x", grid.size_x), ("y", grid.size_y)):
            if size is not None:  # counted from the corner of the frame, as the input tells no place on the sample
                told.update({f"grid size {axis}": size, f"grid center {axis}": size / 2})
    return told
