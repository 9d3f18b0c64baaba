"""What a NanoScope header says besides the data: calibration, tip, scan frame, the vendor's fit settings, facts."""

from __future__ import annotations

from typing import Any

from fvproc.readers.nanoscope_header import UNITS, Header, Section, Value
from fvproc.readers.nanoscope_layout import Block, Shape
from fvproc.volume import Calibration, Grid, Setting

_FACTS = {
    "ciao scan list": (
        "Operating mode",
        "Scan Rate",
        "Capture direction",
        "PeakForce Capture",
        "PFT Freq",
        "Peak Force Amplitude",
        "Sync Distance QNM",
        "Adhesion Algorithm",
        "Modulus Fit Model",
        "Min Force Fit Boundary",
        "Max Force Fit Boundary",
        "Include Adhesion Force",
        "Deformation Fit Region",
    ),
    "ciao force list": (
        "Scan rate",
        "Forward vel.",
        "Reverse vel.",
        "Trigger mode",
        "Deflection Sensitivity Correction",
        "Deflection Baseline Fit",
        "Temperature (Celsius)",
    ),
    "equipment list": ("Description", "Microscope", "Controller", "Scanner file"),
    "force file list": ("Version", "Date", "Start context"),
}


def metres_per_volt(header: Header, soft: str, warnings: list[str]) -> float | None:
    """Return a sensitivity in m/V; None if the header has none. Without a unit it is nm/V, as all versions mean it."""
    found = header.sensitivity(soft)
    if found is None:
        return None
    value, unit = found
    if not unit:
        warnings.append(f"{soft}: {value:g} without a unit, taken as nm/V")
        return value * 1e-9
    length, _, per = unit.partition("/")
    factor, kind = UNITS.get(length, (0.0, ""))
    if kind != "m" or per != "V":
        warnings.append(f"{soft}: {value:g} {unit} is no length per volt and was not used")
        return None
    return value * factor


def volts(value: Value | None, width: int) -> float | None:
    """Return the volts per LSB of a scale; None if it is not printed in volts."""
    if value is None:
        return None
    step = value.per_lsb(width)
    factor, kind = UNITS.get(value.lsb_unit, (0.0, ""))
    return step * factor if step and kind == "V" else None


def calibration(
    header: Header, deflection: Block, soft: str, z_sensitivity: float | None, warnings: list[str]
) -> Calibration:
    """Return what the header tells; the spring constant of the deflection block, for other blocks print another."""
    spring = deflection.section.numbers("spring constant")
    sensitivity = metres_per_volt(header, soft, warnings)
    return Calibration(
        Setting(spring[0]) if spring and spring[0] > 0 else None,
        Setting(sensitivity) if sensitivity else None,
        Setting(z_sensitivity) if z_sensitivity else None,
    )


def grid(header: Header, shape: Shape, images: list[Block]) -> Grid:
    """Return the scan frame: edges as an image of the same grid prints them, else scan size and aspect ratio."""
    scan = header.first("ciao scan list")
    angle = scan.numbers("rotate ang.", "rotate ang")
    if shape.ny * shape.nx == 1:
        return Grid(1, 1, rotation=angle[0] if angle else 0.0)
    size_x, size_y = None, None
    for section in [*(image.section for image in images), scan]:
        size_x, size_y = _edges(section)
        if size_x:
            break
    return Grid(shape.ny, shape.nx, size_y, size_x, angle[0] if angle else 0.0)


def _edges(section: Section) -> tuple[float | None, float | None]:
    """Return (x, y) in m of ``Scan Size: 2000 nm`` or ``Scan Size: 2 1 ~m``."""
    text, sizes = section.text("scan size"), section.numbers("scan size")
    if text is None or not sizes or not sizes[0] > 0:
        return None, None
    factor, kind = UNITS.get(text.split()[-1], (0.0, ""))
    if kind != "m":
        return None, None
    if len(sizes) > 1 and sizes[1] > 0:
        return sizes[0] * factor, sizes[1] * factor
    aspect = section.numbers("aspect ratio")
    ratio = aspect[1] / aspect[0] if len(aspect) == 2 and min(aspect) > 0 else 1.0
    return sizes[0] * factor, sizes[0] * factor * ratio


def tip(header: Header) -> tuple[Setting | None, Setting | None, float | None]:
    """Return tip radius (m), half angle (rad) and Poisson's ratio of the sample; None where absent, 0 or absurd."""
    scan = header.first("ciao scan list")
    radius, angle = scan.numbers("tip radius"), scan.numbers("tip half angle")
    ratio = scan.numbers("sample poisson's ratio")
    return (
        Setting(radius[0] * 1e-9) if radius and 0 < radius[0] < 1e6 else None,
        Setting(angle[0]) if angle and 0 < angle[0] < 1.57 else None,
        ratio[0] if ratio and 0 < ratio[0] <= 0.5 else None,
    )


def vendor_recipe(header: Header, warnings: list[str]) -> dict[str, Any]:
    """Return the fit settings of the instrument's software as the nested dict of a recipe; empty if it has none.

    Its spherical model is DMT where the adhesion is included, and Hertz where it is not.
    """
    scan, force = header.first("ciao scan list"), header.first("ciao force list")
    text = (scan.text("modulus fit model") or "").lower()
    includes = (scan.text("include adhesion force") or "yes").lower() == "yes"
    if "sneddon" in text or "conical" in text:
        model = "sneddon_cone"
    elif "dmt" in text or "hertz" in text or "spherical" in text:
        model = "dmt" if includes else "hertz"
    else:
        return {}
    if not includes:
        warnings.append("Include Adhesion Force: No: the vendor's modulus was fitted as if there were no adhesion")
    radius, angle, ratio = tip(header)
    fit: dict[str, Any] = {"model": model, "method": "qnm", "adhesion": "minimum", "branch": "retract"}
    low, high = scan.numbers("min force fit boundary"), scan.numbers("max force fit boundary")
    if low and high and 0 <= low[0] < high[0] <= 100:
        fit["window"] = [low[0] / 100, high[0] / 100]
    recipe: dict[str, Any] = {"fit": fit, "stiffness": {"definition": "window"}}
    if model == "sneddon_cone":
        recipe["tip"] = {"shape": "cone"} | ({"half_angle": angle.value} if angle else {})
    else:
        recipe["tip"] = {"shape": "sphere"} | ({"radius": radius.value} if radius else {})
    if ratio is not None:
        recipe["sample"] = {"poisson_ratio": ratio}
    region = scan.numbers("deformation fit region")
    if region and 0 < region[0] < 1:
        recipe["deformation"] = {"region": region[0]}
    baseline = _baseline(force)
    if baseline:
        recipe["baseline"] = baseline
    return recipe


def _baseline(force: Section) -> dict[str, Any]:
    baseline: dict[str, Any] = {}
    part = force.numbers("baseline fit", "baseline fit %")
    if part and 1 <= part[0] <= 90:
        baseline["fraction"] = part[0] / 100
    kind = (force.text("deflection baseline fit") or "").lower()
    if kind:
        baseline["order"] = 1 if "line" in kind else 0
        baseline["source"] = "approach" if "extend" in kind else "each"
    return baseline


def facts(header: Header) -> dict[str, Any]:
    """Return the fields worth keeping as provenance, as printed."""
    kept: dict[str, Any] = {}
    for name, fields in _FACTS.items():
        section = header.first(name)
        for field in fields:
            text = section.text(field)
            if text is not None:
                kept.setdefault(field, text[:120])
    return kept
