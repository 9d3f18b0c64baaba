"""The pictures of `fvproc plot`: each shows the numbers it claims to, and nothing leaves the page."""

from __future__ import annotations

import h5py
import matplotlib
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from test_writers_figure import CASES, curve_of, drawn_texts
from test_writers_samples import described, dmt_curve, film_maps

import fvproc as fv
from fvproc import regions, simulate
from fvproc.cli import main
from fvproc.density import count
from fvproc.errors import FvprocError
from fvproc.maps import Density, ParameterMaps
from fvproc.pictures import KINDS, materials_or_all
from fvproc.quantities import Flag
from fvproc.volume import Grid
from fvproc.writers import curve_panel, curve_plots, panels, plots, scenes, sheet


def density_of(maps: ParameterMaps) -> Density:
    counts = np.arange(12).reshape(3, 4)
    return Density(np.linspace(-1e-8, 2e-8, 5), np.linspace(-5e-9, 2e-8, 4), counts, counts[::-1], 7, 2)


DRAWN = {
    "maps": lambda maps: plots.draw_maps(maps, ("height", "modulus", "adhesion", "r_squared", "n_fit")),
    "one map": lambda maps: plots.draw_maps(maps, ("modulus",)),
    "histogram": lambda maps: plots.draw_histograms(maps, materials_or_all(maps), ("modulus", "adhesion")),
    "correlation": lambda maps: plots.draw_correlation(maps, materials_or_all(maps)),
    "flags": scenes.draw_flags,
    "topography": lambda maps: scenes.draw_topography(maps, "height"),
    "density": lambda maps: curve_plots.draw_density(maps, density_of(maps)),
    "curves": lambda maps: curve_plots.draw_curves(maps, [curve for curve in [curve_of(maps)] * 3 if curve]),
}


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("case", ["tall", "row", "single", "empty", "crowded"])
def test_every_picture_of_every_map_stays_on_its_page(monkeypatch, kind, case):
    maps = CASES[case]()
    if kind == "curves" and curve_of(maps) is None:
        pytest.skip("no curve to show")
    with matplotlib.rc_context(sheet.style()):
        page = DRAWN[kind](maps)
        texts = drawn_texts(monkeypatch, page)
    assert texts
    width, height = page.get_size_inches() * page.dpi
    for text, box in texts:
        assert box.x0 >= -1 and box.x1 <= width + 1, text
        assert box.y0 >= -1 and box.y1 <= height + 1, text


def two_materials() -> ParameterMaps:
    maps = film_maps(60, 60)
    generator = np.random.default_rng(1)
    left = np.arange(60) < 20
    maps.records["modulus"] = np.where(left, 2e9, 9e9) * np.exp(0.05 * generator.standard_normal((60, 60)))
    maps.records["modulus_std"] = 0.05 * maps["modulus"]
    maps.records["adhesion"] = np.where(left, 12e-9, 5e-9) + 3e-10 * generator.standard_normal((60, 60))
    maps.records["flags"] = 0
    return described(maps)


def test_materials_are_found_where_the_values_part():
    maps = two_materials()
    found = regions.materials(maps)
    assert [name.split()[1] for name in found] == ["GPa", "GPa"]
    soft, stiff = found.values()
    np.testing.assert_array_equal(soft, np.broadcast_to(np.arange(60) < 20, (60, 60)))
    np.testing.assert_array_equal(stiff, ~soft)
    maps.records["modulus"][0, 0] = np.nan
    assert sum(int(mask.sum()) for mask in regions.materials(maps).values()) == 3599


def test_one_broad_distribution_is_one_material():
    maps = two_materials()
    maps.records["modulus"] = 5e9 * np.exp(0.4 * np.random.default_rng(3).standard_normal((60, 60)))
    maps.records["modulus_std"] = 0.02 * maps["modulus"]
    assert len(regions.materials(maps)) == 1
    maps.records["modulus"] = 5e9
    assert list(regions.materials(maps)) == ["5 GPa"]
    maps.records["modulus"] = np.nan
    assert regions.materials(maps) == {}


def test_histograms_tell_median_and_spread_of_each_region():
    maps = two_materials()
    page = plots.draw_histograms(maps, {"soft": regions.where(maps, "modulus<4GPa")}, ["adhesion"])
    written = [text.get_text() for axes in page.axes for text in axes.texts]
    values = maps["adhesion"][:, :20]
    spread = 1.4826 * np.median(np.abs(values - np.median(values)))
    assert f"{np.median(values) * 1e9:.2f} ± {spread * 1e9:.2f} nN" in written
    assert "1200" in written


