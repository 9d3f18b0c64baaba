"""The twin of the kernel's curve: order of the steps, flags, and the way back to SI."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fvproc._core.settings import KernelSettings
from fvproc.quantities import QUANTITIES, RECORD, Flag
from fvproc.reference.approach import PIECEWISE, detect_contact, first_of_fit
from fvproc.reference.artefacts import bridge_spikes, find_steps, without_background
from fvproc.reference.branch import (
    Branch,
    adhesion_work,
    deformation,
    judge_contact,
    load_branch,
    lost_work,
    saturated,
    smoothed_minimum,
    survey,
    turning_point,
)
from fvproc.reference.contact import Contact
from fvproc.reference.fit import Fit, fit_contact, fit_window
from fvproc.reference.noise import set_components, take_components
from fvproc.volume import RawTile

_NM = 1e-9
_NEAREST_APPROACH = 0.16e-9
_NOT_NOISE = 6.0
_JKR = 3


def reduced_modulus(settings: KernelSettings, compliance: float) -> float:
    """E* from the compliance in nm^(1 − 1/m)."""
    return settings.spring_constant * settings.modulus_scale / compliance ** _exponent(settings)


def _exponent(settings: KernelSettings) -> float:
    return settings.law.load_power / settings.law.depth_power


def young(settings: KernelSettings, reduced: float) -> tuple[float, float]:
    """E and dE/dE* from E*."""
    left = 1.0 / reduced - settings.tip_compliance
    if left <= 0:
        return math.inf, math.inf
    return settings.one_minus_nu2 / left, settings.one_minus_nu2 / (left * reduced) ** 2


def fit_curve(raw: RawTile, curve: int, settings: KernelSettings, thickness: float | None = None) -> np.ndarray:
    """Return the record of one curve, shape ()."""
    s, k = settings, settings.spring_constant
    values = dict.fromkeys(QUANTITIES, 0.0)
    retract_row = raw.retract.deflection[curve]
    quantum = abs(s.retract_deflection.scale) if retract_row.dtype.kind == "i" else 0.0
    approach = load_branch(raw.approach, curve, s.approach_deflection, s.approach_z, True)
    retract = load_branch(raw.retract, curve, s.retract_deflection, s.retract_z, False)
    flags = Flag(0)
    if approach.n < raw.approach.deflection.shape[1] or retract.n < raw.retract.deflection.shape[1]:
        flags |= Flag.INVALID_SAMPLES
    for branch_raw, conversion in ((raw.approach, s.approach_deflection), (raw.retract, s.retract_deflection)):
        row = branch_raw.deflection[curve]
        if branch_raw.valid_length is not None:
            row = row[: branch_raw.valid_length[curve]]
        if saturated(row, conversion.invalid):
            flags |= Flag.SATURATED
    for branch, branch_raw, conversion in (
        (approach, raw.approach, s.approach_deflection),
        (retract, raw.retract, s.retract_deflection),
    ):
        step = abs(conversion.scale) if branch_raw.deflection.dtype.kind == "i" else 0.0
        branch.d, spikes, too_many = bridge_spikes(branch.d, step)
        flags |= (Flag.SPIKES if spikes else Flag(0)) | (Flag.POOR_FIT if too_many else Flag(0))
        if s.interference_period > 0 or s.drag or s.bow:
            branch.d = without_background(branch, s.baseline_fraction, s.interference_period, s.drag, s.bow, step)
    if approach.n < 32 or retract.n < 32:
        return _sealed(s, values, flags | Flag.INVALID_CURVE)
    if min(int(s.baseline_fraction * b.n) for b in (approach, retract)) < 8:
        return _sealed(s, values, flags | Flag.BASELINE_TOO_SHORT)
    survey(approach, None, s, quantum)
    survey(retract, approach if s.baseline_of_approach else None, s, quantum, find_steps)
    noise, top = retract.noise, max(approach.peak, retract.peak)
    values["baseline_noise"], values["peak_force"] = k * noise * _NM, k * top * _NM
    if approach.correlated or retract.correlated or s.noise is not None:
        flags |= Flag.NOISE_CORRELATED
    flags |= judge_contact(approach) | judge_contact(retract)
    if flags & (Flag.NO_CONTACT | Flag.CONTACT_NOT_LEFT):
        return _sealed(s, values, flags)
    if any(abs(b.tilt) * (b.z[0] - b.z[-1]) > 0.2 * b.peak for b in (approach, retract)):
        flags |= Flag.BASELINE_TILTED
    if abs(approach.d[0] - retract.d[0]) > 0.1 * top + 6.0 * noise:
        flags |= Flag.BRANCHES_DISAGREE
    if s.adhesive and not retract.pulled:
        flags |= Flag.NO_ADHESION
    if retract.several:
        flags |= Flag.MULTIPLE_PULL_OFFS
    if retract.jump_width > 0:
        flags |= Flag.BLUNT_PULL_OFF
    values["dissipation"] = k * lost_work(approach, retract) * _NM**2
    values["adhesion_energy"] = k * adhesion_work(retract) * _NM**2
    height = float(raw.height[curve]) if raw.height is not None else math.nan
    if math.isnan(height):
        top, at = turning_point(approach)
        height = (top - at) * _NM
    values["height"] = height
    reach = 0.0
    if s.law.film:
        film = s.film_thickness if thickness is None else thickness * 1e9
        if not film > 0:
            flags |= Flag.NO_THICKNESS
        else:
            reach = s.film_reach / film
    if flags & (Flag.SATURATED | Flag.NO_THICKNESS):
        return _sealed(s, values, flags)

    if s.noise is not None:
        take_components(approach, s.noise[0])
        take_components(retract, s.noise[1])
    elif flags & Flag.NOISE_CORRELATED:
        set_components(approach, retract, s.baseline_order, quantum**2 / 12.0)
    if s.wants_fit:
        fitted = approach if s.fit_approach else retract
        fit = _contact_fit(fitted, s, quantum, reach)
        if _is_free(s) and _has_none(fit, fitted, s):
            fit = _contact_fit(fitted, s, quantum, reach, held=0.0)
        elif _is_free(s) and not s.fit_approach and _contradicts(fit, retract):
            fit = _contact_fit(fitted, s, quantum, reach, held=pull_off(retract, s))
            if fit.status != Flag.FIT_FAILED:
                flags |= Flag.PULL_OFF_DISAGREES
        if fit.status:
            flags |= fit.status
        else:
            flags = _fill_fit(values, flags, s, fit, fitted, reach)
            if s.fit_approach or not s.adhesive:
                # the model knows none, or the fit is that of the approach: what pulls the tip off is seen on retract
                shown = pull_off(retract, s) if retract.pulled or s.adhesion_minimum else 0.0
                values["adhesion"], values["adhesion_std"] = k * shown * _NM, k * noise * _NM
            values["contact_height"] = height + values["indentation"]
    if s.wants_contact:
        contact = _approach_contact(approach, s, quantum, reach)
        if contact.status:
            flags |= Flag.CONTACT_NOT_FOUND
        else:
            values["approach_contact_point"] = contact.z0 * _NM
            values["approach_contact_point_std"] = contact.z0_std * _NM
            values["snap_in"] = -k * smoothed_minimum(approach) * _NM
    if approach.pulled:
        flags |= Flag.SNAP_IN
    values["deformation"] = deformation(approach, s.deformation_region) * _NM
    return _sealed(s, values, flags)


def _own_baseline(s: KernelSettings, approach: bool) -> int:
    """Parameters of the baseline that a fit of a branch corrects: none of a line that another branch lends."""
    return 0 if s.baseline_of_approach and not approach else 1 + s.baseline_order


def pull_off(branch: Branch, s: KernelSettings) -> float:
    """How deep the lowest samples lie, nm."""
    return -branch.lowest if s.adhesion_minimum else -smoothed_minimum(branch)


def _is_free(s: KernelSettings) -> bool:
    """Whether the adhesion is one of the parameters of the fit."""
    return s.maximum_likelihood and s.adhesive and not s.adhesion_minimum


def _has_none(fit: Fit, branch: Branch, s: KernelSettings) -> bool:
    """Whether a fit of JKR's without a pull-off to be seen has come to the end of its parameter."""
    if s.law.kind != _JKR or branch.pulled or fit.status == Flag.TOO_FEW_POINTS:
        return False
    return bool(fit.status) or not fit.adhesion > 0


