"""Finds the real measurements that tests read where they are present; they are no part of this repository."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

import fvproc as fv

GIVEN = {"spring_constant": 0.3, "deflection_sensitivity": 5e-8}
# every file that can be opened, with what has to be given
OPENED: dict[str, dict[str, float]] = {
    "bruker/egel2_fv16.spm": {},
    "bruker/egel4_single.spm": {},
    "bruker/sapphire_single_v8.001": {},
    "bruker/hooke_single_v6.000": {},
    "jpk/fmt-jpk-fd_spot3-0192.jpk-force": {},
    "jpk/map-data-2022.10.29-12.27.34.564.jpk-force-map": {},
    "jpk/bicarlsen_qi_data-2_0-xs.jpk-qi-data": {},
    "jpk/fmt-jpk-fd_2020.02.07-16.29.05.036.jpk-qi-data": {},
    "jpk/fmt-jpk-fd_flipsign_2015.05.22-15.31.49.352.jpk-force": {},
    "jpk/fmt-jpk-fd_map-data-reference-points.jpk-force-map": {},
    "jpk/fmt-jpk-fd_map1d_2016-11-07.jpk-force-map": {},
    "jpk/fmt-jpk-fd_map2x2_extracted.jpk-force-map": {},
    "jpk/fmt-jpk-fd_map_bad_2013-05-27_1.jpk-force-map": {},
    "jpk/fmt-jpk-fd_qi-data-2021.04.13.jpk-qi-series": {},
    "jpk/fmt-jpk-fd_single-modified_2023.jpk-force": {"spring_constant": 0.3},
    "jpk/fmt-jpk-fd_single_bad_2017-01-16_1.jpk-force": {},
    "jpk/fmt-jpk-fd_single_bad_GWAT_2017-10-17.jpk-force": {},
    "jpk/fmt-jpk-fd_single_tilted-baseline-drift-mitotic_2021-01-29.jpk-force": {},
    "asylum/sofa_map2.tar.gz": {},
    "asylum/IgorIBWReader_ForceCurve.ibw": {},
    "asylum/fmt-igor-fd_SiN_FD_plot.ibw": {},
    "nanosurf/spectroscopy.nid": {},
    "other/fmt-hdf5-fd_version_0.13.3.h5": {},
    "other/fmt-tab-fd_version_0.13.3.tab": {},
    "other/fmt-afm-workshop-fd_mapping_16_2018-08-01_13.07.zip": GIVEN,
}


def real_file(name: str) -> Path:
    """Return the path of a real file such as ``"bruker/egel2_fv16.spm"``; skip the test where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FVPROC_TEST_DATA") or beside)
    path = folder / name
    if not path.exists():
        pytest.skip(f"{name}: not found in {folder}; set FVPROC_TEST_DATA to the folder of real measurements")
    return path


def input_of(name: str, folder: Path) -> Path:
    """Return what is opened of a real file: of an archive of curves the folder, unpacked in `folder`."""
    if name.startswith("other/"):
        pytest.importorskip("afmformats")
    path = real_file(name)
    if not name.endswith(".tar.gz"):
        return path
    with tarfile.open(path) as archive:
        archive.extractall(folder / "map", filter="data")
    return folder / "map"


def opened(name: str, folder: Path) -> fv.ForceVolume:
    """Open a real file, with what has to be given."""
    return fv.open(input_of(name, folder), **OPENED[name])
