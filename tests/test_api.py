"""The verbs of the API: what they return, and what they refuse before work starts."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

import fvproc as fv
from fvproc import engine, readers, simulate, truth
from fvproc.errors import CalibrationError, FileFormatError, OutputError, RecipeError
from fvproc.quantities import Flag


def test_process_gives_maps_with_provenance(sei_file, tmp_path):
    volume = fv.open(sei_file)
    maps = fv.process(volume, output=tmp_path / "out.h5")
    assert maps.shape == volume.shape == (48, 40)
    assert maps.provenance["recipe"]["fit"]["method"] == "ml"
    assert maps.provenance["failures"] == []
    again = fv.load(tmp_path / "out.h5")
    assert again.records.tobytes() == maps.records.tobytes()


def test_the_demo_scene_comes_out_as_it_went_in(sei_file):
    maps = fv.process(sei_file)
    table = {row.name: row for row in truth.compare(maps, sei_file)}
    assert set(table) == {material.name for material in simulate.MATERIALS}
    for row in table.values():
        assert abs(row.error) < 0.01 + 3.8 * 1.2533 * row.scatter / np.sqrt(row.valued), row
        assert row.valued > 0.98 * row.curves
    true = truth.read_truth(sei_file)
    bad = true["bad"] > 0
    assert bad.sum() >= 4
    assert np.isnan(maps["modulus"][bad]).all()
    wanted = (Flag.NO_CONTACT, Flag.SATURATED, Flag.CONTACT_NOT_LEFT, Flag.INVALID_CURVE)
    for number, flag in enumerate(wanted, 1):
        assert np.all(maps.flags[true["bad"] == number] & np.uint32(flag)), flag
    good = ~bad & np.isfinite(maps["contact_height"])
    assert np.median(np.abs(maps["contact_height"] - true["contact_height"])[good]) < 3e-11
    assert np.corrcoef(maps["contact_height"][good], true["contact_height"][good])[0, 1] > 0.999


def test_arrays_in_records_out():
    probe = simulate.Probe(0.4)
    z = simulate.ramp(300, 150e-9)
    sample = simulate.Sample(np.full(20, 45e6), np.full(20, 1e-9), np.full(20, 5e-9))
    z0 = sample.contact_point(probe, z[0].max())
    generator = np.random.default_rng(0)
    deflection = tuple(
        simulate.deflection(z[i], sample, probe, z0, retract=bool(i)) + generator.normal(0, 2e-11, (20, 300))
        for i in range(2)
    )
    recipe = fv.Recipe(tip=fv.Tip.sphere(radius=30e-9), poisson_ratio=0.3)
    records = fv.fit_curves(z, deflection, calibration=0.4, recipe=recipe)
    assert np.median(records["modulus"]) == pytest.approx(45e6, rel=0.01)
    # one curve, and volts
    volts = tuple(d[0] / 50e-9 for d in deflection)
    calibration = fv.Calibration(fv.Setting(0.4), fv.Setting(50e-9))
    one = fv.fit_curves(z, volts, calibration=calibration, recipe=recipe)
    assert one.shape == (1,)
    assert one["modulus"][0] == pytest.approx(records["modulus"][0], rel=1e-3)
    with pytest.raises(RecipeError, match=r"tip\.radius"):
        fv.fit_curves(z, deflection, calibration=0.4, recipe=fv.Recipe())


def test_curves_that_do_not_fit_each_other_are_refused_as_the_docstring_says():
    z, d = np.linspace(0, 1e-7, 64), np.zeros((3, 64))
    recipe = fv.Recipe(tip=fv.Tip.sphere(radius=30e-9))
    pair = (z, z[::-1])
    for wrong_z, wrong_d, words in (
        (pair, (d,), r"deflection: expected two arrays.*not 1"),
        ((z,), (d, d), r"z: expected two arrays.*not 1"),
        ((z, z, z), (d, d, d), r"z: expected two arrays.*not 3"),
        (pair, (d[:0], d[:0]), r"deflection of shape \(0, 64\).*one curve"),
        (pair, (d[:, :0], d[:, :0]), r"deflection of shape \(3, 0\).*one sample"),
        (pair, (d[None], d[None]), r"deflection of shape \(1, 3, 64\)"),
        (pair, (d, d[:2]), "3 curves of approach and 2 of retract"),
        ((z[:9], z[:9]), (d, d), "."),
    ):
        with pytest.raises(fv.KernelError, match=words):
            fv.fit_curves(wrong_z, wrong_d, calibration=0.4, recipe=recipe)


@pytest.mark.parametrize(
    "given, how",
    [("nanoscope", r"fv\.Recipe\.vendor"), ({"fit": {"method": "qnm"}}, r"fv\.Recipe\.from_dict"), (3, "load")],
)
def test_what_is_no_recipe_is_refused_with_the_way_to_one(curves_file, given, how):
    volume = fv.open(curves_file)
    z, d = np.linspace(0, 1e-7, 64), np.zeros((3, 64))
    for verb in (
        lambda: fv.process(volume, given),
        lambda: fv.explain(volume, given, 0, 0),
        lambda: fv.fit_curves((z, z), (d, d), calibration=0.4, recipe=given),
    ):
        with pytest.raises(TypeError, match=rf"expected a fvproc\.Recipe, not a {type(given).__name__}.*{how}"):
            verb()


@pytest.mark.parametrize("name", ["tile_bytes", "threads"])
@pytest.mark.parametrize("value", [0, -5])
def test_a_number_of_nothing_is_refused(curves_file, tmp_path, name, value):
    with pytest.raises(fv.FvprocError, match=f"{name} = {value}: at least one"):
        fv.process(curves_file, output=tmp_path / "out.h5", **{name: value})
    with pytest.raises(fv.FvprocError, match=f"{name} = {value}: at least one"):
        fv.process_many([curves_file], output_dir=tmp_path, **{name: value})
    assert not list(tmp_path.iterdir())


def test_one_curve_and_its_fit(sei_file):
    volume = fv.open(sei_file)
    curve = fv.curve(volume, 3, 4)
    assert all(values.shape == (256,) for values in curve.values())
    assert np.all(np.diff(curve["approach_z"]) > 0) and np.all(np.diff(curve["retract_z"]) < 0)
    maps = fv.process(volume)
    fit = fv.explain(volume, None, 3, 4)
    assert fit.record.tobytes() == maps.records[3, 4].tobytes()
    assert len(fit.fit_z) == fit.record["n_fit"]
    for verb in (lambda: fv.curve(volume, 48, 0), lambda: fv.explain(volume, None, 0, -1)):
        with pytest.raises(IndexError, match="outside the grid of 48 × 40"):
            verb()


def test_marked_samples_of_a_curve_are_nan(sei_file):
    volume = fv.open(sei_file)
    y, x = np.argwhere(truth.read_truth(sei_file)["bad"] == 4)[0]
    assert np.isnan(fv.curve(volume, int(y), int(x))["retract_deflection"]).all()


def test_what_is_missing_is_refused_before_work_starts(bare_file, monkeypatch, tmp_path):
    monkeypatch.setattr(readers, "read_tile", lambda *_: pytest.fail("work had started"))
    with pytest.raises(CalibrationError, match="--spring-constant"):
        fv.process(bare_file, output=tmp_path / "out.h5")
    volume = fv.open(bare_file, spring_constant=0.4)
    with pytest.raises(CalibrationError, match="--deflection-sensitivity"):
        fv.process(volume)
    volume = fv.open(bare_file, spring_constant=0.4, deflection_sensitivity=30e-9)
    with pytest.raises(RecipeError, match="--tip-radius"):
        fv.process(volume)
    assert not (tmp_path / "out.h5").exists()


def test_outputs_are_refused_before_work_starts(sei_file, monkeypatch, tmp_path):
    monkeypatch.setattr(readers, "read_tile", lambda *_: pytest.fail("work had started"))
    (tmp_path / "old.h5").write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"old\.h5"):
        fv.process(sei_file, output=tmp_path / "old.h5")
    with pytest.raises(OutputError, match="suffix"):
        fv.process(sei_file, output=tmp_path / "out.docx")
    copy = tmp_path / "copy.h5"
    shutil.copy(sei_file, copy)
    with pytest.raises(OutputError, match="is the input"):
        fv.process(copy, output=copy, overwrite=True)
    assert (tmp_path / "old.h5").read_bytes() == b"precious"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="named as an output twice"):
        fv.process(sei_file, output=[tmp_path / "a.h5", tmp_path / "folder" / ".." / "a.h5"])
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.parametrize("alias", ["folder/../curves.h5", "link.h5", "hard.h5"])
@pytest.mark.parametrize("verb", [fv.process, fv.convert], ids=["process", "convert"])
def test_the_measurement_is_never_overwritten_by_whatever_name(curves_file, tmp_path, monkeypatch, alias, verb):
    source = tmp_path / "curves.h5"
    shutil.copy(curves_file, source)
    (tmp_path / "folder").mkdir()
    try:
        (tmp_path / "link.h5").symlink_to(source)
        (tmp_path / "hard.h5").hardlink_to(source)
    except OSError:
        pytest.skip("links are not to be had here")
    monkeypatch.setattr(readers, "read_tile", lambda *_: pytest.fail("work had started"))
    with pytest.raises(OutputError, match="is the input"):
        verb(source, output=tmp_path / alias, overwrite=True)
    assert source.read_bytes() == curves_file.read_bytes()


def test_maps_are_saved_where_the_curve_for_the_picture_has_gone(curves_file, tmp_path, monkeypatch):
    """The typical curve is read after the work: that the share is gone by then must not cost the maps."""

    def gone(*_):
        raise OSError("the share went away")

    monkeypatch.setattr(engine, "explain", gone)
    fv.process(curves_file, output=[tmp_path / "out.png", tmp_path / "out.h5"])
    assert (tmp_path / "out.png").exists()
    assert np.isfinite(fv.load(tmp_path / "out.h5")["modulus"]).all()


def test_an_input_that_changed_since_it_was_opened_is_refused(curves_file, tmp_path):
    copy = tmp_path / "copy.h5"
    shutil.copy(curves_file, copy)
    volume = fv.open(copy)
    os.utime(copy, ns=(1, 1))
    with pytest.raises(FileFormatError, match=r"copy\.h5"):
        fv.process(volume)


def test_many_files_one_on_a_share_that_goes_away(curves_file, sei_file, tmp_path, monkeypatch):
    honest = readers.vendor_maps

    def read(volume):
        if volume.path == str(curves_file):
            raise OSError("the share went away")
        return honest(volume)

    monkeypatch.setattr(readers, "vendor_maps", read)
    results = fv.process_many([curves_file, sei_file], output_dir=tmp_path)
    assert [result.error for result in results] == ["the share went away", None]


def test_many_files_one_of_them_bad(curves_file, sei_file, tmp_path):
    bad = tmp_path / "bad.spm"
    bad.write_bytes(b"nothing that a microscope writes")
    results = fv.process_many([curves_file, bad, sei_file], output_dir=tmp_path / "out", suffixes=[".h5", ".npz"])
    assert [result.error is None for result in results] == [True, False, True]
    assert "bad.spm" in results[1].error
    assert results[2].curves == 48 * 40 and results[2].flags[Flag.SNAP_IN] > 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "homogeneous.h5",
        "homogeneous.npz",
        "sei.h5",
        "sei.npz",
    ]
    with pytest.raises(OutputError, match="would both write"):
        fv.process_many([curves_file, tmp_path / "homogeneous.h5"], output_dir=tmp_path)


@pytest.mark.parametrize("compress", [False, True])
def test_convert_keeps_every_number(sei_file, tmp_path, compress):
    fv.convert(sei_file, tmp_path / "copy.h5", compress=compress)
    ours, theirs = fv.open(tmp_path / "copy.h5"), fv.open(sei_file)
    assert (ours.grid, ours.approach, ours.retract) == (theirs.grid, theirs.approach, theirs.retract)
    assert fv.process(ours).records.tobytes() == fv.process(theirs).records.tobytes()
    with pytest.raises(OutputError, match="exists"):
        fv.convert(sei_file, tmp_path / "copy.h5")
