"""What a person is told: the summary of a run, a file's description, the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from fvproc import provenance, writers
from fvproc.maps import ParameterMaps
from fvproc.processors import cores
from fvproc.quantities import FATAL_BITS, FLAG_MEANINGS, QUANTITIES, Flag, readable
from fvproc.volume import CALIBRATION_FIELDS, UNCERTAIN, ForceVolume, VendorMap

# ---- summary of a run

_FEW_PULL_OFFS = 0.9  # of the curves without one: then it is worth a word
_SUMMARISED = ("modulus", "adhesion", "deformation", "indentation", "dissipation", "peak_force")


def summary(
    maps: ParameterMaps, path: Path, outputs: Sequence[Path], seconds: float, computed: int | None = None
) -> dict[str, Any]:
    """Return what a run came to, ready for JSON: SI units, medians over the curves that have a value.

    `computed` are the curves of this very run, where an earlier one had done the others; all of them by default.
    """
    names = [name for name in _SUMMARISED if name in maps]
    first = "modulus" if "modulus" in maps else maps.quantities[0]
    flags = maps.provenance.get("flag_counts") or {_name(flag): n for flag, n in maps.flag_counts().items()}
    systematic = maps.provenance.get("systematic", {}).get("quantities", {})

    def told(name: str) -> dict[str, Any]:
        values = _finite(maps[name])
        if not values.size:
            return {}
        low, middle, high = np.percentile(values, [25, 50, 75], overwrite_input=True).tolist()
        entry: dict[str, Any] = {"median": middle, "quartiles": [low, high], "unit": QUANTITIES[name].unit}
        errors = maps.errors(name)
        if errors is not None:
            entry["median_std"] = float(np.median(_finite(errors), overwrite_input=True))
        if name in systematic:
            entry["systematic"] = systematic[name]
        return entry

    # of ten million curves a median takes a quarter of a second, and NumPy lets other threads work meanwhile
    with ThreadPoolExecutor(min(4, cores())) as pool:
        medians = {name: entry for name, entry in zip(names, pool.map(told, names), strict=True) if entry}
    return {
        "input": str(path),
        "outputs": [str(writers.shown(output)) for output in outputs],
        "curves": maps.grid.curves,
        "computed": maps.grid.curves if computed is None else computed,
        "valued": int(np.isfinite(maps[first]).sum()),
        "valued_in": first,
        "seconds": seconds,
        "medians": medians,
        "flags": flags,
        "failed_tiles": len(maps.provenance.get("failures", ())),
        "hints": _hints(maps, flags),
    }


def _hints(maps: ParameterMaps, flags: Mapping[str, int]) -> list[str]:
    """Return what the user may want to change, where the flags suggest it, or ought to know."""
    hints = []
    if failed := maps.provenance.get("systematic", {}).get("failed"):
        hints.append(_no_systematic(failed))
    fit = maps.provenance.get("recipe", {}).get("fit", {})
    asked = "modulus" in maps and [fit.get(name) for name in ("model", "method", "adhesion")] == ["dmt", "ml", "free"]
    unseen = flags.get(_name(Flag.NO_ADHESION), 0) / maps.grid.curves
    if asked and unseen > _FEW_PULL_OFFS:
        hints.append(
            f"{unseen:.0%} of the curves show no pull-off: where there is no adhesion, as often in a liquid,"
            " --fit-model hertz has smaller errors (docs/uncertainty.md)"
        )
    return hints


def _finite(values: np.ndarray) -> np.ndarray:
    """Return a copy of the numbers of a map: the one copy that its medians take."""
    return values[np.isfinite(values)]


def summary_text(result: dict[str, Any]) -> str:
    """Return the summary for a terminal."""
    curves, computed, seconds = result["curves"], result["computed"], result["seconds"]
    valued = f"{result['valued']:,} with {_spoken(result['valued_in'])}"
    how = f"in {seconds:.1f} s ({computed / seconds:,.0f} curves/s, writing included)"
    if not computed:
        how = "that an earlier run has computed"
    elif computed < curves:
        how = f"of which {computed:,} {how}, the others by an earlier run"
    lines = [f"{Path(result['input']).name}: {curves:,} curves {how}, {valued}"]
    for name, entry in result["medians"].items():
        low, high = entry["quartiles"]
        factor, unit = readable(entry["unit"], np.array([entry["median"]]))
        error = f" ± {entry['median_std'] * factor:.3g}" if "median_std" in entry else ""
        label = QUANTITIES[name].label
        lines.append(
            f"  {label:<18} {entry['median'] * factor:.4g}{error} {unit}"
            f"   (half of the curves from {low * factor:.4g} to {high * factor:.4g})"
        )
    lines += systematic_text({name: m["systematic"] for name, m in result["medians"].items() if "systematic" in m})
    for name, count in result["flags"].items():
        kind = "no value" if Flag[name.upper()] & FATAL_BITS else "warning"
        lines.append(f"  {kind:<9} {count:>9,} curves: {FLAG_MEANINGS[Flag[name.upper()]]} ({name})")
    lines += [f"  {hint}" for hint in result["hints"]]
    lines += [f"  -> {output}" for output in result["outputs"]]
    return "\n".join(lines)


def systematic_text(quantities: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each quantity whose systematic uncertainty is known, and one that names what is not known."""
    lines, unknown = [], []
    for name, error in quantities.items():
        unknown += [source for source in error["unknown"] if source not in unknown]
        parts = ", ".join(f"{source.replace('_', ' ')} {part:.2g}" for source, part in _percent(error["parts"]))
        if parts:
            lines.append(f"  {QUANTITIES[name].label:<18} ± {100 * error['rel_std']:.2g} % systematic ({parts})")
    if unknown:
        names = ", ".join(source.replace("_", " ") for source in unknown)
        lines.append(f"  systematic uncertainty unknown: {names} (--rel-std NAME=X tells it)")
    return lines


