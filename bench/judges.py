"""Other people's programs open one output of fvproc: what they read, and whether it is equal to the bit.

python bench/judges.py FOLDER      (with demo.h5, demo.tif and demo.ome.tif, as `fvproc demo FOLDER` leaves them)
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fvproc as fv

NAMES = [*fv.QUANTITIES, "flags_warning", "flags_fatal"]
UNITS = {name: quantity.unit for name, quantity in fv.QUANTITIES.items()}
IMAGEJ = Path("/usr/share/java/ij.jar")  # where Debian puts it; elsewhere: the environment variable IJ_JAR
SYSTEM_PYTHON = "/usr/bin/python3"  # whose QGIS Debian's package installs


class Absent(Exception):
    """The judge is not installed here."""


@dataclass(frozen=True)
class Verdict:
    """What a judge says: its version, what it read, and what differs (empty if nothing does)."""

    version: str
    read: str
    faults: tuple[str, ...]


class Case:
    """One output in all formats, and the truth about it."""

    def __init__(self, folder: Path, stem: str, maps: fv.ParameterMaps) -> None:
        self.maps = maps
        self.h5, self.tif, self.ome = (folder / f"{stem}{suffix}" for suffix in (".h5", ".tif", ".ome.tif"))
        self.dy, self.dx = maps.grid.pixel
        self.ny, self.nx = maps.shape
        flags = maps.flags
        planes = [maps[name] for name in fv.QUANTITIES] + [flags & np.uint32(0xFFFF), flags >> np.uint32(16)]
        # images have the top row first
        self.planes = [np.ascontiguousarray(np.flipud(plane), "<f4") for plane in planes]

    def faults_of(self, stack: Any, what: str = "values") -> list[str]:
        """Compare a stack of images (bands, ny, nx) with the truth, bit by bit."""
        stack = np.asarray(stack)
        if stack.shape != (len(NAMES), self.ny, self.nx):
            return [f"{what}: shape {stack.shape}"]
        return [
            f"{what}: {name}"
            for name, plane, truth in zip(NAMES, stack, self.planes, strict=True)
            if np.ascontiguousarray(plane, "<f4").tobytes() != truth.tobytes()
        ]


def same(faults: list[str], what: str, found: Any, truth: Any) -> None:
    """Note a difference."""
    if found != truth and not (isinstance(truth, float) and abs(found - truth) <= 1e-9 * abs(truth)):
        faults.append(f"{what}: {found!r}, not {truth!r}")


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise Absent(package) from None


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Absent(name)
    return found


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, **environment}
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr[-1000:] or done.stdout[-1000:]}")
    return done.stdout


def rasterio_bands(case: Case) -> Verdict:
    """Bands, names, units, nodata, geotransform and CRS."""
    told = version("rasterio")
    import rasterio

    faults: list[str] = []
    with rasterio.open(case.tif) as file:
        faults += case.faults_of(file.read())
        same(faults, "names", list(file.descriptions), NAMES)
        same(faults, "units", [u or "1" for u in file.units[: len(UNITS)]], list(UNITS.values()))
        same(faults, "nodata", [np.isnan(n) for n in file.nodatavals], [True] * len(NAMES))
        transform = file.transform
        for what, found, truth in (
            ("pixel width", transform.a, case.dx * 1e9),
            ("pixel height", -transform.e, case.dy * 1e9),
            ("top", transform.f, case.ny * case.dy * 1e9),
        ):
            same(faults, what, found, truth)
        same(faults, "CRS", file.crs.to_wkt().startswith("LOCAL_CS[") or "ENGCRS" in file.crs.to_wkt(), True)
        count = file.count
    told = f"{told}, GDAL {rasterio.__gdal_version__}"
    return Verdict(told, f"{count} bands, names, units, nodata, frame in nm, CRS", tuple(faults))


def gdal(case: Case) -> Verdict:
    """The tools of GDAL themselves."""
    told = run(program("gdalinfo"), "--version").split(",")[0].removeprefix("GDAL ")
    faults: list[str] = []
    info = json.loads(run("gdalinfo", "-json", str(case.tif)))
    same(faults, "names", [band.get("description") for band in info["bands"]], NAMES)
    same(faults, "units", [band.get("unit", "1") for band in info["bands"][: len(UNITS)]], list(UNITS.values()))
    same(faults, "pixel", info["geoTransform"][1], case.dx * 1e9)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "bands.img")
        run(program("gdal_translate"), "-q", "-of", "ENVI", str(case.tif), str(raw))
        faults += case.faults_of(np.fromfile(raw, "<f4").reshape(-1, case.ny, case.nx))
        cloud = Path(folder, "cloud.tif")
        run("gdal_translate", "-q", "-of", "COG", "-co", "COMPRESS=DEFLATE", str(case.tif), str(cloud))
        again = json.loads(run("gdalinfo", "-json", str(cloud)))
        same(faults, "names in a COG", [band.get("description") for band in again["bands"]], NAMES)
        same(faults, "layout of a COG", again["metadata"].get("IMAGE_STRUCTURE", {}).get("LAYOUT"), "COG")
    return Verdict(told, f"{len(info['bands'])} bands, names, units, frame; made a COG of it", tuple(faults))


def tifffile_both(case: Case) -> Verdict:
    """Both stacks; axes and OME."""
    told = version("tifffile")
    import tifffile

    faults: list[str] = []
    with tifffile.TiffFile(case.tif) as file:
        faults += case.faults_of(file.asarray().reshape(len(NAMES), case.ny, case.nx), "bands")
    with tifffile.TiffFile(case.ome) as file:
        (series,) = file.series
        same(faults, "axes", series.axes, "CYX")
        same(faults, "kind", file.is_ome, True)
        faults += case.faults_of(series.asarray(), "stack")
    return Verdict(told, "bands of the GeoTIFF; OME stack, axes CYX", tuple(faults))


def imagej(case: Case) -> Verdict:
    """ImageJ on a display that nobody sees: size, pixel, every value."""
    jar = Path(os.environ.get("IJ_JAR", IMAGEJ))
    if not jar.exists() or shutil.which("java") is None:
        raise Absent("imagej")
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        raw, macro = Path(folder, "stack.raw"), Path(folder, "read.ijm")
        macro.write_text(
            f'open("{case.ome}");\n'
            "getDimensions(w, h, c, s, f); getVoxelSize(pw, ph, pd, unit);\n"
            'print(getVersion() + "|" + w + "|" + h + "|" + c * s * f + "|" + bitDepth() + "|" + d2s(pw, 9) + "|"'
            " + unit);\n"
            f'saveAs("Raw Data", "{raw}");\n'
        )
        # its macros want a menu, and its menus a display
        out = run(program("xvfb-run"), "-a", "java", "-cp", str(jar), "ij.ImageJ", "-batch", str(macro))
        line = next(text for text in out.splitlines() if text.count("|") == 6)
        told, width, height, planes, depth, pixel, unit = line.split("|")
        numbers = [int(text) for text in (width, height, planes, depth)]
        same(faults, "size", numbers, [case.nx, case.ny, len(NAMES), 32])
        length = float(pixel) * {"nm": 1e-9, "micron": 1e-6, "um": 1e-6, "µm": 1e-6, "cm": 1e-2}.get(unit, 0.0)
        if abs(length - case.dx) > 1e-3 * case.dx:
            faults.append(f"pixel: {pixel} {unit}, not {case.dx * 1e9} nm")
        faults += case.faults_of(np.fromfile(raw, ">f4").reshape(-1, case.ny, case.nx))
    read = f"{planes} slices of {width} × {height}, {depth} bit, pixel {float(pixel):g} {unit}"
    return Verdict(told, read, tuple(faults))


_QGIS = """
import sys, json
from qgis.core import Qgis, QgsApplication, QgsRasterLayer
application = QgsApplication([], False); application.initQgis()
layer = QgsRasterLayer(sys.argv[1], "maps")
provider = layer.dataProvider()
with open(sys.argv[2], "wb") as file:
    for band in range(1, layer.bandCount() + 1):
        block = provider.block(band, layer.extent(), layer.width(), layer.height())  # owns what data() points at
        file.write(bytes(block.data()))