def test_correlation_counts_every_curve_within_its_frame():
    maps = two_materials()
    page = plots.draw_correlation(maps, {})
    (mesh,) = (c for axes in page.axes for c in axes.collections if isinstance(c, QuadMesh) and axes.get_xlabel())
    assert mesh.get_array().sum() == pytest.approx(3600, abs=40)  # 0.2 % at either end may be beyond
    corner = mesh.get_array()[mesh.get_array().shape[0] // 2 :, : mesh.get_array().shape[1] // 2]
    assert corner.sum() == pytest.approx(1200, abs=20)  # soft and sticky: left, above


def test_limits_go_before_the_robust_ones():
    maps = two_materials()
    page = plots.draw_maps(maps, ("modulus",), {"modulus": (1e9, 50e9)})
    (image,) = page.axes[0].images
    assert image.get_clim() == pytest.approx((1, 50))
    assert image.norm.__class__.__name__ == "LogNorm"


def test_few_values_below_zero_are_shown_as_low_and_not_as_missing():
    maps = two_materials()
    maps.records["deformation"] = np.geomspace(1e-11, 1e-8, 3600).reshape(60, 60)
    maps.records["deformation"][0, 0] = -1e-12
    (image,) = plots.draw_maps(maps, ("deformation",)).axes[0].images
    assert not np.ma.getmaskarray(image.get_array()).any()
    maps.records["deformation"][:10] *= -1  # around zero: no logarithm
    (image,) = plots.draw_maps(maps, ("deformation",)).axes[0].images
    assert image.norm.__class__.__name__ == "Normalize"


def test_table_of_flags_lists_each_with_its_count():
    maps = two_materials()
    maps.records["flags"][:3] = Flag.SNAP_IN
    maps.records["flags"][5, :7] = Flag.NO_CONTACT
    written = [text.get_text().strip() for axes in scenes.draw_flags(maps).axes for text in axes.texts]
    for name, number in (("fine", "3413"), ("snap_in", "180"), ("no_contact", "7"), ("fatal", "7")):
        assert written[written.index(name) + 1] == number
    assert fv.FLAG_MEANINGS[Flag.SNAP_IN] in written


def test_topography_is_grey_where_there_is_no_modulus():
    maps = two_materials()
    maps.records["contact_height"] = 0.0
    maps.records["modulus"][10:20, 10:20] = np.nan
    axes = next(axes for axes in scenes.draw_topography(maps).axes if axes.name == "3d")
    (surface,) = axes.collections
    grey = np.ptp(surface.get_facecolors()[:, :3], axis=-1) < 0.02
    assert grey.size == 59 * 59
    assert grey.sum() == 10 * 10


def test_topography_of_a_scan_of_unknown_size_is_in_pixels():
    sized = two_materials()
    maps = ParameterMaps(Grid(60, 60), sized.records)
    for shown, label, most in ((maps, "x (px)", 60), (sized, "x (nm)", 60 * sized.grid.pixel[1] * 1e9)):
        axes = next(axes for axes in scenes.draw_topography(shown).axes if axes.name == "3d")
        assert axes.get_xlabel() in (label, label.replace("nm", "µm"))
        if shown is maps:
            assert 0.9 * most < axes.get_xlim()[1] < 1.1 * most


@pytest.mark.parametrize(
    ("kind", "there", "told"),
    [
        ("topography", ("height", "r_squared"), None),
        ("topography", ("adhesion",), "needs contact_height or height.*there are adhesion"),
        ("correlation", ("adhesion", "adhesion_std", "height"), None),
        ("correlation", ("adhesion", "adhesion_std"), "two quantities; there are only adhesion"),
    ],
)
def test_pictures_of_maps_that_lack_the_usual_show_what_there_is(tmp_path, kind, there, told):
    whole = two_materials()
    maps = ParameterMaps(whole.grid, whole.records, provenance=whole.provenance, quantities=there)
    if told is None:
        fv.plot(maps, tmp_path / "p.png", kind)
        assert (tmp_path / "p.png").exists()
    else:
        with pytest.raises(FvprocError, match=told):
            fv.plot(maps, tmp_path / "p.png", kind)


def test_residuals_are_measured_minus_fit():
    maps = film_maps(20, 20)
    curve = dmt_curve(maps, 10, 10)
    z, residual = curve_panel.residuals_of(curve)
    assert z.size == curve.fit_z.size
    order = np.argsort(curve.fit_z)
    measured = residual + curve.fit_force[order]
    for where, force in zip(z, measured, strict=True):
        at = [curve.retract_force[curve.retract_z == where], curve.approach_force[curve.approach_z == where]]
        assert np.isclose(np.concatenate(at), force, rtol=1e-9, atol=1e-18).any()
    page = curve_plots.draw_curves(maps, [curve])
    lower = page.axes[1]
    factor, _ = panels.readable("N", np.array([np.std(residual)]))
    np.testing.assert_allclose(lower.lines[-1].get_ydata(), residual * factor)


def test_density_counts_every_sample_at_its_separation_and_force(curves_file):
    volume = fv.open(curves_file)
    recipe = fv.Recipe()
    maps = fv.process(volume, recipe)
    from fvproc.job import agree

    complete = agree(volume, recipe)
    found = count(volume, complete, maps)
    assert found.curves + found.left_out == maps.grid.curves
    # the same of one curve by the kernel's own baseline
    only = np.zeros(maps.shape, bool)
    only[5, 6] = True
    found = count(volume, complete, maps, only)
    fit = fv.explain(volume, recipe, 5, 6)
    separation = (
        maps["contact_point"][5, 6] + fit.retract_force / volume.calibration.spring_constant.value - fit.retract_z
    )
    truth, *_ = np.histogram2d(fit.retract_force, separation, (found.force_edges, found.separation_edges))
    assert found.curves == 1 and found.left_out == 0
    assert found.retract.sum() == pytest.approx(truth.sum(), abs=2)
    for axis, edges in ((1, found.force_edges), (0, found.separation_edges)):
        means = [np.average(edges[:-1], weights=counts.sum(axis=axis)) for counts in (found.retract, truth)]
        # the baselines differ by a part of the noise
        assert means[0] == pytest.approx(means[1], abs=1.5 * (edges[1] - edges[0]))
    maps.records["contact_point"] = np.nan
    with pytest.raises(fv.FvprocError, match="contact point"):
        count(volume, complete, maps)


@pytest.mark.parametrize("kept", [0.9, 0.6])
def test_density_of_branches_that_were_cut_short_has_its_zero_of_force_all_the_same(tmp_path, kept):
    """What is missing is what lies farthest: the baseline is then that of what there is."""
    path = tmp_path / "cut.h5"
    simulate.write_map(path, ny=3, nx=4, samples=256, modulus=916e6, adhesion=4e-9, seed=5)
    with h5py.File(path, "r+") as file:
        file["retract/deflection"][...] += 3000
        file["retract"].create_dataset("valid_length", data=np.full((3, 4), int(kept * 256), np.int32))
    volume = fv.open(path)
    maps = fv.process(volume)
    found = count(volume, fv.Recipe().completed(volume), maps)
    assert found.left_out == 0 and found.retract.sum() > 0
    forces = (found.force_edges[:-1] + found.force_edges[1:]) / 2
    fullest = forces[found.retract.sum(axis=1).argmax()]
    assert abs(fullest) < 2 * (forces[1] - forces[0])


@pytest.fixture(scope="module")
def output(curves_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("plots") / "out.h5"
    fv.process(curves_file, output=path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_draws_every_kind(kind, output, curves_file, tmp_path, capsys):
    target = tmp_path / "p.png"
    assert main(["plot", str(output), "--kind", kind, "--curves", str(curves_file), "-o", str(target)]) == 0
    assert target.read_bytes().startswith(b"\x89PNG")
    assert main(["plot", str(output), "--kind", kind, "--curves", str(curves_file), "-o", str(target)]) == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".svg", ".pdf"])
def test_pictures_are_reproducible_to_the_byte(output, tmp_path, suffix):
    maps = fv.load(output)
    for name in "ab":
        fv.plot(maps, tmp_path / f"{name}{suffix}", "correlation")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kind", "density"], "--curves"),
        (["--kind", "maps", "--quantity", "modulos"], "modulus"),
        (["--kind", "correlation", "--quantity", "modulus"], "two quantities"),
        (["--limits", "modulus=3GPa"], "LOW,HIGH"),
        (["--limits", "modulus=3GPa,1GPa"], "lower limit"),
        (["--curve", "1,1"], "--curves"),
        (["-o", "x.h5"], ".png, .svg or .pdf"),
    ],
)
def test_the_command_says_what_is_missing(output, tmp_path, capsys, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", str(output), *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_maps_of_another_measurement_are_refused(curves_file, tmp_path):
    maps = ParameterMaps(Grid(2, 2))
    with pytest.raises(fv.FvprocError, match="its grid"):
        fv.plot(described(maps), tmp_path / "x.png", "curves", volume=fv.open(curves_file))
