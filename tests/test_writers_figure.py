"""Pictures: every panel shows what the maps say, nothing overlaps, and no global state of matplotlib is touched."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from itertools import combinations

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.image import imread
from matplotlib.text import Text
from test_writers_samples import described, dmt_curve, film_maps, ramp_maps, random_maps

from fvproc.maps import ParameterMaps, not_computed
from fvproc.quantities import QUANTITIES, RECORD, Flag, readable
from fvproc.volume import Grid
from fvproc.writers import figure, panels, sheet


def single() -> ParameterMaps:
    maps = film_maps(64, 64)
    return described(ParameterMaps(Grid(1, 1), maps.records[10:11, 20:21].copy()))


def crowded() -> ParameterMaps:
    """Return maps on which every flag occurs, whose file has a name of 200 characters."""
    maps = film_maps(40, 60)
    for number, flag in enumerate(Flag):
        maps.records["flags"][number % 40, :] |= np.uint32(flag)
    return described(maps, "/data/" + "W" * 200 + "$x^$.spm")


COUNTED = ("modulus", "adhesion", "deformation")  # whose distributions are shown
CASES = {
    "square": lambda: film_maps(64, 64),
    "wide": lambda: film_maps(30, 100),
    "tall": lambda: film_maps(100, 30),
    "narrow": lambda: film_maps(120, 20),
    "low": lambda: film_maps(20, 120),
    "strip": lambda: film_maps(300, 5),
    "two": lambda: film_maps(2, 2),
    "row": lambda: film_maps(1, 70),
    "column": lambda: film_maps(70, 1),
    "single": single,
    "empty": lambda: ParameterMaps(Grid(20, 50)),
    "empty row": lambda: ParameterMaps(Grid(1, 50)),
    "empty single": lambda: ParameterMaps(Grid(1, 1)),
    "crowded": crowded,
}


def curve_of(maps: ParameterMaps):
    fine = np.argwhere(np.isfinite(maps["modulus"]) & np.isfinite(maps["adhesion"]))
    return dmt_curve(maps, *fine[len(fine) // 2]) if len(fine) else None


def drawn_texts(monkeypatch, page):
    """Return (text, box) of everything that a rendering really writes."""
    found = []
    draw = Text.draw

    def record(self, renderer):
        if self.get_visible() and self.get_text().strip():
            found.append((self.get_text(), self.get_window_extent(renderer)))
        draw(self, renderer)

    monkeypatch.setattr(Text, "draw", record)
    page.canvas.draw()
    monkeypatch.undo()
    return found


@pytest.mark.parametrize("with_curve", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_no_text_overlaps_another_or_leaves_the_page(monkeypatch, case, with_curve):
    maps = CASES[case]()
    with matplotlib.rc_context(sheet.style()):
        page = figure.draw(maps, curve_of(maps) if with_curve else None)
        texts = drawn_texts(monkeypatch, page)
    assert len(texts) >= 10
    width, height = page.get_size_inches() * page.dpi
    for text, box in texts:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
    for (text, box), (other, other_box) in combinations(texts, 2):
        across = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        up = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        assert across <= 1 or up <= 1, f"{text!r} overlaps {other!r}"


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_files_are_what_their_suffix_says_and_carry_the_provenance(tmp_path, suffix):
    maps = film_maps(30, 40)
    path = tmp_path / f"m{suffix}"
    figure.write(maps, path, curve=curve_of(maps))
    content = path.read_bytes()
    assert content.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])
    assert maps.provenance["recipe_digest"].encode() in content
    if suffix == ".png":
        pixels = imread(path)
        assert pixels.shape[1] > 3000
        assert 0.01 < np.mean(np.any(pixels[..., :3] < 0.99, axis=-1)) < 0.9


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_settings_of_the_user_change_nothing_and_are_left_alone(tmp_path, suffix):
    maps = film_maps(12, 16)
    figure.write(maps, tmp_path / f"a{suffix}")
    changes = {"font.size": 31.0, "axes.grid": True, "axes.facecolor": "red", "image.cmap": "jet"}
    with matplotlib.rc_context(changes):
        before = dict(matplotlib.rcParams)
        figure.write(maps, tmp_path / f"b{suffix}")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_pyplot_is_not_imported():
    program = (
        "import sys; sys.path[:0] = [p for p in sys.argv[1:]]\n"
        "from test_writers_samples import film_maps\n"
        "from fvproc.writers import figure\n"
        "figure.draw(film_maps(8, 8))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *sys.path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def axes_by_letter(page):
    return {axes.texts[0].get_text(): axes for axes in page.axes if axes.texts and len(axes.texts[0].get_text()) == 1}


def test_maps_show_the_values_the_right_way_up_with_missing_pixels_in_grey():
    maps = film_maps(30, 40)
    panel = axes_by_letter(figure.draw(maps))
    for letter, name in zip("abcd", figure.MAPPED, strict=True):
        (image,) = panel[letter].images
        values = maps[name]
        factor = readable(QUANTITIES[name].unit, values - (np.nanmedian(values) if name == "height" else 0))[0]
        shown = (values.astype(float) - (np.nanmedian(values) if name == "height" else 0)) * factor
        np.testing.assert_allclose(image.get_array().filled(np.nan), shown, rtol=1e-5, atol=1e-5)
        assert image.origin == "lower"
        assert panel[letter].get_ylim() == (0, pytest.approx(maps.grid.size_y))
        colours = image.to_rgba(image.get_array())[..., :3]
        missing = ~np.isfinite(values)
        assert missing.any()
        np.testing.assert_allclose(colours[missing], np.tile(to_rgb(panels.MASKED), (missing.sum(), 1)), atol=0.003)
        assert np.abs(colours[~missing] - to_rgb(panels.MASKED)).max(axis=-1).min() > 0.05
        assert panel[letter].get_aspect() == 1
        low, high = np.nanpercentile(shown[shown > 0] if name == "modulus" else shown, (1, 99))
        assert (image.norm.vmin, image.norm.vmax) == pytest.approx((low, high), rel=1e-4)


@pytest.mark.parametrize("colours", sorted({*figure.MAPPED.values(), figure.OTHER_COLOURS}))
def test_masked_grey_stands_out_from_every_colour_in_use(colours):
    table = matplotlib.colormaps[colours](np.linspace(0, 1, 256))[:, :3]
    assert np.abs(table - to_rgb(panels.MASKED)).max(axis=1).min() > 0.05


@pytest.mark.parametrize("shape", [(30, 40), (1, 70)])
def test_titles_name_the_quantity_in_a_readable_unit(shape):
    maps = film_maps(*shape)
    panel = axes_by_letter(figure.draw(maps))
    titles = [panel[letter].texts[1].get_text() for letter in "abcde"]
    modulus = readable("Pa", maps["modulus"])[1]
    assert titles == [
        "Height at peak force − median (nm)",
        f"Young's modulus ({modulus})",
        "Adhesion force (nN)",
        "Deformation (nm)",
        "Standard error ÷ modulus (%)",
    ]


@pytest.mark.parametrize(("decades", "log"), [(1.0, False), (1.4, False), (1.7, True), (4.0, True)])
def test_scale_is_logarithmic_from_a_decade_and_a_half_on(decades, log):
    values = np.geomspace(1e6, 1e6 * 10 ** (decades / 0.98), 5001)
    scale = panels.scale_of(values, "Pa", "viridis", log=True)
    assert scale.log is log
    assert isinstance(scale.norm, LogNorm) is log
    assert not panels.scale_of(values, "Pa", "viridis", log=False).log


@pytest.mark.parametrize("values", [[2.0, 2.0], [0.0], [-1e-9], [np.nan, 3.0, np.inf], [-1.0, 0.0, 5.0]])
def test_scale_of_awkward_values_has_a_span(values):
    low, high = panels.scale_of(np.array(values), "m", "viridis", log=True).limits
    assert np.isfinite([low, high]).all()
    assert low < high


@pytest.mark.parametrize("values", [[], [np.nan], [np.inf, -np.inf]])
def test_scale_of_nothing_is_none(values):
    assert panels.scale_of(np.array(values, float), "m", "viridis") is None


def test_classes_of_flags():
    maps = ramp_maps(1, 4)
    maps.records["flags"][0] = [0, Flag.POOR_FIT, Flag.NO_CONTACT, Flag.NO_CONTACT | Flag.POOR_FIT]
    assert panels.classes(maps).tolist() == [[0, 1, 2, 2]]


def test_legend_counts_classes_and_names_the_most_frequent_flags():
    maps = film_maps(60, 80)
    page = figure.draw(maps)
    written = [text.get_text() for axes in page.axes for text in axes.texts]
    classes = np.bincount(panels.classes(maps).ravel(), minlength=3)
    for name, count in zip(("fine", "warned", "fatal"), classes, strict=True):
        assert name in written
        assert any(text.startswith(f"{count}  (") for text in written)
    for flag, count in maps.flag_counts().items():
        assert flag.name.lower() in written
        assert str(count) in written


def test_legend_of_many_flags_lists_the_most_frequent_and_counts_the_rest():
    maps = crowded()
    lines = list(figure._legend_lines(maps, 10))
    assert len(lines) <= 10
    listed = [name for colour, name, _, meaning in lines if colour is None and meaning]
    fatal = {flag: n for flag, n in maps.flag_counts().items() if flag >= Flag.NOT_COMPUTED}
    assert max(fatal, key=fatal.get).name.lower() in listed
    rest = [int(name.split()[1]) for _, name, _, meaning in lines if name.startswith("and ")]
    assert len(listed) + sum(rest) == len(maps.flag_counts())


@pytest.mark.parametrize("name", COUNTED)
def test_histogram_counts_the_curves_and_marks_the_median(name):
    maps = film_maps(60, 80)
    letter = dict(zip(COUNTED, "fgh", strict=True))[name]
    axes = axes_by_letter(figure.draw(maps))[letter]
    values = maps[name][np.isfinite(maps[name])].astype(float)
    counted = sum(bar.get_height() for bar in axes.patches)
    assert 0.98 * values.size <= counted <= values.size
    factor, unit = readable(QUANTITIES[name].unit, values)
    median = np.median(values) * factor
    assert axes.lines[-1].get_xdata()[0] == pytest.approx(median, rel=1e-6)
    assert axes.get_title(loc="right") == f"median {median:.3g} {unit}"
    assert axes.get_xscale() == ("log" if name == "modulus" else "linear")
    widths = np.array([bar.get_width() for bar in axes.patches])
    spread = widths[1:] / widths[:-1] if name == "modulus" else widths
    np.testing.assert_allclose(spread, spread[0], rtol=1e-6)


def test_relative_error_is_in_percent_of_the_modulus():
    maps = film_maps(30, 40)
    (image,) = axes_by_letter(figure.draw(maps))["e"].images
    expected = 100 * maps["modulus_std"].astype(float) / maps["modulus"]
    np.testing.assert_allclose(image.get_array().filled(np.nan), expected, rtol=1e-5)


def test_curve_is_shown_in_readable_units_from_its_contact_point():
    maps = film_maps(64, 64)
    curve = curve_of(maps)
    axes = axes_by_letter(figure.draw(maps, curve))["j"]
    lines = {line.get_label(): line for line in axes.lines}
    assert {"approach", "retract", "fit", "contact point"} <= set(lines)
    contact = float(curve.record["contact_point"])
    np.testing.assert_allclose(lines["retract"].get_xdata(), (curve.retract_z - contact) * 1e9, atol=1e-6)
    np.testing.assert_allclose(lines["approach"].get_ydata(), curve.approach_force * 1e9, rtol=1e-9)
    np.testing.assert_allclose(lines["fit"].get_ydata(), curve.fit_force * 1e9, rtol=1e-9)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("piezo extension z − contact point (nm)", "force (nN)")
    title = axes.texts[1].get_text()
    assert f"Row {curve.y}, column {curve.x}" in title
    assert panels.number_with_error(curve.record, "modulus") in title
    assert panels.number_with_error(curve.record, "adhesion") in title


def test_pixel_of_the_curve_is_ringed_on_the_maps():
    maps = film_maps(64, 48)
    curve = dataclasses.replace(curve_of(maps), y=50, x=3)
    y, x = maps.coordinates()
    for letter in "abcd":
        rings = [line for line in axes_by_letter(figure.draw(maps, curve))[letter].lines if line.get_marker() == "o"]
        assert rings
        for ring in rings:
            assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (pytest.approx(x[3]), pytest.approx(y[50]))


def test_curve_without_fit_contact_or_numbers_is_still_shown():
    maps = film_maps(64, 64)
    record = not_computed(1)[0]
    record["modulus_lower"] = 3e10
    none = np.empty(0)
    curve = dataclasses.replace(curve_of(maps), record=record, fit_z=none, fit_force=none)
    axes = axes_by_letter(figure.draw(maps, curve))["j"]
    assert "fit" not in {line.get_label() for line in axes.lines}
    assert axes.get_xlabel() == "piezo extension z (µm)" or axes.get_xlabel() == "piezo extension z (nm)"
    assert "E > 30 GPa (95 %)" in axes.texts[1].get_text()
    assert "adhesion unknown" in axes.texts[1].get_text()


def test_profile_of_one_row_shows_values_over_the_position():
    maps = film_maps(1, 70)
    axes = axes_by_letter(figure.draw(maps))["c"]
    line = axes.lines[-1]
    np.testing.assert_allclose(line.get_ydata(), maps["adhesion"].ravel() * 1e9, rtol=1e-5)
    np.testing.assert_allclose(line.get_xdata(), maps.coordinates()[1] * 1e6, rtol=1e-6)
    assert axes.get_xlabel() == "x (µm)"
    assert axes_by_letter(figure.draw(film_maps(70, 1)))["c"].get_xlabel() == "y (µm)"


def test_single_curve_shows_every_number_and_flag():
    maps = single()
    maps.records["flags"] |= np.uint32(Flag.POOR_FIT)
    page = figure.draw(maps, dmt_curve(maps, 0, 0))
    written = [text.get_text() for text in page.texts]
    for name, quantity in QUANTITIES.items():
        if not name.endswith("_std"):
            assert quantity.label in written
            assert panels.number_with_error(maps.records[0, 0], name) in written
    assert written[written.index("Warning") + 1] == "poor_fit"
    assert len(page.axes) == 1


def test_heading_names_file_and_recipe():
    page = figure.draw(film_maps(20, 30))
    name, line = (text.get_text() for text in page.texts)
    assert name == "2024-05-17_graphite_SEI_formation_cycle3_PFQNM_0042.spm"
    for part in ("20 × 30 curves", "2 µm × 3 µm", "DMT on retract", "tip radius 25 nm", "ν = 0.3", "k = 42 N/m"):
        assert part in line


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (2.134e9, 4.4e7, "2.134 ± 0.044 GPa"),
        (2.134e9, 5.2e9, "2.1 ± 5.2 GPa"),
        (2.134e9, 7.7e11, "2 ± 770 GPa"),
        (2.134e9, np.nan, "2.134 GPa"),
        (np.nan, 1.0, "no value"),
        (np.inf, 1.0, "no value"),
    ],
)
def test_numbers_are_written_with_two_digits_of_their_error(value, error, expected):
    record = np.zeros((), RECORD)
    record["modulus"], record["modulus_std"] = value, error
    assert panels.number_with_error(record, "modulus") == expected


@pytest.mark.parametrize(
    ("length", "expected"), [(1e-6, 1e-6), (9.99e-7, 5e-7), (4.99e-7, 2e-7), (1.7e-6, 1e-6), (7.0, 5.0)]
)
def test_scale_bar_has_a_round_length(length, expected):
    assert panels.round_length(length) == pytest.approx(expected)


@pytest.mark.parametrize("grid", [Grid(30, 40, 3e-6, 4e-6), Grid(30, 40)])
def test_scale_bar_is_as_long_as_it_says(grid):
    maps = ParameterMaps(grid, film_maps(30, 40).records)
    axes = axes_by_letter(figure.draw(maps))["b"]
    (bar,) = (line for line in axes.lines if line.get_linewidth() == 2)
    share = np.ptp(bar.get_xdata())
    text = axes.texts[-1].get_text()
    assert text == ("1 µm" if grid.size_x else "10 px")
    assert share == pytest.approx(0.25)


@pytest.mark.parametrize("shape", [(7, 9), (1, 9), (1, 1)])
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_random_bits_are_drawn_without_complaint(tmp_path, shape, seed):
    maps = random_maps(*shape, seed)
    for name in QUANTITIES:
        maps[name][np.isnan(maps[name])] = np.nan  # quiet ones: NumPy warns of any other when it converts it
    figure.write(maps, tmp_path / "m.png")
    assert (tmp_path / "m.png").stat().st_size > 10_000