def _no_systematic(why: str) -> str:
    return f"systematic uncertainty unknown, the maps are whole: {why}"


def _percent(parts: Mapping[str, float]) -> list[tuple[str, float]]:
    return [(source, 100.0 * part) for source, part in parts.items()]


def _spoken(quantity: str) -> str:
    """Return the name of a quantity as a sentence has it, with its article."""
    words = quantity.replace("_", " ")
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _name(flag: Flag) -> str:
    return (flag.name or "").lower()


# ---- description of a file


def describe(volume: ForceVolume, vendor_maps: Mapping[str, VendorMap] | None = None) -> dict[str, Any]:
    """Return what a file holds and what it lacks, ready for JSON; with the names of the instrument's maps if given."""
    grid = volume.grid
    branches = {}
    for name in ("approach", "retract"):
        branch = getattr(volume, name)
        branches[name] = {
            "samples": branch.samples,
            "deflection": f"{branch.deflection.dtype} in {branch.deflection.unit}",
            "z": f"{branch.z.dtype} in {branch.z.unit}, {'shared by all curves' if branch.z_shared else 'per curve'}",
        }
    tip = {
        "radius": None if volume.tip_radius is None else volume.tip_radius.value,
        "half_angle": None if volume.tip_half_angle is None else volume.tip_half_angle.value,
        "radius_source": None if volume.tip_radius is None else volume.tip_radius.source,
        "half_angle_source": None if volume.tip_half_angle is None else volume.tip_half_angle.source,
    }
    missing = [
        {"name": name, "unit": CALIBRATION_FIELDS[name][1], "option": CALIBRATION_FIELDS[name][0]}
        for name in volume.missing()
    ]
    if volume.tip_radius is None and volume.tip_half_angle is None:
        missing.append({"name": "tip.radius", "unit": "m", "option": "--tip-radius"})
    return {
        "path": volume.path,
        "format": volume.format,
        "folder": Path(volume.path).is_dir(),
        "bytes": volume.file_size,
        "grid": {
            "ny": grid.ny,
            "nx": grid.nx,
            "curves": grid.curves,
            "size_y": grid.size_y,
            "size_x": grid.size_x,
            "rotation": grid.rotation,
        },
        "branches": branches,
        "scanner_height": volume.has_height,
        "calibration": volume.calibration.to_dict(),
        "tip": tip,
        "poisson_ratio": volume.poisson_ratio,
        "vendor_recipe": provenance.plain(volume.vendor_recipe),
        "vendor_maps": {name: {"unit": told.unit, "label": told.label} for name, told in (vendor_maps or {}).items()},
        "header": provenance.plain(volume.header),
        "missing": missing,
        "rel_std": {name: volume.relative_std(name) for name in UNCERTAIN},
        "warnings": list(volume.warnings),
    }


def describe_maps(maps: ParameterMaps, path: Path) -> dict[str, Any]:
    """Return what an output of a run holds, ready for JSON: the summary, and how it was made."""
    made = maps.provenance
    told = summary(maps, path, [], 0.0)
    kept = {name: told[name] for name in ("curves", "valued", "valued_in", "medians", "flags", "failed_tiles")}
    keys = ("program", "version", "kernel_version", "date", "recipe_digest", "input", "calibration", "systematic")
    return {"path": str(path), "format": "maps of fvproc", **kept, **{key: made.get(key) for key in keys}}


def maps_text(described: dict[str, Any]) -> str:
    """Return the description of an output for a terminal."""
    source = described["input"] or {}
    lines = [
        f"{described['path']}",
        f"  maps of {described['curves']:,} curves, {described['valued']:,} with {_spoken(described['valued_in'])},"
        f" by {described['program']} {described['version']}, {described['date']}",
        f"  from {source.get('name')} ({source.get('format')}), recipe {str(described['recipe_digest'])[:12]}…",
    ]
    for name, entry in described["medians"].items():
        factor, unit = readable(entry["unit"], np.array([entry["median"]]))
        lines.append(f"  {QUANTITIES[name].label:<18} {entry['median'] * factor:.4g} {unit}, the median")
    systematic = described["systematic"] or {}
    errors = systematic.get("quantities", {})
    lines += systematic_text({name: errors[name] for name in _SUMMARISED if name in errors})
    if "failed" in systematic:
        lines.append(f"  {_no_systematic(systematic['failed'])}")
    for name, count in described["flags"].items():
        lines.append(f"  {count:>9,} curves: {FLAG_MEANINGS[Flag[name.upper()]]} ({name})")
    return "\n".join(lines)


