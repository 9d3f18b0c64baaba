"""Statistics, film thickness and profiles against maps whose truth is known, and `fvproc stats` on them."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest
from test_writers_samples import ramp_maps

import fvproc as fv
from fvproc.cli import main
from fvproc.maps import ParameterMaps
from fvproc.quantities import QUANTITIES
from fvproc.regions import RegionError
from fvproc.sections import film_thickness, profile
from fvproc.statistics import Fit, fits, statistics
from fvproc.volume import Grid

TILT = (3e-3, -2e-3)
STEP = 12e-9


def two_materials(ny: int = 128, nx: int = 100, strays: float = 0.0, seed: int = 7) -> ParameterMaps:
    """Left 40 columns: 1 GPa, log-normal by 0.25, on a tilted plane; the rest 5 ± 0.5 GPa, 12 nm higher."""
    generator = np.random.default_rng(seed)
    maps = ramp_maps(ny, nx, size_y=ny * 1e-8, size_x=nx * 1e-8)
    film = np.arange(nx) >= 40
    modulus = np.where(
        film,
        5e9 + 5e8 * generator.standard_normal((ny, nx)),
        1e9 * np.exp(0.25 * generator.standard_normal((ny, nx))),
    )
    modulus[generator.random((ny, nx)) < strays] = 80e9
    maps.records["modulus"] = modulus
    maps.records["modulus_std"] = 0.03 * modulus
    y, x = maps.coordinates()
    height = TILT[0] * y[:, None] + TILT[1] * x + STEP * film + 2e-10 * generator.standard_normal((ny, nx))
    maps.records["contact_height"] = height
    maps.records["modulus"][:2] = np.nan
    maps.records["flags"] = 0
    return maps


def film_of(maps: ParameterMaps) -> np.ndarray:
    return np.broadcast_to(np.arange(maps.shape[1]) >= 40, maps.shape).copy()


def test_simple_numbers_are_numpys():
    maps = two_materials()
    film = film_of(maps)
    (one,) = statistics(maps, {"film": film}, ["modulus"])
    values = maps["modulus"][2:, 40:].astype(float).ravel()
    assert (one.region, one.quantity, one.unit) == ("film", "modulus", "Pa")
    assert (one.pixels, one.count) == (128 * 60, 126 * 60)
    assert one.mean == pytest.approx(values.mean(), rel=1e-12)
    assert one.std == pytest.approx(values.std(ddof=1), rel=1e-12)
    assert one.median == np.median(values)
    assert one.percentiles == {p: np.percentile(values, p) for p in (5, 25, 75, 95)}
    assert (one.minimum, one.maximum) == (values.min(), values.max())
    assert one.noise == pytest.approx(0.03 * one.median, rel=1e-6)
    assert one.spread == pytest.approx(5e8, rel=0.03)
    assert one.counts.sum() == values.size  # 5 spreads hold all of a normal distribution


def test_fits_find_the_law_and_its_numbers_in_spite_of_strays():
    maps = two_materials(strays=0.05)
    film = film_of(maps)
    soft, stiff = statistics(maps, {"soft": ~film, "stiff": film}, ["modulus"])
    assert [fit.law for fit in soft.fits] == ["lognormal", "gaussian"]
    assert soft.fits[0].centre == pytest.approx(1e9, rel=0.02)
    assert soft.fits[0].width == pytest.approx(0.25, rel=0.03)
    assert soft.fits[0].left_out == pytest.approx(0.05 * soft.count, rel=0.25)
    gaussian = next(fit for fit in stiff.fits if fit.law == "gaussian")
    assert gaussian.centre == pytest.approx(5e9, rel=0.01)
    assert gaussian.width == pytest.approx(5e8, rel=0.03)
    assert gaussian.distance == pytest.approx(0.05, abs=0.02)  # the strays
    assert stiff.std > 10 * gaussian.width  # what an ordinary deviation makes of them


def test_the_gaussian_fit_of_normal_values_is_unbiased():
    generator = np.random.default_rng(0)
    widths = [next(f for f in fits(generator.normal(3, 2, 500)) if f.law == "gaussian").width for _ in range(300)]
    error = np.std(widths) / math.sqrt(len(widths))
    assert abs(np.mean(widths) - 2) < 4 * error + 0.01


@pytest.mark.parametrize("fit", [Fit("gaussian", 3.0, 0.7, 0, 0.0), Fit("lognormal", 3.0, 0.4, 0, 0.0)])
def test_a_density_is_normalised_and_centred(fit):
    values = np.linspace(-5, 60, 200_001)
    density = fit.density(values)
    cumulated = np.cumsum(density) * (values[1] - values[0])
    assert cumulated[-1] == pytest.approx(1, abs=1e-4)
    assert values[np.searchsorted(cumulated, 0.5)] == pytest.approx(3, abs=1e-3)


@pytest.mark.parametrize("values", [[], [1.0] * 7, [2.0] * 30, [np.nan] * 30])
def test_too_few_or_equal_values_have_no_fit(values):
    maps = ramp_maps(1, 40)
    maps.records["adhesion"] = np.nan
    maps.records["adhesion"][0, : len(values)] = values
    (one,) = statistics(maps, {"all": np.ones((1, 40), bool)}, ["adhesion"])
    assert one.fits == ()
    assert one.count == sum(np.isfinite(values))
    assert one.counts.sum() == one.count


def test_a_histogram_over_decades_has_steps_of_the_logarithm():
    maps = two_materials()
    maps.records["modulus"] = np.geomspace(1e6, 1e10, maps.grid.curves).reshape(maps.shape)
    (one,) = statistics(maps, {"all": np.ones(maps.shape, bool)}, ["modulus"], bins=20)
    np.testing.assert_allclose(np.diff(np.log(one.edges)), np.log(1e4) / 20, rtol=1e-5)
    assert one.counts.sum() == maps.grid.curves
    assert np.ptp(one.counts) <= 3


def test_film_thickness_is_the_step_whatever_the_tilt():
    maps = two_materials()
    film = film_of(maps)
    found = film_thickness(maps, ("film", film), ("substrate", ~film))
    assert found.thickness == pytest.approx(STEP, abs=5e-11)
    assert found.tilt == pytest.approx(TILT, rel=0.01)
    assert found.spread == pytest.approx(2e-10, rel=0.05)
    assert found.substrate_spread == pytest.approx(2e-10, rel=0.05)
    assert (found.count, found.substrate_count) == (128 * 60, 128 * 40)
    unlevelled = film_thickness(maps, ("film", film), ("substrate", ~film), level=False)
    assert abs(unlevelled.thickness - STEP) > 5e-10  # the tilt is in it


def test_particles_on_the_substrate_do_not_tilt_its_plane():
    maps = two_materials()
    maps.records["contact_height"][100:110, 5:15] += 50e-9
    film = film_of(maps)
    found = film_thickness(maps, ("film", film), ("substrate", ~film))
    assert found.thickness == pytest.approx(STEP, abs=5e-11)


def test_thickness_is_refused_where_regions_overlap_or_hold_no_plane():
    maps = two_materials()
    film = film_of(maps)
    line = np.zeros(maps.shape, bool)
    line[:, 3] = True
    with pytest.raises(RegionError, match="share"):
        film_thickness(maps, ("film", film), ("all", np.ones(maps.shape, bool)))
    with pytest.raises(RegionError, match="one line"):
        film_thickness(maps, ("film", film), ("line", line))
    with pytest.raises(RegionError, match="no pixel"):
        film_thickness(maps, ("nothing", np.zeros(maps.shape, bool)), ("line", line))


def test_a_profile_passes_each_pixel_once_and_tells_the_distance():
    maps = ramp_maps(5, 9, size_y=5e-7, size_x=18e-7)  # 100 nm by 200 nm
    along = profile(maps, "modulus", (2, 1), (2, 6))
    np.testing.assert_array_equal(along.values, maps["modulus"][2, 1:7])
    np.testing.assert_allclose(along.distance, np.arange(6) * 2e-7, atol=1e-20)
    up = profile(maps, "modulus", (0.05e-6, 0.3e-6), (0.45e-6, 0.3e-6), unit="m")
    np.testing.assert_array_equal(up.values, maps["modulus"][:, 1])
    np.testing.assert_allclose(up.distance, np.arange(5) * 1e-7, atol=1e-20)
    diagonal = profile(maps, "modulus", (4, 4), (0, 0))
    np.testing.assert_array_equal(diagonal.values, np.diag(maps["modulus"])[::-1])
    assert diagonal.distance[-1] == pytest.approx(math.hypot(4e-7, 8e-7))


def test_a_wide_profile_is_the_median_over_its_width_and_passes_over_what_is_missing():
    maps = ramp_maps(7, 8)
    maps.records["adhesion"] = np.arange(7)[:, None] * 1.0
    maps.records["adhesion"][3, 2] = np.nan
    maps.records["adhesion"][:, 5] = np.nan
    along = profile(maps, "adhesion", (3, 0), (3, 7), width=3)
    assert along.values[[0, 2, 7]].tolist() == [3, 3, 3]
    assert along.spread[0] == pytest.approx(0.682689, abs=1e-5)
    assert np.isnan(along.values[5]) and np.isnan(along.spread[5])
    edge = profile(maps, "adhesion", (0, 0), (0, 7), width=3)  # one of the three lines is off the map
    assert edge.values[0] == 0.5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("modulus", (0, 0), (9, 0)), "leaves the map"),
        (("modulus", (1, 1), (1, 1)), "starts where it ends"),
        (("nothing", (0, 0), (1, 1)), "choose from"),
    ],
)
def test_a_profile_that_is_none_is_refused(arguments, told):
    with pytest.raises(RegionError, match=told):
        profile(ramp_maps(4, 4), *arguments)
    with pytest.raises(RegionError, match="width"):
        profile(ramp_maps(4, 4), "modulus", (0, 0), (1, 1), width=0)


@pytest.fixture
def output(tmp_path):
    fv.save(two_materials(), tmp_path / "out.h5")
    return tmp_path / "out.h5"


def test_the_command_tells_json(output, capsys):
    arguments = ["stats", str(output), "--where", "stiff: modulus>3GPa", "--polygon", "-1,-1 -1,39.5 200,39.5 200,-1"]
    arguments += ["--film", "stiff", "--substrate", "modulus<2.2GPa", "--profile", "10,0,10,99", "--json"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    stiff, soft = (next(r for r in told["regions"] if r["region"] == n) for n in ("stiff", "polygon 1"))
    assert stiff["quantity"] == soft["quantity"] == "modulus"
    assert stiff["median"] == pytest.approx(5e9, rel=0.01)
    assert soft["pixels"] == 128 * 40 and soft["count"] == 126 * 40
    assert told["thickness"][0]["thickness"] == pytest.approx(STEP, abs=1e-10)
    heights = next(p for p in told["profiles"] if p["quantity"] == "contact_height")
    assert len(heights["values"]) == 100
    assert heights["distance"][-1] == pytest.approx(99e-8)


def test_the_command_writes_tables(output, tmp_path, capsys):
    arguments = ["stats", str(output), "--where", "modulus>3GPa", "--quantity", "all", "--profile", "5,0,5,9"]
    assert main([*arguments, "-o", str(tmp_path / "s.csv")]) == 0
    written = capsys.readouterr().out.split()
    assert written == [str(tmp_path / name) for name in ("s.csv", "s.histograms.csv", "s.profiles.csv")]
    rows = list(csv.DictReader((tmp_path / "s.csv").open(encoding="utf-8")))
    assert [row["quantity"] for row in rows] == list(QUANTITIES)
    assert float(rows[0]["median"]) == pytest.approx(5e9, rel=0.01)
    bins = list(csv.DictReader((tmp_path / "s.histograms.csv").open(encoding="utf-8")))
    assert sum(int(row["count"]) for row in bins if row["quantity"] == "modulus") == pytest.approx(
        int(rows[0]["count"]), abs=5
    )
    assert main([*arguments, "-o", str(tmp_path / "s.csv")]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "-o", str(tmp_path / "s.txt")]) == 2
    assert main(["stats", str(output), "--csv"]) == 0
    printed = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["region"] for row in printed} == {"whole map"}


def test_maps_without_those_told_by_default_are_told_of_all(tmp_path, capsys):
    few = ParameterMaps(two_materials().grid, two_materials().records, quantities=("r_squared", "n_fit"))
    fv.save(few, tmp_path / "few.h5")
    assert main(["stats", str(tmp_path / "few.h5")]) == 0
    assert "r_squared" in capsys.readouterr().out
    assert main(["stats", str(tmp_path / "few.h5"), "-o", str(tmp_path / "s.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "s.csv").open(encoding="utf-8")))
    assert {row["quantity"] for row in rows} == {"r_squared", "n_fit"}


def test_a_profile_over_a_scan_of_unknown_size_is_in_pixels(tmp_path, capsys):
    fv.save(ParameterMaps(Grid(4, 9), ramp_maps(4, 9).records), tmp_path / "m.h5")
    command = ["stats", str(tmp_path / "m.h5"), "--profile", "2,1,2,6", "--quantity", "modulus"]
    assert main(command) == 0
    assert "modulus along 5 px (" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["profiles"]
    assert (told["distance_unit"], told["distance"][-1]) == ("px", 5)
    assert main([*command, "-o", str(tmp_path / "s.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "s.csv").open(encoding="utf-8")))
    assert {row["distance_unit"] for row in rows} == {"px"}
    assert profile(ramp_maps(4, 9, size_y=1e-6, size_x=1e-6), "modulus", (2, 1), (2, 6)).distance_unit == "m"


def test_the_command_tells_people(output, capsys):
    assert (
        main(["stats", str(output), "--where", "modulus>3GPa", "--film", "modulus>3GPa", "--substrate", "!fatal"]) == 2
    )
    assert "share" in capsys.readouterr().err
    assert main(["stats", str(output), "--where", "a: modulus>3GPa", "--where", "a: modulus<3GPa"]) == 2
    assert "two of this name" in capsys.readouterr().err
    assert main(["stats", str(output), "--film", "modulus>3GPa", "--substrate", "modulus<2.2GPa"]) == 0
    assert "12 nm thick" in capsys.readouterr().out.replace("12.01", "12").replace("11.99", "12")
    assert main(["stats", str(output)]) == 0
    assert "whole map: 12,800 pixels" in capsys.readouterr().out


def test_the_modules_are_part_of_the_public_names():
    maps = two_materials()
    stiff = fv.regions.where(maps, "modulus>3GPa")
    assert fv.statistics.statistics(maps, {"stiff": stiff}, ["modulus"])[0].median == pytest.approx(5e9, rel=0.01)
    assert fv.sections.profile(maps, "modulus", (5, 0), (5, 9)).values.size == 10
