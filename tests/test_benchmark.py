"""`fvproc bench`: its bound is that of an independent calculation, its verdicts are right, its set is what it says."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from fvproc import benchmark, bound, simulate
from fvproc.cli import main
from fvproc.errors import FvprocError, OutputError

REFERENCE = Path(__file__).parents[1] / "bench" / "reference"
needs_set = pytest.mark.skipif(not REFERENCE.exists(), reason="an installed package has no bench folder")


@pytest.mark.parametrize("material", simulate.REFERENCE_MATERIALS[::3], ids=lambda m: m.name)
def test_the_bound_is_that_of_the_closed_form(material):
    """Against the analytic derivatives of DMT: ∂d/∂ln E = (2/3)·B·q^(2/3)·S, ∂d/∂z0 = −S, ∂d/∂a = S − 1."""
    z = simulate.ramp(256, material.travel)[1]
    sample, probe = material.sample(), material.probe
    z0 = float(sample.contact_point(probe, float(z.max()))[0]) - 0.37e-9
    reach = material.adhesion / material.spring_constant
    inside = z > z0 - reach
    compliance = float(sample.compliance(probe)[0])
    load = simulate.load_at(np.float64(compliance), np.where(inside, z - z0 + reach, 0.0), 1.5)
    root = np.cbrt(load)
    slope = np.where(inside, root / np.where(inside, root + 2 / 3 * compliance, 1.0), 0.0)
    expected = np.stack([2 / 3 * compliance * root**2 * slope, -slope, np.where(inside, slope - 1, 0.0)], 1)
    columns = bound.jacobian(z, sample, probe, z0)
    scale = np.abs(expected).max(axis=0)
    np.testing.assert_allclose(columns[:, :3] / scale, expected / scale, atol=2e-4)
    np.testing.assert_array_equal(columns[:, 3], 1.0)
    full = np.column_stack([expected, np.ones_like(z), z - z.mean()])
    full /= np.linalg.norm(full, axis=0)
    first = np.linalg.norm(expected[:, 0])
    known = np.sqrt(np.linalg.inv(full.T @ full)[0, 0]) * 1e-11 / first
    assert bound.modulus_bound(z, sample, probe, np.array([z0]), 1e-11) == pytest.approx(known, rel=5e-3)


def test_a_curve_that_tells_nothing_has_no_bound():
    material = simulate.REFERENCE_MATERIALS[0]
    z = simulate.ramp(64, material.travel)[1]
    assert bound.modulus_bound(z, material.sample(), material.probe, np.array([1.0]), 1e-11) == np.inf


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    paths = benchmark.write_set(folder, curves=400, samples=128)
    return {path.stem: path for path in paths}


def test_a_good_recipe_misses_nothing_and_a_biased_one_does(plain):
    path = plain["1.5-GPa"]
    (good,) = benchmark.evaluate([path])
    assert good.misses == () and good.valued == 400
    assert good.scatter < 1.1 * good.bound < 0.2
    (qnm,) = benchmark.evaluate([plain["75-GPa"]], {"fit": {"method": "qnm"}})
    assert "error" in qnm.misses and abs(qnm.error) > 0.03
    (wrong,) = benchmark.evaluate([path], {"tip": {"radius": 15e-9}})
    assert wrong.error == pytest.approx(np.sqrt(2) - 1, rel=0.1)
    assert wrong.within_two < 0.1 and "1σ low" in wrong.misses


def test_limits_forgive_two_standard_errors_and_no_more(plain):
    (row,) = benchmark.evaluate([plain["45-MPa"]])
    limits = benchmark.Limits()
    row = replace(row, bound=0.02, scatter=0.022, error=0.0, within_one=0.68, within_two=0.95, valued=100)
    assert benchmark._judged(row, limits) == []
    assert benchmark._judged(replace(row, scatter=0.025), limits) == []
    assert benchmark._judged(replace(row, scatter=0.0275), limits) == ["scatter"]
    assert benchmark._judged(replace(row, scatter=0.0275, bound=0.2), limits) == []
    assert benchmark._judged(replace(row, error=-0.014), limits) == []
    assert benchmark._judged(replace(row, error=-0.017), limits) == ["error"]
    assert benchmark._judged(replace(row, within_one=0.55), limits) == ["1σ low"]
    assert benchmark._judged(replace(row, within_two=1.0, valued=10000), limits) == ["2σ high"]
    assert benchmark._judged(replace(row, valued=0), limits) == ["no values"]


def test_correlated_noise_has_no_bound_of_white_noise(tmp_path):
    simulate.write_map(tmp_path / "a.h5", ny=8, nx=8, correlation=0.8)
    (row,) = benchmark.evaluate([tmp_path])
    assert np.isnan(row.bound) and row.to_dict()["bound"] is None
    assert " - " in benchmark.table_text([row])


def test_files_without_truth_are_named(plain, tmp_path):
    path = tmp_path / "bare.h5"
    path.write_bytes(plain["45-MPa"].read_bytes())
    with h5py.File(path, "a") as file:
        del file["truth/modulus"]
    with pytest.raises(FvprocError, match=r"bare\.h5: its /truth holds no modulus"):
        benchmark.evaluate([path])
    with h5py.File(path, "a") as file:
        del file["truth"]
    with pytest.raises(FvprocError, match=r"bare\.h5: holds no /truth"):
        benchmark.evaluate([path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FvprocError, match=r"holds no \.h5 file"):
        benchmark.evaluate([tmp_path / "empty"])


def test_the_command_line_judges_and_draws(plain, tmp_path, capsys):
    picture = tmp_path / "bench.png"
    path = str(plain["1.5-GPa"])
    assert main(["bench", "--reference", path, "--strict", "--plot", str(picture), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["file"] == "1.5-GPa.h5" and told["misses"] == [] and told["curves_per_second"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["bench", "--reference", path, "--fit-method", "qnm"]) == 0
    assert main(["bench", "--reference", path, "--fit-method", "qnm", "--strict"]) == 1
    assert "0 of 1 rows miss nothing" in capsys.readouterr().out
    assert main(["bench", "--curves", "20", "--samples", "64"]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 14


def test_a_picture_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "evaluate", lambda *given, **more: pytest.fail("it had begun"))
    (tmp_path / "file").write_text("")
    for name, said in (("file/x.svg", "is a file, not a folder; choose"), ("x.foo", "a picture is a .png, .svg or")):
        assert main(["bench", "--plot", str(tmp_path / name)]) == 2
        assert f"{tmp_path / name}: " in (error := capsys.readouterr().err) and said in error

    def denied(self, *given, **more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", denied)  # the tests may run as root, whom no permission stops
    assert main(["bench", "--plot", str(tmp_path / "x.svg")]) == 2
    assert "x.svg: " in (error := capsys.readouterr().err) and "Permission denied; choose another folder" in error


def test_a_picture_that_the_disk_refuses_is_an_error_with_its_name(plain, tmp_path, monkeypatch):
    rows = benchmark.evaluate([plain["1.5-GPa"]])

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match=r"x\.svg: cannot be written: No space left on device"):
        benchmark.plot(rows, tmp_path / "new" / "x.svg")
    assert not list((tmp_path / "new").iterdir())


@needs_set
def test_the_committed_set_is_what_its_script_makes(tmp_path):
    sys.path.insert(0, str(REFERENCE))
    try:
        import make
    finally:
        sys.path.pop(0)
    expected = json.loads(make.DIGESTS.read_text(encoding="utf-8"))["sha256"]
    here = {path.name: make.digest(path) for path in REFERENCE.glob("*.h5")}
    assert here == expected
    for name in ("plain-45MPa.h5", "artefacts-1.5GPa.h5"):
        (path,) = make.write(tmp_path, only=name)
        with h5py.File(path) as new, h5py.File(REFERENCE / name) as old:
            for branch in ("approach", "retract"):
                ours, theirs = (file[branch]["deflection"][()].astype(int) for file in (new, old))
                # another machine's sine may differ in its last digit, and a rounding with it
                assert np.mean(ours != theirs) < 1e-3 and np.abs(ours - theirs).max() <= 1
            for quantity in old["truth"]:
                np.testing.assert_allclose(new["truth"][quantity][()], old["truth"][quantity][()], rtol=1e-9)


@needs_set
def test_the_default_recipe_on_the_committed_set():
    """Rows of 64 curves: what is missed there beyond two standard errors is missed in earnest."""
    rows = benchmark.evaluate([REFERENCE])
    assert len(rows) == 37
    assert sum(not row.misses for row in rows) >= 34
    assert all("error" not in row.misses for row in rows)