def _contradicts(fit: Fit, branch: Branch) -> bool:
    """Whether a fit's lowest force is not that of the samples, or there is no fit; see `_core/pull_off.pxd`."""
    shown = -smoothed_minimum(branch)
    if not branch.pulled or not shown > 0 or fit.status == Flag.TOO_FEW_POINTS:
        return False
    if fit.status:
        return True
    at, behind = branch.lowest_at, min(max(branch.lowest_at + 1, branch.off), branch.n - 1)
    off = fit.adhesion - fit.offset - fit.tilt * (branch.z[at] - branch.centre) - shown
    unseen = branch.z[max(at - 1, 0)] - branch.z[behind]
    if off > unseen + _NOT_NOISE * branch.noise:
        return True
    return off < -_NOT_NOISE * branch.noise and not branch.jump_width > 0


def _contact_fit(branch: Branch, s: KernelSettings, quantum: float, reach: float, held: float | None = None) -> Fit:
    """The fit of the contact model by the method of the recipe; held: an adhesion that it must have."""
    adhesion = 0.0
    if held is not None:
        adhesion = held
    elif s.adhesive:
        adhesion = -branch.lowest if branch.pulled else 0.0
        if s.adhesion_minimum or not s.maximum_likelihood:
            adhesion = pull_off(branch, s)
        elif s.law.kind == _JKR and not branch.pulled:
            adhesion = branch.noise  # at zero its root has no derivative
    if not s.maximum_likelihood:
        return fit_window(s.law, branch, adhesion, branch.noise, reach, s.window_low, s.window_high)
    free = _is_free(s) and held is None
    retract = not s.fit_approach
    return fit_contact(
        s.law, branch, branch.fitted, free, adhesion, _own_baseline(s, not retract), retract, quantum, reach
    )


