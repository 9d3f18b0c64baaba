"""Maps for the tests of the writers: realistic ones, random ones; and that the realistic ones obey the contract."""

from __future__ import annotations

import numpy as np

from fvproc import provenance
from fvproc.maps import CurveFit, ParameterMaps
from fvproc.quantities import QUANTITIES, RECORD, Flag
from fvproc.recipe import Recipe, Tip
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, Setting, VendorMap

CHANNEL = Channel("int16", "V", 1e-4)
RECIPE = Recipe(tip=Tip.sphere(25e-9), poisson_ratio=0.3)


def volume(ny: int = 4, nx: int = 6, path: str = "/data/sei & <film>.spm") -> ForceVolume:
    return ForceVolume(
        path,
        "nanoscope",
        Grid(ny, nx, 2e-6 * ny / nx, 2e-6, 30.0),
        Branch(256, CHANNEL, Channel("float64", "m"), True),
        Branch(256, CHANNEL, Channel("float64", "m"), True),
        Calibration(Setting(42.0, "user", 0.1), Setting(5e-8)),
        tip_radius=Setting(25e-9),
        header={"Scan Rate": np.float32(1.5), "Comment": "50 µm — «5 < 6 & 7»\x07", "missing": float("nan")},
        file_size=123456,
        modified_ns=1,
        header_digest="ab" * 32,
        warnings=("Deflection limits corrected",),
    )


def described(maps: ParameterMaps, path: str = "/data/sei & <film>.spm") -> ParameterMaps:
    maps.provenance = provenance.describe(
        volume(*maps.shape, path), RECIPE, kernel_version="1", flag_counts=maps.flag_counts()
    )
    return maps


def random_maps(ny: int, nx: int, seed: int = 1, **grid: float) -> ParameterMaps:
    """Return maps of random bits: every NaN payload, infinity and flag may occur."""
    rng = np.random.default_rng(seed)
    records = np.frombuffer(rng.bytes(ny * nx * RECORD.itemsize), RECORD).reshape(ny, nx).copy()
    return ParameterMaps(Grid(ny, nx, **grid), records)


def ramp_maps(ny: int, nx: int, **grid: float) -> ParameterMaps:
    """Return maps in which every pixel of every map has a value of its own, so that no flip goes unseen."""
    records = np.empty((ny, nx), RECORD)
    number = np.arange(ny * nx, dtype="f4").reshape(ny, nx)
    for offset, name in enumerate(QUANTITIES):
        records[name] = number + 1000 * offset
    records["flags"] = np.arange(ny * nx, dtype="u4").reshape(ny, nx) * np.uint32(0x01010101)
    return described(ParameterMaps(Grid(ny, nx, **(grid or {"size_y": 3e-7 * ny, "size_x": 5e-7 * nx})), records))


