"""Maps that the instrument's software left in a NanoScope file: declared images, and others that prove themselves.

Declared images are raw × V/LSB × sensitivity, row 0 at the bottom like the curves; ``Z offset`` is for display only
(the instrument's own numbers leave it out).

Force volumes may hold images after the last declared one that no section describes: maps of the fit. What such a map
is, is decided by computing the same quantity from the curves as the header says the instrument did (baseline, window,
model) on up to 1024 curves: the map must follow it (rank correlation) at the instrument's fixed scale (ratio). A map
that fails this keeps its raw numbers and a name that claims nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fvproc.readers.blocks import read_block
from fvproc.readers.nanoscope_header import UNITS, Header, read_header
from fvproc.readers.nanoscope_layout import Block, declared_blocks, image_dtype
from fvproc.readers.nanoscope_tiles import read_ramps
from fvproc.volume import ForceVolume, RawBranch, RawTile, Tile, VendorMap

# full range of the undeclared maps, SI: name -> (range over all bits, unit); measured on version 9.2
_RANGES = {"modulus": (1e11, "Pa"), "stiffness": (2e4, "N/m"), "adhesion": (2e-5, "N")}
_PROOF_CURVES, _PROOF_RUNS = 1024, 16
_RATIO, _SPREAD, _CORRELATION = 0.1, 0.15, 0.9  # median ratio within, interquartile range below, rank correlation above


@dataclass(frozen=True, slots=True)
class Scale:
    """How the numbers of an image turn into SI: factor and unit; of a voltage also V/LSB and the soft scale's name."""

    factor: float
    unit: str
    soft: str = ""
    volts: float = 0.0


def image_scale(header: Header, block: Block, width: int) -> Scale | None:
    """Return the scale of a declared image; None if its header does not tell one in units of length, force, …"""
    value = block.section.value("z scale")
    step = value.per_lsb(width) if value else None
    if value is None or not step:
        return None
    hard_factor, hard_unit = UNITS.get(value.lsb_unit, (1.0, ""))
    if not value.soft:
        return Scale(step * hard_factor, hard_unit) if hard_unit else None
    found = header.sensitivity(value.soft)
    if found is None:
        return None
    sensitivity, unit = found
    numerator = re.split(r"/(?:V|Arb)|\*Arb", unit)[0].strip()
    if (
        not numerator
        and hard_unit == "V"
        and value.soft.lower() in ("sens. zsens", "sens. zsenssens", "sens. deflsens")
    ):
        numerator = "nm"
    factor, si = UNITS.get(numerator, (0.0, ""))
    if not si:
        return None
    volts = step * hard_factor if hard_unit == "V" else 0.0
    return Scale(step * hard_factor * sensitivity * factor, si, value.soft, volts)


def images_of(volume: ForceVolume) -> dict[str, VendorMap]:
    """Return all images that lie on the grid of the curves, by name."""
    header = read_header(volume.path)
    blocks, _ = declared_blocks(header, volume.file_size)
    images = [block for block in blocks if block.kind == "image"]
    maps: dict[str, VendorMap] = {}
    dtype = None
    for block in images:
        found = image_dtype(block, *volume.shape)
        if found is None:
            continue
        dtype = found
        raw = read_block(volume.path, block.offset, found, volume.shape)
        name = _name(block, maps)
        scale = image_scale(header, block, found.itemsize)
        if scale is None:
            maps[name] = VendorMap(name, "1", raw, f"{block.title}, raw numbers: the header tells no unit")
        else:
            maps[name] = VendorMap(name, scale.unit, raw * scale.factor, block.title)
    if dtype is not None and volume.layout["kind"] != "capture":
        for name, found_map in _undeclared(volume, blocks, dtype).items():
            maps.setdefault(name, found_map)
    return maps