def _approach_contact(branch: Branch, s: KernelSettings, quantum: float, reach: float) -> Fit:
    """The contact point on approach: as detected, or from the fit that goes on from there."""
    begin = 0
    if s.contact_method != PIECEWISE:
        detected = detect_contact(branch, s)
        if detected is None:
            return Fit(Flag.CONTACT_NOT_FOUND)
        if s.contact_detected:
            return Fit(z0=detected.z0, z0_std=detected.std)
        begin = first_of_fit(branch, s, detected)
    pull = -branch.lowest if branch.pulled else 0.0
    # `qnm` measures the far part alone: a contact that reaches into it would count samples twice
    own = _own_baseline(s, True) if s.maximum_likelihood or branch.free >= branch.fitted else 0
    fit = fit_contact(s.law, branch, branch.fitted, branch.pulled, pull, own, False, quantum, reach, begin)
    return fit if branch.z[-1] < fit.z0 < branch.z[0] else replace(fit, status=Flag.CONTACT_NOT_FOUND)


def _fill_fit(values: dict[str, float], flags: Flag, s: KernelSettings, fit: Fit, branch: Branch, reach: float) -> Flag:
    """Put in what follows from the fit of the contact model; return the flags."""
    k, m = s.spring_constant, _exponent(s)
    contact = Contact(s.law, fit.compliance, fit.adhesion, reach)
    # of the first sample, or farther where the branch was cut after the time
    turning = max(float(branch.z[0]), float(branch.z[branch.peak_at]))
    root = contact.roots(turning - fit.z0)
    depth, rate = fit.compliance * float(contact.shape(root)), float(contact.slope(root))
    values["contact_point"], values["contact_point_std"] = fit.z0 * _NM, fit.z0_std * _NM
    values["adhesion"], values["adhesion_std"] = k * fit.adhesion * _NM, k * fit.adhesion_std * _NM
    values["indentation"] = depth * _NM
    values["fit_rmse"], values["r_squared"] = k * fit.rmse * _NM, fit.r_squared
    values["n_fit"] = fit.samples
    if fit.samples < 8:
        flags |= Flag.FEW_POINTS
    if fit.rmse > 2.0 * branch.noise:
        flags |= Flag.POOR_FIT
    # of the compliance, the tip has its share
    if not fit.compliance - s.tip_share > 3.0 * fit.compliance_std:
        flags |= Flag.MODULUS_UNBOUNDED
    lower = reduced_modulus(s, fit.compliance + 1.6448536269514722 * fit.compliance_std)
    limit = young(s, lower)[0]
    # stiffer than the tip alone: what a rigid one would say is less, and so a limit all the same
    values["modulus_lower"] = limit if math.isfinite(limit) else s.one_minus_nu2 * lower
    if flags & Flag.MODULUS_UNBOUNDED:
        return flags
    reduced = reduced_modulus(s, fit.compliance)
    modulus, derivative = young(s, reduced)
    values["reduced_modulus"], values["modulus"] = reduced, modulus
    values["modulus_std"] = derivative * reduced * m * fit.compliance_std / fit.compliance
    values["stiffness"] = k * fit.slope if s.stiffness_of_window else k * rate / (1.0 - rate)
    if s.tip_radius > 0 and depth > 0.5 * s.tip_radius:
        flags |= Flag.BEYOND_TIP_SHAPE
    if s.law.film and contact.reach * depth ** (0.5 * s.law.reach_power) > s.law.limit:
        flags |= Flag.FILM_DOUBTFUL
    if s.tabor and fit.adhesion > 0:
        radius = s.tip_radius * _NM
        work = k * fit.adhesion * _NM / ((2.0 if s.tabor > 0 else 1.5) * math.pi * radius)
        tabor = radius * work**2 / (reduced**2 * _NEAREST_APPROACH**3)
        if s.tabor > 0 and tabor > 1.0:
            flags |= Flag.DMT_DOUBTFUL
        if s.tabor < 0 and tabor < 1.0:
            flags |= Flag.JKR_DOUBTFUL
    return flags


def _sealed(settings: KernelSettings, values: dict[str, float], flags: Flag) -> np.ndarray:
    """NaN exactly where a fatal flag says so, or nobody asked; anything else not finite is a fault."""
    record = np.zeros((), RECORD)
    for name in QUANTITIES:
        record[name] = np.nan
    with np.errstate(over="ignore"):
        for name in settings.quantities:
            record[name] = values[name]
    for name in settings.quantities:
        if not flags & QUANTITIES[name].fatal and not np.isfinite(record[name]):
            flags |= Flag.NOT_FINITE
    for name in settings.quantities:
        if flags & QUANTITIES[name].fatal:
            record[name] = np.nan
    record["flags"] = int(flags)
    return record
