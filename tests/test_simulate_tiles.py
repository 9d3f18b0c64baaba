"""Noise, backgrounds and artefacts of simulated tiles, and the maps written with them."""

from __future__ import annotations

import math

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fvproc as fv
from fvproc import simulate
from fvproc.errors import FvprocError
from fvproc.volume import Channel

PROBE = simulate.Probe(0.4, 30e-9)
FLOAT = Channel("float32", "m")
COUNTS = Channel("int16", "m", 1e-12, invalid=-32768)
TRAVEL = 150e-9


def tile(curves=3, samples=256, channel=FLOAT, seed=0, drive="sine", sigma=0.0, **more):
    values = (np.full(curves, value) for value in (45e6, 1e-9, 5e-9))
    z = simulate.ramp(samples, TRAVEL, drive)
    generator = np.random.default_rng(seed)
    return simulate.simulated_tile(z, simulate.Sample(*values), PROBE, channel, generator, sigma=sigma, **more)


def metres(raw, channel=FLOAT):
    return [branch.deflection.astype(float) * channel.scale for branch in (raw.approach, raw.retract)]


# noise ----------------------------------------------------------------------------------------------------------------


@given(
    exponent=st.floats(0.0, 3.0), samples=st.integers(2, 300), seed=st.integers(0, 2**32), sigma=st.floats(1e-12, 1.0)
)
@settings(max_examples=60, deadline=None)
def test_power_law_noise_is_deterministic_without_mean_and_per_curve(exponent, samples, seed, sigma):
    first, again = (
        simulate.power_law_noise(np.random.default_rng(seed), (4, samples), sigma, exponent) for _ in range(2)
    )
    assert first.tobytes() == again.tobytes() and first.shape == (4, samples)
    np.testing.assert_allclose(first.mean(axis=-1), 0.0, atol=1e-12 * sigma * samples)
    assert not np.any(np.all(first[1:] == first[0], axis=-1)), "each curve has its own"
    one = simulate.power_law_noise(np.random.default_rng(seed), (samples,), sigma, exponent)
    np.testing.assert_allclose(one, first[0], rtol=1e-9, atol=1e-12 * sigma)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("samples", [255, 512])
