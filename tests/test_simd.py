"""The instruction sets: each gives the same bytes, the best is taken, and what cannot run is refused in words."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from any_input import DTYPES, KNOWN_NOISE, SHAPES, assert_values_or_flags, deflection, many_recipes, settings_for
from simulated import CASES, measure

from fvproc import _core
from fvproc._core import instruction_sets
from fvproc.errors import FvprocError
from fvproc.volume import Channel, RawBranch, RawTile

OTHERS = [name for name in _core.available_instruction_sets() if name != "baseline"]


def fitted(name: str, raw: RawTile, settings: _core.KernelSettings) -> np.ndarray:
    """Records of one instruction set, through the door."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_core, "_kernel", instruction_sets.load(name))
        return _core.fit_tile(raw, settings)


def assert_same_bytes(raw: RawTile, settings: _core.KernelSettings) -> np.ndarray:
    baseline = fitted("baseline", raw, settings)
    for name in OTHERS:
        other = fitted(name, raw, settings)
        unequal = np.flatnonzero([a.tobytes() != b.tobytes() for a, b in zip(baseline, other, strict=True)])
        assert not unequal.size, f"{name}: curves {unequal}: {other[unequal[0]]}, not {baseline[unequal[0]]}"
    return baseline


@pytest.mark.skipif(not OTHERS, reason="this CPU has the baseline only")
@pytest.mark.parametrize("name", CASES)
def test_simulated_curves_give_the_same_bytes(name):
    for recipe in (
        {},
        {"fit": {"method": "qnm"}},
        {"contact": {"method": "threshold"}},
        {"contact": {"method": "gradient"}},
        {"contact": {"method": "ratio_of_variances"}},
        {"contact": {"method": "ratio_of_variances", "position": "detected"}},
        {"fit": {"branch": "approach"}},
        {"noise": {"approach": KNOWN_NOISE[0], "retract": KNOWN_NOISE[0]}},
    ):
        for sigma, samples in ((2e-11, 512), (1e-10, 131)):
            measured = measure(CASES[name], curves=61, samples=samples, sigma=sigma, **recipe)
            records = assert_same_bytes(measured.raw, measured.settings)
            assert np.isfinite(records["modulus"]).any() or name == "70 GPa"


@pytest.mark.skipif(not OTHERS, reason="this CPU has the baseline only")
@pytest.mark.parametrize("dtype", DTYPES)
def test_garbage_gives_the_same_bytes_with_many_recipes(dtype):
    generator, fits = np.random.default_rng(7), 0
    channel = Channel(dtype, "m", 5e-8 / (1 if dtype == "float32" else np.iinfo(dtype).max))
    for recipe in many_recipes():
        samples = int(generator.integers(1, 200))
        z = np.linspace(0.0, 1e-7, samples)
        # several shapes in one tile, for curves that stand side by side must not matter to each other
        branches = [
            np.concatenate([deflection(generator, shape, dtype, 7, samples) for shape in (*SHAPES, "knee", "knee")])
            for _ in range(2)
        ]
        raw = RawTile(RawBranch(np.ascontiguousarray(branches[0][:, ::-1]), z), RawBranch(branches[1], z[::-1]))
        records = assert_same_bytes(raw, settings_for(recipe, channel, channel))
        assert_values_or_flags(records)
        fits += int(np.isfinite(records["modulus"]).sum())
    assert fits > 200  # it is not refusals alone that are compared


@pytest.mark.skipif(not OTHERS, reason="this CPU has the baseline only")
def test_explained_curves_are_the_same_bytes(monkeypatch):
    measured = measure(CASES["916 MPa"], curves=1)
    told = []
    for name in ("baseline", *OTHERS):
        monkeypatch.setattr(_core, "_kernel", instruction_sets.load(name))
        told.append(b"".join(part.tobytes() for part in _core.explain(measured.raw, measured.settings)))
    assert len(set(told)) == 1


def in_use(**environment: str) -> subprocess.CompletedProcess[str]:
    code = "from fvproc import _core; print(_core.instruction_set())"
    rest = {name: value for name, value in os.environ.items() if name != instruction_sets.VARIABLE}
    # isolated: the installed package, not the checkout that may be the working directory
    return subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, env={**rest, **environment}
    )


def test_the_best_is_taken_unless_another_is_asked_for():
    assert in_use().stdout.strip() == _core.available_instruction_sets()[0]
    for name in _core.available_instruction_sets():
        assert in_use(FVPROC_SIMD=name).stdout.strip() == name


def test_an_unknown_instruction_set_is_refused_in_words():
    done = in_use(FVPROC_SIMD="AVX2 ")
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if "FVPROC_SIMD" in line and "Error" in line]
    assert "'AVX2 '" in line and "unset FVPROC_SIMD" in line and "baseline" in line


@pytest.mark.parametrize(
    "supported, why", [(("baseline",), "this CPU does not support it"), (("avx2", "baseline"), "this build")]
)
def test_an_instruction_set_that_cannot_run_is_refused(monkeypatch, supported, why):
    monkeypatch.setattr(instruction_sets._cpu, "supported", lambda: supported)
    monkeypatch.setattr(
        instruction_sets.importlib.util, "find_spec", lambda name: True if name.endswith("baseline") else None
    )
    assert instruction_sets.chosen(None) == "baseline"
    with pytest.raises(FvprocError, match=f"FVPROC_SIMD = 'avx2': {why}.*choose from baseline"):
        instruction_sets.chosen("avx2")


def test_a_package_without_a_kernel_says_so(monkeypatch):
    monkeypatch.setattr(instruction_sets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="install fvproc again"):
        instruction_sets.chosen(None)


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="Linux names the features of an x86 CPU"
)
def test_the_cpu_is_what_the_operating_system_says():
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
    features = next(line for line in lines if line.startswith("flags")).split()
    expected = ["baseline"]
    if "avx2" in features:
        expected.insert(0, "avx2")
        if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= set(features):
            expected.insert(0, "avx512")
    assert instruction_sets._cpu.supported() == tuple(expected)