def film_maps(ny: int = 256, nx: int = 256, seed: int = 3) -> ParameterMaps:
    """Return maps like those of an SEI on a stepped electrode: terraces, soft islands, bad pixels, a lost tile."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[0:ny, 0:nx] / max(ny, nx)
    terrace = np.floor(5 * (0.35 * u + v + 0.03 * np.sin(9 * u)))
    island = np.zeros((ny, nx))
    for _ in range(55):
        cy, cx, r = rng.uniform(0, ny / max(ny, nx)), rng.uniform(0, nx / max(ny, nx)), rng.uniform(0.015, 0.06)
        island = np.maximum(island, np.clip(1 - ((v - cy) ** 2 + (u - cx) ** 2) / r**2, 0, None) * r / 0.06)
    soft = np.clip(island * 3, 0, 1)
    modulus = 10 ** (10.0 - 2.1 * soft + 0.05 * terrace + 0.07 * rng.standard_normal((ny, nx)))
    records = np.empty((ny, nx), RECORD)
    for name in QUANTITIES:
        records[name] = 1.0
    records["modulus"] = modulus
    error = 0.04 + 0.1 * (1 - soft) * np.abs(1 + 0.3 * rng.standard_normal((ny, nx)))
    records["modulus_std"] = modulus * error
    records["modulus_lower"] = modulus * np.clip(1 - 1.64 * error, 0.05, 1)
    records["reduced_modulus"] = modulus / 0.91
    records["adhesion"] = 4e-9 + 9e-9 * soft + 4e-10 * rng.standard_normal((ny, nx))
    records["adhesion_std"] = 3e-10
    records["deformation"] = 1.1e-9 + 7e-9 * soft**2 + 2e-10 * rng.standard_normal((ny, nx))
    records["height"] = -3.2e-6 + 3.4e-9 * terrace + 4e-8 * island + 3e-10 * rng.standard_normal((ny, nx))
    records["peak_force"] = 2e-8
    records["contact_point"] = 3.2e-6
    records["contact_point_std"] = 1e-10
    records["flags"] = 0
    flags = records["flags"]
    flags[rng.random((ny, nx)) < 0.03] |= np.uint32(Flag.FEW_POINTS)
    flags[(modulus > 1.6e10) & (rng.random((ny, nx)) < 0.5)] |= np.uint32(Flag.BEYOND_TIP_SHAPE)
    flags[(island > 0.02) & (island < 0.12)] |= np.uint32(Flag.POOR_FIT)
    flags[rng.random((ny, nx)) < 0.006] |= np.uint32(Flag.NO_CONTACT)
    flags[rng.random((ny, nx)) < 0.004] |= np.uint32(Flag.MODULUS_UNBOUNDED)
    flags[int(ny * 0.71) : int(ny * 0.71) + 3, nx // 3 :] = Flag.READ_ERROR
    for name, quantity in QUANTITIES.items():
        records[name][(flags & np.uint32(quantity.fatal)) != 0] = np.nan
    maps = ParameterMaps(Grid(ny, nx, 3e-6 * ny / max(ny, nx), 3e-6 * nx / max(ny, nx)), records)
    vendor = (records["height"] * 1.01).astype("f4")
    maps.vendor_maps = {"Height Sensor": VendorMap("Height Sensor", "m", vendor, "Height Sensor")}
    return described(maps, "/data/2024-05-17_graphite_SEI_formation_cycle3_PFQNM_0042.spm")


def dmt_curve(maps: ParameterMaps, y: int = 22, x: int = 61, noise: float = 1.5e-10, seed: int = 2) -> CurveFit:
    """Return a curve as the record of a pixel says it is, DMT on retract, with noise."""
    rng = np.random.default_rng(seed)
    record = maps.records[y, x]
    spring, radius, adhesion, peak = 5.0, 25e-9, float(record["adhesion"]), 2e-8
    factor = 4 / 3 * float(record["modulus"]) / 0.91 * np.sqrt(radius)
    depth = np.linspace(0, 1, 4000) ** 2 * ((peak + adhesion) / factor) ** (2 / 3)
    force = factor * depth**1.5 - adhesion
    z = depth + force / spring + adhesion / spring  # indentation starts at z = 0
    ramp = np.linspace(z[-1] - 9e-8, z[-1], 256)
    pulled = -adhesion / spring  # where the spring can no longer hold the tip on the surface
    in_contact = np.interp(ramp, z, force)  # the pull-off force below z = 0
    retract = np.where(ramp > pulled, in_contact, 0.0)
    approach = np.where(ramp > 0, np.interp(ramp, z, force), 0.0)
    used = ramp > 0
    contact = float(record["contact_point"])
    scatter = noise * rng.standard_normal((2, ramp.size))
    return CurveFit(
        y,
        x,
        ramp + contact,
        approach + scatter[0],
        ramp[::-1] + contact,
        (retract + scatter[1])[::-1],
        ramp[used][::-1] + contact,
        retract[used][::-1],
        record,
    )


def test_film_maps_are_nan_exactly_where_a_fatal_flag_is_set():
    maps = film_maps(64, 48)
    for name, quantity in QUANTITIES.items():
        np.testing.assert_array_equal(np.isnan(maps[name]), (maps.flags & np.uint32(quantity.fatal)) != 0)
    assert {Flag.READ_ERROR, Flag.POOR_FIT, Flag.NO_CONTACT} <= set(maps.flag_counts())