def description_text(described: dict[str, Any]) -> str:
    """Return the description for a terminal."""
    grid = described["grid"]
    size = "size unknown"
    if grid["size_x"] and grid["size_y"]:
        factor, unit = readable("m", np.array([grid["size_x"]]))
        size = f"{grid['size_x'] * factor:.4g} × {grid['size_y'] * factor:.4g} {unit}"
    extent = "a folder" if described["folder"] else f"{described['bytes']:,} bytes"
    lines = [
        f"{described['path']}",
        f"  format        {described['format']}, {extent}",
        f"  grid          {grid['ny']} rows × {grid['nx']} columns, {size}",
    ]
    for name, branch in described["branches"].items():
        lines.append(f"  {name:<13} {branch['samples']} samples; deflection {branch['deflection']}; z {branch['z']}")
    for name, value in described["calibration"].items():
        spread = f", ± {value['rel_std']:.1%}" if value["rel_std"] is not None else ""
        label = name.replace("_", " ")
        lines.append(f"  {label}: {value['value']:.6g} {value['unit']} (from the {value['source']}{spread})")
    tip = described["tip"]
    if tip["radius"] is not None:
        lines.append(f"  tip radius: {tip['radius'] * 1e9:.4g} nm (from the {tip['radius_source']})")
    if tip["half_angle"] is not None:
        lines.append(f"  tip half angle: {tip['half_angle']:.4g} rad (from the {tip['half_angle_source']})")
    if described["poisson_ratio"] is not None:
        lines.append(f"  Poisson's ratio of the sample: {described['poisson_ratio']:g} (from the file)")
    known = [
        f"{name.replace('_', ' ')} {value:.2%}" for name, value in described["rel_std"].items() if value is not None
    ]
    lines.append(f"  uncertainties: {', '.join(known) or 'none known'} (relative standard; --rel-std NAME=X)")
    for section, settings in described["vendor_recipe"].items():
        for name, value in settings.items():
            lines.append(f"  vendor's {section}.{name} = {value}")
    if not described["vendor_recipe"]:
        lines.append("  vendor's fit settings: none that fvproc understands")
    if described["vendor_maps"]:
        names = ", ".join(f"{name} ({told['unit'] or '1'})" for name, told in described["vendor_maps"].items())
        lines.append(f"  vendor's maps: {names}")
    for name, value in described["header"].items():
        lines.append(f"  {name}: {value}")
    for missing in described["missing"]:
        lines.append(f"  MISSING       {missing['name']} ({missing['unit']}): give {missing['option']}")
    lines += [f"  WARNING       {warning}" for warning in described["warnings"]]
    return "\n".join(lines)


def calibrated_text(entry: dict[str, Any], path: str | None) -> str:
    """Return what a calibration came to for a terminal."""
    factor, unit = readable(entry["unit"], np.array([entry["value"]])) if entry["unit"] != "m/V" else (1e9, "nm/V")
    parts = ", ".join(f"{name} {part:.2%}" for name, part in entry["parts"].items())
    lines = [
        f"{entry['name'].replace('_', ' ')}: {entry['value'] * factor:.5g} {unit} ± {entry['rel_std']:.2%}"
        f" of {entry['curves']:,} curves ({parts})"
    ]
    lines += [f"  {name.replace('_', ' ')}: {note}" for name, note in entry.get("notes", {}).items()]
    for source, power in entry.get("depends", {}).items():
        value = entry["found_with"].get(source)
        if value is not None:
            lines.append(f"  found with {source.replace('_', ' ')} = {value:.6g}, to whose power {power:+.2f} it goes")
    lines.append(f"  written to {path}: give --calibration {path} to a run" if path else "  not written; -o writes it")
    return "\n".join(lines)


# ---- the registry


def registry() -> dict[str, Any]:
    """Return every quantity and flag, ready for JSON."""
    return {
        "quantities": {
            name: {
                "unit": quantity.unit,
                "label": quantity.label,
                "meaning": quantity.meaning,
                "missing_if": [_name(flag) for flag in Flag if flag & quantity.fatal],
            }
            for name, quantity in QUANTITIES.items()
        },
        "flags": {
            _name(flag): {
                "bit": int(flag).bit_length() - 1,
                "fatal": bool(flag & FATAL_BITS),
                "meaning": meaning,
            }
            for flag, meaning in FLAG_MEANINGS.items()
        },
    }


def registry_text(entries: dict[str, Any]) -> str:
    """Return the registry for a terminal."""
    lines = ["quantity                     unit  meaning"]
    for name, quantity in entries["quantities"].items():
        lines.append(f"{name:<28} {quantity['unit']:<5} {quantity['label']}: {quantity['meaning']}")
    lines += ["", "bit flag                      kind     meaning"]
    for name, flag in entries["flags"].items():
        kind = "no value" if flag["fatal"] else "warning"
        lines.append(f"{flag['bit']:>3} {name:<25} {kind:<8} {flag['meaning']}")
    return "\n".join(lines)