extent = layer.extent()
print("RESULT" + json.dumps(dict(version=Qgis.QGIS_VERSION, valid=layer.isValid(), width=extent.width(),
    height=extent.height(), names=[layer.bandName(b) for b in range(1, layer.bandCount() + 1)],
    crs=layer.crs().isValid(), text=layer.crs().toWkt()[:60])))
"""


def qgis(case: Case) -> Verdict:
    """QGIS without a display: layer, extent, band names, every value."""
    python = SYSTEM_PYTHON if Path(SYSTEM_PYTHON).exists() else sys.executable
    has = subprocess.run([python, "-c", "import qgis.core"], capture_output=True, check=False)
    if has.returncode:
        raise Absent("qgis")
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "bands.raw")
        environment = {"QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": "", "XDG_RUNTIME_DIR": folder}
        out = run(python, "-c", _QGIS, str(case.tif), str(raw), **environment)
        told = json.loads(next(line for line in out.splitlines() if line.startswith("RESULT"))[6:])
        same(faults, "valid", told["valid"], True)
        same(faults, "width in nm", told["width"], case.nx * case.dx * 1e9)
        same(faults, "height in nm", told["height"], case.ny * case.dy * 1e9)
        names = [name.split(": ", 1)[-1] for name in told["names"]]
        same(faults, "names", [name.split(" (")[0] for name in names], NAMES)
        faults += case.faults_of(np.fromfile(raw, "<f4").reshape(-1, case.ny, case.nx))
    read = f"{len(names)} bands, names, extent {told['width']:g} × {told['height']:g} nm"
    return Verdict(told["version"], read, tuple(faults))


def xarray_netcdf(case: Case) -> Verdict:
    """xarray by h5netcdf: units, coordinates, flags, values."""
    told = f"{version('xarray')}, h5netcdf {version('h5netcdf')}"
    import xarray

    faults: list[str] = []
    with xarray.open_dataset(case.h5, group="/entry/maps", engine="h5netcdf", mask_and_scale=False) as data:
        y, x = case.maps.coordinates()
        same(faults, "y", data["y"].values.tobytes(), y.tobytes())
        same(faults, "x", data["x"].values.tobytes(), x.tobytes())
        for name in fv.QUANTITIES:
            same(faults, f"values of {name}", data[name].values.tobytes(), case.maps[name].tobytes())
            same(faults, f"unit of {name}", data[name].attrs["units"], UNITS[name])
            same(faults, f"axes of {name}", data[name].dims, ("y", "x"))
        same(faults, "flags", data["flags"].values.tobytes(), case.maps.flags.tobytes())
        masks, meanings = data["flags"].attrs["flag_masks"], data["flags"].attrs["flag_meanings"].split()
        same(faults, "meanings", dict(zip(meanings, np.asarray(masks).tolist(), strict=True))["no_contact"], 1 << 21)
        count = len(data.data_vars)
    read = f"{count} variables on (y, x) with units, coordinates in m, flags with meanings"
    return Verdict(told, read, tuple(faults))


def nexusformat_data(case: Case) -> Verdict:
    """nexusformat: the default plot."""
    told = version("nexusformat")
    from nexusformat.nexus import nxload

    faults: list[str] = []
    with nxload(str(case.h5)) as root:
        data = root.get_default() if hasattr(root, "get_default") else root.entry.maps
        same(faults, "default", data.nxpath, "/entry/maps")
        same(faults, "class", data.nxclass, "NXdata")
        same(faults, "signal", data.nxsignal.nxname, "modulus")
        same(faults, "axes", [axis.nxname for axis in data.nxaxes], ["y", "x"])
        same(faults, "values", data.nxsignal.nxvalue.tobytes(), case.maps["modulus"].tobytes())
    return Verdict(told, "default plot /entry/maps: NXdata, signal modulus, axes y, x", tuple(faults))


def silx_data(case: Case) -> Verdict:
    """silx: the default plot, its axes, its validity."""
    told = version("silx")
    import h5py
    from silx.io import nxdata

    faults: list[str] = []
    with h5py.File(case.h5, "r") as file:
        data = nxdata.get_default(file)
        same(faults, "a default plot", data is not None and data.is_valid, True)
        if data is not None:
            same(faults, "signal", data.signal_dataset_name, "modulus")
            same(faults, "axes", list(data.axes_dataset_names), ["y", "x"])
            same(faults, "values", data.signal[()].tobytes(), case.maps["modulus"].tobytes())
            same(faults, "an image", data.is_image or data.signal_ndim == 2, True)
            same(faults, "others", "adhesion" in data.auxiliary_signals_dataset_names, True)
    return Verdict(told, "default plot: a valid NXdata image of the modulus, others beside it", tuple(faults))


def h5dump(case: Case) -> Verdict:
    """The tool of the HDF5 library itself."""
    told = run(program("h5dump"), "--version").split("Version ")[-1].strip()
    faults: list[str] = []
    header = run("h5dump", "-A", "-g", "/entry/maps", str(case.h5))
    for text in ('"units"', '"flag_meanings"', '"NXdata"', '"long_name"'):
        same(faults, text, text in header, True)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "values.bin")
        for name in (*fv.QUANTITIES, "flags"):
            run("h5dump", "-d", f"/entry/maps/{name}", "-b", "LE", "-o", str(raw), str(case.h5))
            same(faults, f"values of {name}", raw.read_bytes(), case.maps[name].tobytes())
    return Verdict(told, f"{len(fv.QUANTITIES) + 1} datasets, attributes", tuple(faults))


JUDGES: dict[str, Callable[[Case], Verdict]] = {
    "rasterio": rasterio_bands,
    "GDAL": gdal,
    "QGIS": qgis,
    "tifffile": tifffile_both,
    "ImageJ": imagej,
    "xarray": xarray_netcdf,
    "nexusformat": nexusformat_data,
    "silx": silx_data,
    "h5dump": h5dump,
}


def main() -> int:
    folder = Path(sys.argv[1])
    case = Case(folder, "demo", fv.load(folder / "demo.h5"))
    bad = 0
    print("| judge | version | what it read | equal |\n|---|---|---|---|")
    for name, judge in JUDGES.items():
        try:
            verdict = judge(case)
        except Absent:
            print(f"| {name} | not installed here | | |")
            continue
        bad += bool(verdict.faults)
        print(f"| {name} | {verdict.version} | {verdict.read} | {'; '.join(verdict.faults) or 'to the bit'} |")
    return bad


if __name__ == "__main__":
    sys.exit(main())
