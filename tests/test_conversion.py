"""Any real file as a curves file: a run on the copy gives the bytes of one on the original; origin kept."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from real_data import real_file

import fvproc as fv
from fvproc import readers

GIVEN = {"spring_constant": 0.3, "deflection_sensitivity": 5e-8}
FILES = {
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
    "other/fmt-ntmdt-txt-fd_2015_01_17_gel4-0,1_mQ_adh_6B_Curve_DFL_Height_51.txt": GIVEN,
    "other/fmt-afm-workshop-fd_mapping_16_2018-08-01_13.07.zip": GIVEN,
}


def opened(name: str, folder: Path) -> fv.ForceVolume:
    """Open a real file; of an archive of curves the folder."""
    if name.startswith("other/"):
        pytest.importorskip("afmformats")
    path = real_file(name)
    if name.endswith(".tar.gz"):
        with tarfile.open(path) as archive:
            archive.extractall(folder / "map", filter="data")
        path = folder / "map"
    return fv.open(path, **FILES[name])


@pytest.mark.parametrize("name", FILES)
def test_a_run_on_the_copy_gives_the_same_records(name: str, tmp_path: Path) -> None:
    volume = opened(name, tmp_path)
    recipe = fv.Recipe.from_dict({"tip": {"shape": "sphere", "radius": 1e-6}, "sample": {"poisson_ratio": 0.4}})
    fv.convert(volume, tmp_path / "copy.h5", compress=True)
    copy = fv.open(tmp_path / "copy.h5")
    assert fv.process(copy, recipe).records.tobytes() == fv.process(volume, recipe).records.tobytes()
    assert copy.grid == volume.grid
    assert copy.calibration == volume.calibration
    assert (copy.tip_radius, copy.tip_half_angle) == (volume.tip_radius, volume.tip_half_angle)
    assert copy.poisson_ratio == volume.poisson_ratio
    assert copy.vendor_recipe == volume.vendor_recipe
    assert copy.header["source_name"] == Path(volume.path).name
    assert copy.header["source_format"] == volume.format
    assert copy.header["source_header_sha256"] == volume.header_digest
    for key, value in volume.header.items():
        assert copy.header[f"source_{key}"] == value
    assert copy.warnings == volume.warnings
    ours, theirs = readers.vendor_maps(copy), readers.vendor_maps(volume)
    assert ours.keys() == theirs.keys()
    for key, vendor in theirs.items():
        assert (ours[key].name, ours[key].unit, ours[key].label) == (vendor.name, vendor.unit, vendor.label)
        np.testing.assert_array_equal(ours[key].values, vendor.values)
