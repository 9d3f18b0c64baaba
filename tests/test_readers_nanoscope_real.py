"""Real NanoScope files against what the instrument itself said of them."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
from real_data import real_file

from fvproc import readers
from fvproc.errors import FileFormatError
from fvproc.readers import nanoscope_images
from fvproc.recipe import Recipe
from fvproc.volume import ForceVolume, RawTile, Setting, Tile


@pytest.fixture(scope="module")
def egel() -> ForceVolume:
    return readers.open_volume(real_file("bruker/egel2_fv16.spm"))


@pytest.fixture(scope="module")
def vendor() -> dict[str, np.ndarray]:
    """The instrument's own numbers, even rows: (8, 16) each."""
    with real_file("reference/egel2_fv16_vendor_even_rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == np.repeat(np.arange(0, 16, 2), 16).tolist()
    names = ("height_nm", "modulus_sneddon_Pa", "stiffness_N_per_m", "adhesion_nN")
    return {name: np.array([float(row[name]) for row in rows]).reshape(8, 16) for name in names}


def metres(volume: ForceVolume, raw: RawTile, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (z, deflection) of a branch in metres."""
    branch = getattr(raw, name)
    scales = volume.z_scale(name), volume.deflection_scale(name)
    return branch.z * scales[0][0] + scales[0][1], branch.deflection * scales[1][0] + scales[1][1]


def pull_off(volume: ForceVolume) -> np.ndarray:
    """Return the lowest force of each retract curve below its baseline, the line through 30 % of the approach."""
    raw = readers.read_tile(volume, Tile(0, 256))
    (far_z, far), (z, deflection) = (metres(volume, raw, name) for name in ("approach", "retract"))
    lines = np.polynomial.polynomial.polyfit(far_z[:307], far[:, :307].T, 1)
    level = lines[0][:, None] + lines[1][:, None] * z
    return -(deflection - level).min(axis=1).reshape(16, 16) * 0.1332


def test_the_description(egel: ForceVolume) -> None:
    assert egel.shape == (16, 16)
    assert (egel.approach.samples, egel.retract.samples) == (1024, 1024)
    assert egel.approach.deflection.dtype == "int32"  # though the header says two bytes a pixel
    assert egel.grid.size_x == egel.grid.size_y == pytest.approx(2e-6)
    assert egel.calibration.spring_constant == Setting(0.1332)
    assert egel.calibration.deflection_sensitivity is not None
    assert egel.calibration.deflection_sensitivity.value == pytest.approx(27.39e-9)
    assert egel.tip_half_angle == Setting(0.314159)
    assert egel.poisson_ratio == 0.5
    assert egel.has_height
    assert len(pickle.dumps(egel)) < 10_000
    recipe = Recipe.vendor(egel)
    assert (recipe.fit.model, recipe.fit.window, recipe.tip.half_angle) == ("sneddon_cone", (0.2, 0.8), 0.314159)
    assert (recipe.baseline.fraction, recipe.baseline.order, recipe.baseline.source) == (0.3, 1, "approach")
    assert recipe.deformation.region == 0.98


def test_curves_are_in_the_order_of_time(egel: ForceVolume) -> None:
    raw = readers.read_tile(egel, Tile(0, 256))
    for name, first, last in (("approach", "far", "near"), ("retract", "near", "far")):
        z, deflection = metres(egel, raw, name)
        ends = {first: deflection[:, :20].mean(axis=1), last: deflection[:, -20:].mean(axis=1)}
        assert (ends["near"] - ends["far"] > 5e-9).all()
        assert ((z[-1] > z[0]) == (name == "approach")).all()
        assert np.ptp(z) == pytest.approx(2e-6 * 1023 / 1024, rel=1e-4)


def test_adhesion_is_the_instruments(egel: ForceVolume, vendor: dict) -> None:
    ratio = pull_off(egel)[::2] / (vendor["adhesion_nN"] * 1e-9)
    assert np.median(ratio) == pytest.approx(0.9986, abs=0.002)
    assert np.mean(np.abs(ratio - 1) < 0.01) > 0.7


def test_row_0_of_curves_and_images_is_the_same_edge(egel: ForceVolume, vendor: dict) -> None:
    found = pull_off(egel)[::2].ravel()
    image = readers.vendor_maps(egel)["adhesion"].values
    assert np.corrcoef(found, image[::2].ravel())[0, 1] > 0.98
    assert np.corrcoef(found, image[::-1][::2].ravel())[0, 1] < 0.5
    assert np.corrcoef(found, image[::2, ::-1].ravel())[0, 1] < 0.5


def test_height_is_the_instruments(egel: ForceVolume, vendor: dict) -> None:
    expected = vendor["height_nm"] * 1e-9
    np.testing.assert_allclose(readers.vendor_maps(egel)["height"].values[::2], expected, rtol=5e-6, atol=1e-13)
    height = readers.read_tile(egel, Tile(0, 256)).height
    assert height is not None
    np.testing.assert_allclose(height.reshape(16, 16)[::2], expected, rtol=5e-6, atol=1e-13)


def test_undeclared_images_prove_what_they_are(egel: ForceVolume, vendor: dict) -> None:
    maps = readers.vendor_maps(egel)
    assert list(maps) == ["height", "modulus", "stiffness", "adhesion"]
    np.testing.assert_allclose(maps["modulus"].values[::2], vendor["modulus_sneddon_Pa"], rtol=1e-6)
    np.testing.assert_allclose(maps["stiffness"].values[::2], vendor["stiffness_N_per_m"], rtol=1e-6)
    np.testing.assert_allclose(maps["adhesion"].values[::2], vendor["adhesion_nN"] * 1e-9, rtol=1e-6)
    assert [vendor_map.unit for vendor_map in maps.values()] == ["m", "Pa", "N/m", "N"]


def test_undeclared_images_in_a_wrong_order_of_rows_prove_nothing(egel: ForceVolume, tmp_path: Path) -> None:
    whole = bytearray(Path(egel.path).read_bytes())
    for start in (2179136, 2180160, 2181184):
        image = np.frombuffer(bytes(whole[start : start + 1024]), "<i4").reshape(16, 16)
        whole[start : start + 1024] = image[::-1].tobytes()
    path = tmp_path / "flipped.spm"
    path.write_bytes(whole)
    assert list(readers.vendor_maps(readers.open_volume(path))) == ["height", *(f"undeclared_{i}" for i in (1, 2, 3))]


def test_an_undeclared_image_of_another_scale_proves_nothing(egel: ForceVolume, tmp_path: Path) -> None:
    whole = bytearray(Path(egel.path).read_bytes())
    image = np.frombuffer(bytes(whole[2181184:2182208]), "<i4")
    whole[2181184:2182208] = (image // 2).astype("<i4").tobytes()
    path = tmp_path / "halved.spm"
    path.write_bytes(whole)
    assert list(readers.vendor_maps(readers.open_volume(path))) == ["height", "modulus", "stiffness", "undeclared_3"]


def test_a_map_of_the_right_size_but_another_order_is_another_map() -> None:
    expected = 1.0 + 0.01 * np.random.default_rng(0).standard_normal(500)
    assert nanoscope_images._same(expected * 1.01, expected)
    assert not nanoscope_images._same(np.roll(expected, 1), expected)
    assert not nanoscope_images._same(expected[:20], expected[:20])


def test_the_proof_needs_some_curves_only(egel: ForceVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nanoscope_images, "_PROOF_CURVES", 96)
    assert list(readers.vendor_maps(egel)) == ["height", "modulus", "stiffness", "adhesion"]


def test_the_published_file_with_an_edited_header_is_refused() -> None:
    path = real_file("bruker/egel2_fv16_published_corrupt.spm")
    with pytest.raises(FileFormatError, match=r"published_corrupt.*3073 bytes.*edited and is 1 byte\(s\) longer"):
        readers.open_volume(path)


@pytest.mark.parametrize("grown", [-200, -5, -1, 1, 2, 3, 4, 8, 100])
def test_any_edit_of_the_header_is_refused(egel: ForceVolume, tmp_path: Path, grown: int) -> None:
    whole = Path(egel.path).read_bytes()
    place = whole.index(b"\\Extender")
    whole = whole[:place] + b" " * grown + whole[place:] if grown > 0 else whole[:place] + whole[place - grown :]
    path = tmp_path / "edited.spm"
    path.write_bytes(whole)
    with pytest.raises(FileFormatError, match="edited"):
        readers.open_volume(path)


def test_single_curves_of_three_versions_are_metres() -> None:
    # file, samples, first and last raw deflection in time on approach and retract, metres per count, travel of z
    cases = [
        ("egel4_single.spm", 1024, (856, 4264, 4204, 85), 0.000375 * 27.39e-9, 227.2211 * 13.203e-9 * 1023 / 1024),
        ("sapphire_single_v8.001", 512, (-27, 537, 478, -26), 0.000375 * 72.76923e-9, 1645 * 0.000375 * 960.1708e-9),
        ("hooke_single_v6.000", 2048, (-5593, -4012, -3840, -5641), 0.0003051758 * 74.2788e-9, 1583 * 0.0003051758e-6),
    ]
    for name, samples, ends, scale, travel in cases:
        volume = readers.open_volume(real_file(f"bruker/{name}"))
        assert volume.grid.shape == (1, 1)
        raw = readers.read_tile(volume, Tile(0, 1))
        found = []
        for branch in ("approach", "retract"):
            z, deflection = metres(volume, raw, branch)
            z = np.broadcast_to(z, deflection.shape)
            assert deflection.shape == (1, samples)
            found += [deflection[0, 0], deflection[0, -1]]
            assert (z[0, -1] > z[0, 0]) == (branch == "approach")
            if branch == "approach":
                assert z[0, -1] - z[0, 0] == pytest.approx(travel, rel=1e-6)
        np.testing.assert_allclose(found, np.array(ends) * scale, rtol=1e-6)
        assert raw.height is None


def test_each_version_tells_its_own_calibration() -> None:
    volume = readers.open_volume(real_file("bruker/sapphire_single_v8.001"))
    assert volume.calibration.spring_constant == Setting(90.0)  # the height sensor's section says 0.0677954
    assert Recipe.vendor(volume).fit.model == "dmt"  # spherical, adhesion included
    volume = readers.open_volume(real_file("bruker/hooke_single_v6.000"))
    assert volume.calibration.spring_constant == Setting(0.0549531)
    assert volume.tip_radius is None
    assert volume.poisson_ratio is None
    assert not volume.vendor_recipe
    assert not volume.missing()
