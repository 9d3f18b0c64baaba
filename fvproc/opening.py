"""Files and arrays in, maps and curves files out: open, from_arrays, load, save, convert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

from fvproc.maps import CurveFit, ParameterMaps
from fvproc.volume import ForceVolume

PathName = str | PathLike[str]


def open(
    path: PathName,
    *,
    spring_constant: float | None = None,
    deflection_sensitivity: float | None = None,
    z_sensitivity: float | None = None,
    rel_std: Mapping[str, float] | None = None,
    calibration: PathName | None = None,
    mapping: PathName | dict[str, Any] | None = None,
) -> ForceVolume:
    """Open a file of force-distance curves; headers are read, curves stay on disk.

    Parameters
    ----------
    path : path-like
        A file of one of the formats in docs/formats.md, a folder of Asylum curves, or what a plug-in reads.
    spring_constant, deflection_sensitivity, z_sensitivity : float, optional
        Go before the file's values; in N/m, m/V, m/V. Where the file holds metres, these are made again: times new/old.
    rel_std : mapping of str to float, optional
        Relative standard uncertainties, ``{"spring_constant": 0.1, …}``: of spring_constant, deflection_sensitivity,
        tip_radius, tip_half_angle, poisson_ratio; go before the file's. See docs/uncertainty.md.
    calibration : path-like, optional
        A file of `fvproc calibrate`; goes before what the measurement's file says, behind what is given here by name.
    mapping : path-like or dict, optional
        For an HDF5 file of any layout: the TOML file, or its content, that says where in it deflection, z and
        calibration lie.

    Returns
    -------
    ForceVolume
        Frozen description; ``volume.shape`` is (ny, nx).

    Raises
    ------
    FileFormatError
        If the file is unknown, truncated or contradicts itself.
    CalibrationError
        If an override is not finite and positive, or an uncertainty not in 0 … 1; if a sensitivity is for metres and
        the file does not tell what made them.
    """
    from fvproc import readers

    given = {
        "spring_constant": spring_constant,
        "deflection_sensitivity": deflection_sensitivity,
        "z_sensitivity": z_sensitivity,
    }
    volume = readers.open_volume(path, mapping=mapping, **given)
    if calibration is not None:
        from fvproc import calibration_file

        volume = calibration_file.applied(volume, calibration, given)
    return replace(volume, rel_std={**volume.rel_std, **rel_std}) if rel_std else volume


def from_arrays(
    approach: Any, retract: Any, *, z: tuple[Any, Any], units: str, z_units: str, **settings: Any
) -> ForceVolume:
    """Make a volume of NumPy, Dask or Zarr arrays; see `fvproc.readers.arrays.from_arrays` for the settings.

    Parameters
    ----------
    approach, retract : array, shape (ny, nx, samples), (curves, samples) or (samples,)
        Deflection, samples in the order of time.
    z : tuple of two arrays, shape (samples,) or that of `approach` and `retract`
        Growing toward the sample.
    units, z_units : str
        Such as ``"V"``, ``"nm"``; for deflection also a force. Never guessed.
    **settings
        spring_constant (N/m), deflection_sensitivity, z_sensitivity (m/V), scale, offset, z_scale, z_offset, size_x,
        size_y (m), rotation (degrees), tip_radius (m), tip_half_angle (rad), poisson_ratio, label.

    Raises
    ------
    FileFormatError, CalibrationError
        If shapes or units do not fit, z runs the wrong way, or a value is not finite and positive.
    """
    from fvproc.readers.arrays import from_arrays

    return from_arrays(approach, retract, z=z, units=units, z_units=z_units, **settings)


def save(maps: ParameterMaps, path: PathName, *, curve: CurveFit | None = None, overwrite: bool = True) -> None:
    """Write maps; the suffix names the format.

    Parameters
    ----------
    maps : ParameterMaps
        What `process` returned.
    path : path-like
        ``.h5``, ``.tif`` (bands, for GIS), ``.ome.tif`` (image stack), ``.png``, ``.svg``, ``.pdf``, ``.gsf``,
        ``.npz`` or ``.csv``.
    curve : CurveFit, optional
        A curve for a picture.
    overwrite : bool
        Whether a file that exists is replaced.

    Raises
    ------
    OutputError
        If the suffix is unknown or the file cannot be written; an earlier file is then still whole.
    """
    from fvproc import writers

    writers.save(maps, path, curve=curve, overwrite=overwrite)


def load(path: PathName) -> ParameterMaps:
    """Read maps that `save` wrote as HDF5 or NPZ.

    Raises
    ------
    FileFormatError
        If the file is missing or no output of fvproc.
    """
    from fvproc import writers

    return writers.load(path)


def convert(
    path: PathName | ForceVolume,
    output: PathName,
    *,
    overwrite: bool = False,
    compress: bool = False,
    layout: str = "curves",
) -> None:
    """Write any input as a curves file (HDF5), or in the layout of afmformats, tile by tile.

    Parameters
    ----------
    path : path-like or ForceVolume
        The input.
    output : path-like
        The file to make.
    overwrite : bool
        Whether a file that exists is replaced.
    compress : bool
        Whether curves are compressed (gzip); smaller, and slower to read.
    layout : {"curves", "afmformats"}
        ``"afmformats"`` is for small sets, of 10 000 curves at most, and needs a complete calibration: raw numbers
        become force and height in float64, maps and images are left behind.

    Raises
    ------
    OutputError
        If the output exists, is the input or cannot be written; if the layout is unknown or does not take so many
        curves.
    FileFormatError
        If the input cannot be read.
    CalibrationError
        If afmformats' layout lacks the calibration that makes force.
    """
    from fvproc import conversion

    conversion.convert(path, output, overwrite=overwrite, compress=compress, layout=layout)