def test_power_law_noise_has_its_spread_and_its_slope(exponent, samples):
    values = simulate.power_law_noise(np.random.default_rng(1), (4000, samples), 3e-11, exponent)
    # 4000 curves of at least two free numbers: 3 % is more than four standard errors
    assert math.sqrt(np.mean(values**2)) == pytest.approx(3e-11, rel=0.03)
    np.testing.assert_allclose(np.sqrt(np.mean(values**2, axis=0)), 3e-11, rtol=0.08)
    power = np.mean(np.abs(np.fft.rfft(values, axis=-1)) ** 2, axis=0)[1 : samples // 2]
    frequency = np.arange(1, samples // 2)
    assert np.polyfit(np.log(frequency), np.log(power), 1)[0] == pytest.approx(-exponent, abs=0.02)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_power_law_noise_has_its_spread_in_the_shortest_rows(samples):
    values = simulate.power_law_noise(np.random.default_rng(1), (20000, samples), 2.0, 1.0)
    assert math.sqrt(np.mean(values**2)) == pytest.approx(2.0, rel=0.03)


@pytest.mark.parametrize("correlation", [0.0, 0.5, -0.3])
def test_noise_of_first_order_has_its_spread_and_its_correlation(correlation):
    values = simulate.noise(np.random.default_rng(2), (2000, 200), 2.0, correlation)
    assert values.std() == pytest.approx(2.0, rel=0.02)
    assert values[:, 0].std() == pytest.approx(2.0, rel=0.08), "stationary from the first sample on"
    for lag in (1, 2):
        assert np.mean(values[:, lag:] * values[:, :-lag]) / 4.0 == pytest.approx(correlation**lag, abs=0.02)


def test_noise_refusals():
    generator = np.random.default_rng(0)
    for shape, exponent in (((3, 10), -0.1), ((3, 10), 3.5), ((3, 1), 1.0)):
        with pytest.raises(FvprocError, match=r"exponent|shape"):
            simulate.power_law_noise(generator, shape, 1.0, exponent)


def test_flicker_adds_its_variance_over_both_branches_as_one_run():
    plain = tile(1500, 64)
    noisy = tile(1500, 64, flicker=1e-10, flicker_exponent=1.0, sigma=5e-11)
    added = np.concatenate([a - b for a, b in zip(metres(noisy), metres(plain), strict=True)], axis=1)
    assert math.sqrt(np.mean(added**2)) == pytest.approx(math.hypot(1e-10, 5e-11), rel=0.03)
    alone = tile(1500, 64, flicker=1e-10, flicker_exponent=2.0)
    run = np.concatenate([a - b for a, b in zip(metres(alone), metres(plain), strict=True)], axis=1)
    steps = np.sqrt(np.mean(np.diff(run, axis=1) ** 2, axis=0))
    assert steps[63] == pytest.approx(np.median(steps), rel=0.15), "no break between the branches"


def test_white_noise_is_the_same_with_and_without_flicker():
    with_flicker, without = tile(sigma=2e-11, flicker=1e-12, seed=5), tile(sigma=2e-11, seed=5)
    difference = np.concatenate([a - b for a, b in zip(metres(with_flicker), metres(without), strict=True)])
    assert 0 < np.abs(difference).max() < 1e-11


# backgrounds ----------------------------------------------------------------------------------------------------------


def test_interference_is_a_sinusoid_of_z():
    background = simulate.Background(interference=2e-9, period=100e-9, phase=0.3)
    z = simulate.ramp(256, TRAVEL)
    for one, other, positions in zip(metres(tile(background=background)), metres(tile()), z, strict=True):
        expected = 2e-9 * np.sin(2 * math.pi * (positions - z[0].max()) / 100e-9 + 0.3)
        np.testing.assert_allclose(one - other, np.broadcast_to(expected, one.shape), atol=5e-15)
    drawn = metres(tile(background=simulate.Background(interference=2e-9)))[0] - metres(tile())[0]
    assert np.ptp(drawn[:, 0]) > 1e-11, "without a phase each curve draws its own"


@pytest.mark.parametrize("drive", ["linear", "sine"])
def test_drag_follows_the_speed_and_turns_with_it(drive):
    background = simulate.Background(drag=1e-6, rate=100.0)
    approach, retract = (
        one - other
        for one, other in zip(metres(tile(background=background, drive=drive)), metres(tile(drive=drive)), strict=True)
    )
    mean = 1e-6 * TRAVEL * 2 * 100.0 / 0.4
    if drive == "linear":
        np.testing.assert_allclose(approach, mean, rtol=1e-3)
    else:
        phase = (np.arange(256) + 0.5) / 256
        np.testing.assert_allclose(approach[0], mean * math.pi / 2 * np.sin(math.pi * phase), atol=0.01 * mean)
    np.testing.assert_allclose(retract, -approach[:, ::-1], atol=1e-3 * mean)


def test_hysteresis_and_drift_move_the_surface_and_step_the_baseline():
    bare = tile(samples=4000, drive="linear")
    lag = tile(samples=4000, drive="linear", background=simulate.Background(hysteresis=4e-9))
    np.testing.assert_array_equal(lag.approach.deflection, bare.approach.deflection)
    z = bare.retract.z

    def jump(raw):
        return z[int(np.argmax(np.diff(raw.retract.deflection[0])))]

    along = jump(lag) / TRAVEL
    assert jump(bare) - jump(lag) == pytest.approx(4e-9 * 4 * along * (1 - along), abs=2 * TRAVEL / 4000)
    drifting = tile(samples=4000, drive="linear", background=simulate.Background(drift=10e-9, rate=1.0))
    seconds = (TRAVEL - jump(drifting)) / TRAVEL * 0.5
    assert jump(bare) - jump(drifting) == pytest.approx(10e-9 * seconds, abs=2 * TRAVEL / 4000)
    contact = [raw.approach.z[int(np.argmax(np.diff(raw.approach.deflection[0]) != 0.0))] for raw in (bare, drifting)]
    before = (TRAVEL - contact[1]) / TRAVEL * 0.5
    assert contact[1] - contact[0] == pytest.approx(10e-9 * before, abs=2 * TRAVEL / 4000), "it was farther off then"
    stepped = tile(background=simulate.Background(step=1e-9))
    np.testing.assert_allclose(metres(stepped)[1] - metres(tile())[1], 1e-9, atol=1e-15)
    np.testing.assert_array_equal(metres(stepped)[0], metres(tile())[0])


def test_backgrounds_refuse_what_has_no_meaning():
    for name, value in (("period", 0.0), ("rate", -1.0), ("drag", math.nan), ("interference", math.inf)):
        with pytest.raises(FvprocError, match=rf"background\.{name} = "):
            simulate.Background(**{name: value})


# artefacts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", [FLOAT, COUNTS], ids=lambda channel: channel.dtype)
@pytest.mark.parametrize("how", simulate.ARTEFACTS)
def test_artefacts_spoil_one_curve_only_and_as_named(how, channel):
    good, raw = tile(channel=channel, sigma=2e-11), tile(channel=channel, sigma=2e-11)
    simulate.spoil(raw, 1, how, channel, np.random.default_rng(3), spikes=4, height=6e-9, missing=0.25)
    for before, after in ((good.approach, raw.approach), (good.retract, raw.retract)):
        np.testing.assert_array_equal(before.deflection[[0, 2]], after.deflection[[0, 2]])
        was, now = before.deflection[1].astype(float), after.deflection[1].astype(float)
        invalid = np.isnan(now) if channel is FLOAT else now == channel.invalid
        changed = (was != now) | invalid
        if how == "no contact":
            assert np.abs(now).max() * channel.scale < 6 * 2e-11 and now.std() * channel.scale > 1e-11
        elif how == "saturated":
            flat = now == now.max()
            assert 10 < flat.sum() < 200 and np.all(np.diff(np.flatnonzero(flat)) == 1)
            if channel is COUNTS:
                assert now.max() == 32767
        elif how == "never left":
            assert now.min() * channel.scale > 0.1 * was.max() * channel.scale
            assert np.argmax(now) in (0, len(now) - 1) or now.max() == pytest.approx(now[[0, -1]].max(), rel=0.1)
        elif how == "marked invalid":
            assert invalid.all()
        elif how == "missing samples":
            assert invalid.sum() == 64 and np.all(np.diff(np.flatnonzero(invalid)) == 1)
            np.testing.assert_array_equal(was[~invalid], now[~invalid])
        else:
            assert changed.sum() == 4
            np.testing.assert_allclose(np.abs(now - was)[changed] * channel.scale, 6e-9, rtol=1e-3)


def test_shares_of_artefacts():
    raw = tile(4000, 16, COUNTS)
    clean = tile(4000, 16, COUNTS)
    bad = simulate.spoil_shares(raw, {"spikes": 0.1, "no contact": 0.3}, COUNTS, np.random.default_rng(1))
    share = [np.mean(bad == 1 + simulate.ARTEFACTS.index(name)) for name in ("spikes", "no contact")]
    np.testing.assert_allclose(share, [0.1, 0.3], atol=0.035)
    np.testing.assert_array_equal(raw.retract.deflection[bad == 0], clean.retract.deflection[bad == 0])
    assert np.all(np.any(raw.retract.deflection[bad > 0] != clean.retract.deflection[bad > 0], axis=1))
    for wrong in ({"hair": 0.1}, {"spikes": 1.5}, {"spikes": 0.6, "saturated": 0.6}):
        with pytest.raises(FvprocError, match="artefact"):
            simulate.spoil_shares(raw, wrong, COUNTS, np.random.default_rng(1))
    with pytest.raises(FvprocError, match="invalid"):
        simulate.spoil(raw, 0, "marked invalid", Channel("int16", "m", 1e-12), np.random.default_rng(1))
    with pytest.raises(FvprocError, match="choose from"):
        simulate.spoil(raw, 0, "hair", COUNTS, np.random.default_rng(1))


# maps -----------------------------------------------------------------------------------------------------------------


def written(path, **more):
    simulate.write_map(path, ny=6, nx=5, samples=128, modulus=45e6, adhesion=1e-9, peak_force=5e-9, probe=PROBE,
                       travel=TRAVEL, **more)  # fmt: skip
    with h5py.File(path) as file:
        return (
            file["retract/deflection"][()].astype(float) * file["retract/deflection"].attrs["scale_factor"],
            {name: values[()] for name, values in file["truth"].items()},
        )


def test_a_map_with_everything_is_written_and_processed(tmp_path):
    thickness = np.linspace(60e-9, 200e-9, 30).reshape(6, 5)
    curves, truth = written(
        tmp_path / "map.h5",
        thickness=thickness,
        flicker=1e-11,
        attraction=simulate.Attraction(hamaker=1e-20, decay=2e-9, tethers=((0.3, 8e-9),)),
        background=simulate.Background(interference=1e-9, drag=1e-7, drift=1e-10, hysteresis=1e-9, step=1e-10),
        artefacts=dict.fromkeys(simulate.ARTEFACTS, 0.1),
    )
    assert np.all(np.isfinite(curves)) and curves.shape == (6, 5, 128)
    np.testing.assert_array_equal(truth["thickness"], thickness)
    assert 0 < np.count_nonzero(truth["bad"]) < 30
    maps = fv.process(fv.open(tmp_path / "map.h5"), fv.Recipe())
    silent = truth["bad"] == 1 + simulate.ARTEFACTS.index("marked invalid")
    assert silent.any() and np.all(np.isnan(maps["modulus"][silent]))


def test_the_converter_holds_the_background(tmp_path):
    background = simulate.Background(drag=2e-4, rate=100.0, interference=20e-9, step=5e-9)
    curves, _ = written(tmp_path / "map.h5", background=background)
    with h5py.File(tmp_path / "map.h5") as file:
        assert np.abs(file["approach/deflection"][()].astype(int)).max() < 32767
        assert np.abs(file["retract/deflection"][()].astype(int)).max() < 32767
    assert np.ptp(curves) > 30e-9


def test_a_map_of_films_over_several_tiles(tmp_path):
    thickness = np.array([[60e-9, 90e-9], [120e-9, 300e-9]])
    path = tmp_path / "map.h5"
    # so many samples that a tile holds one row
    simulate.write_map(path, ny=2, nx=2, samples=130_000, modulus=45e6, adhesion=1e-9, peak_force=5e-9, probe=PROBE,
                       travel=TRAVEL, sigma=0.0, thickness=thickness)  # fmt: skip
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["truth/thickness"][()], thickness)
        point = file["truth/contact_point"][()]
    assert np.all(np.diff(point.reshape(-1)) < 0), "a thicker film gives way more, so it is met earlier"


def test_contact_points_spread_as_told(tmp_path):
    narrow, wide = (
        written(tmp_path / f"{i}.h5", spread=spread)[1]["contact_point"] for i, spread in enumerate((None, 3e-9))
    )
    assert np.ptp(narrow) < 1e-10 and 2e-9 < np.ptp(wide) < 3e-9


def test_the_same_seed_gives_the_same_map(tmp_path):
    more = {"flicker": 1e-11, "background": simulate.Background(interference=1e-9), "artefacts": {"spikes": 0.3}}
    one, other, third = (written(tmp_path / f"{i}.h5", seed=seed, **more) for i, seed in enumerate((4, 4, 5)))
    assert one[0].tobytes() == other[0].tobytes() != third[0].tobytes()
    assert one[1]["bad"].tobytes() == other[1]["bad"].tobytes()


@pytest.mark.parametrize("probe", [simulate.Probe(0.4, None, 0.35), simulate.Probe(0.4, punch_radius=50e-9)])
def test_maps_of_other_tips_state_no_radius(tmp_path, probe):
    simulate.write_map(tmp_path / "map.h5", ny=2, nx=2, samples=64, probe=probe, peak_force=2e-9, adhesion=1e-10)
    assert fv.open(tmp_path / "map.h5").tip_radius is None


def test_a_sticky_map_pulls_off_at_its_adhesion(tmp_path):
    curves, truth = written(tmp_path / "map.h5", model="jkr", sigma=1e-12)
    lowest = curves.min(axis=-1) * 0.4
    assert np.all(lowest >= -truth["adhesion"] * (1 + 1e-2)) and np.all(lowest < -0.8 * truth["adhesion"])


def test_a_thickness_of_another_shape_is_refused(tmp_path):
    with pytest.raises(FvprocError, match=r"thickness: a map of shape \(3, 3\).*\(6, 5\)"):
        written(tmp_path / "map.h5", thickness=np.full((3, 3), 1e-7))
    assert not list(tmp_path.iterdir())


def test_the_command_line_makes_such_maps(tmp_path):
    from fvproc.cli import main

    path = tmp_path / "curves.h5"
    scene = [
        "simulate",
        str(path),
        "--ny",
        "6",
        "--nx",
        "5",
        "--samples",
        "64",
        "--modulus",
        "45MPa",
        "--adhesion",
        "1nN",
    ]
    scene += ["--spring-constant", "0.4", "--peak-force", "5nN", "--travel", "150nm", "--flicker", "0.02nm"]
    assert main([*scene, "--thickness", "100nm", "--artefact", "spikes=1"]) == 0
    with h5py.File(path) as file:
        np.testing.assert_allclose(file["truth/thickness"][()], 100e-9)
        assert np.all(file["truth/bad"][()] == 1 + simulate.ARTEFACTS.index("spikes"))
    for wrong in (["--artefact", "spikes"], ["--artefact", "hair=0.5"], ["--model", "jkr", "--thickness", "100nm"]):
        assert main([*scene, "--overwrite", *wrong]) == 2