def _name(block: Block, taken: dict[str, VendorMap]) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", block.title.lower()).strip("_") or "image"
    direction = (block.section.text("line direction") or "").lower()
    names = [name, f"{name}_{direction}" if direction else name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


# ---- undeclared images


def _undeclared(volume: ForceVolume, blocks: list[Block], dtype: np.dtype) -> dict[str, VendorMap]:
    """Return the whole images after the last declared block, named where they prove what they are."""
    end = max(block.end for block in blocks)
    size = volume.grid.curves * dtype.itemsize
    count, rest = divmod(volume.file_size - end, size)
    if rest or not count:
        return {}
    raws = [read_block(volume.path, end + i * size, dtype, volume.shape) for i in range(count)]
    computed = _computed(volume)
    maps: dict[str, VendorMap] = {}
    claims: dict[int, list[str]] = {}
    for name, (curves, expected) in computed.items():
        step = _RANGES[name][0] / 2.0 ** (8 * dtype.itemsize)
        for index, raw in enumerate(raws):
            if _same(raw.reshape(-1)[curves] * step, expected):
                claims.setdefault(index, []).append(name)
    for index, raw in enumerate(raws):
        names = claims.get(index, [])
        alone = len(names) == 1 and sum(names == other for other in claims.values()) == 1
        if alone:
            full, unit = _RANGES[names[0]]
            label = f"{names[0].capitalize()} by the instrument (undeclared image, identified by its values)"
            maps[names[0]] = VendorMap(names[0], unit, raw * (full / 2.0 ** (8 * dtype.itemsize)), label)
        else:
            name = f"undeclared_{index + 1}"
            maps[name] = VendorMap(name, "1", raw, "Undeclared image, raw numbers")
    return maps


def _same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Tell whether a map is the quantity computed: same order of the pixels, same scale."""
    usable = np.isfinite(expected) & (expected > 0) & (found > 0)
    if np.count_nonzero(usable) < max(32, 0.5 * expected.size):
        return False
    ratio = found[usable] / expected[usable]
    low, middle, high = np.percentile(ratio, (25, 50, 75))
    ranks = [np.argsort(np.argsort(values[usable])) for values in (found, expected)]
    return bool(
        abs(middle - 1.0) < _RATIO and high - low < _SPREAD and np.corrcoef(ranks[0], ranks[1])[0, 1] > _CORRELATION
    )


def _computed(volume: ForceVolume) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return (curve numbers, values) of what the header lets compute of adhesion, stiffness and modulus."""
    if volume.missing() or not volume.vendor_recipe:
        return {}
    curves, results = [], []
    total = volume.grid.curves
    runs = 1 if total <= _PROOF_CURVES else _PROOF_RUNS
    length = min(total, _PROOF_CURVES // runs)
    for start in np.linspace(0, total - length, runs).astype(int).tolist():
        tile = Tile(start, start + length)
        results.append(_fit(volume, read_ramps(volume, tile)))
        curves.append(np.arange(tile.start, tile.stop))
    numbers = np.concatenate(curves)
    return {name: (numbers, np.concatenate([part[name] for part in results])) for name in results[0]}


def _fit(volume: ForceVolume, raw: RawTile) -> dict[str, np.ndarray]:
    """Compute adhesion, stiffness and modulus of a few curves as the vendor's recipe says, in plain NumPy."""
    recipe = volume.vendor_recipe
    (far_z, far), (z, force) = (
        _force(volume, branch, part) for branch, part in (("approach", raw.approach), ("retract", raw.retract))
    )
    baseline = recipe.get("baseline", {})
    count = max(3, int(baseline.get("fraction", 0.3) * far.shape[1]))
    if baseline.get("source") == "approach":
        base_z, base = far_z[:, 1:count], far[:, 1:count]  # the first sample may be a marker
    else:
        base_z, base = z[:, -count:], force[:, -count:]
    mean_z, mean = base_z.mean(1, keepdims=True), base.mean(1, keepdims=True)
    slope = _slope(base_z, base, np.ones_like(base, bool)) if baseline.get("order", 1) else np.zeros(len(base))
    force = force - mean - slope[:, None] * (z - mean_z)
    lowest = force.min(1, keepdims=True)
    low, high = recipe["fit"].get("window", (0.3, 0.9))
    level = (force - lowest) / (force.max(1, keepdims=True) - lowest)
    before = np.arange(force.shape[1]) < force.argmin(1)[:, None]
    window = (level >= low) & (level <= high) & before
    assert volume.calibration.spring_constant is not None
    depth = z - force / volume.calibration.spring_constant.value
    results = {"adhesion": -lowest[:, 0], "stiffness": _slope(depth, force, window)}
    modulus = _MODULI.get(recipe["fit"]["model"])
    if modulus is not None:
        exponent, factor = modulus
        scale = factor(recipe.get("tip", {}))
        if scale is not None:
            with np.errstate(invalid="ignore"):
                straight = _slope(depth, (force - lowest) ** (1.0 / exponent), window) ** exponent
            ratio = recipe.get("sample", {}).get("poisson_ratio", 0.3)
            results["modulus"] = straight * scale * (1.0 - ratio**2)
    return results


def _cone(tip: dict[str, Any]) -> float | None:
    return math.pi / (2.0 * math.tan(tip["half_angle"])) if "half_angle" in tip else None


def _sphere(tip: dict[str, Any]) -> float | None:
    return 3.0 / (4.0 * math.sqrt(tip["radius"])) if "radius" in tip else None


# model -> (m of F + F_adh ∝ δ^m, what turns the factor into E*)
_MODULI: dict[str, tuple[float, Callable[[dict[str, Any]], float | None]]] = {
    "sneddon_cone": (2.0, _cone),
    "dmt": (1.5, _sphere),
}


def _force(volume: ForceVolume, branch: str, part: RawBranch) -> tuple[np.ndarray, np.ndarray]:
    """Return z (m) and raw force (N), (curves, samples) both."""
    spring = volume.calibration.spring_constant
    assert spring is not None
    scale, offset = volume.deflection_scale(branch)
    force = (part.deflection * scale + offset) * spring.value
    scale, offset = volume.z_scale(branch)
    return np.broadcast_to(part.z * scale + offset, force.shape), force


def _slope(x: np.ndarray, y: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the slope of the straight line through the chosen samples of each row; NaN where there are too few."""
    count = where.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        dx = np.where(where, x - (np.where(where, x, 0.0).sum(1) / count)[:, None], 0.0)
        dy = np.where(where, y, 0.0)
        return np.where(count >= 3, (dx * dy).sum(1) / (dx * dx).sum(1), np.nan)
