"""The reference materials of the benchmarks, each with the probe and peak force that a user would choose for it."""

from __future__ import annotations

from dataclasses import dataclass

from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, Setting


@dataclass(frozen=True, slots=True)
class Material:
    """What is measured, and with what; SI units.

    Parameters
    ----------
    name : str
    modulus : float
        Young's modulus, Pa.
    spring_constant, tip_radius : float
        N/m, m.
    peak_force, adhesion : float
        N.
    travel : float
        Of the ramp, m.
    why : str
        Why this probe and this force.
    """

    name: str
    modulus: float
    spring_constant: float
    tip_radius: float
    peak_force: float
    adhesion: float
    travel: float
    why: str = ""


# The indentation stays below half the tip radius (a paraboloid stands for the tip) and, up to 2.4 GPa, is of the
# order of the deflection, where force and indentation are told apart best; stiffer than that no probe reaches it.
MATERIALS = (
    Material("0.7 MPa", 0.7e6, 0.25, 1e-6, 2e-9, 0.5e-9, 300e-9, "1 µm sphere: a sharp tip would sink in to its cone"),
    Material("23 MPa", 23e6, 0.2, 30e-9, 3e-9, 1e-9, 200e-9, "soft lever: deflection above the indentation of 8 nm"),
    Material("45 MPa", 45e6, 0.4, 30e-9, 5e-9, 1e-9, 150e-9, "0.4 N/m, the usual lever for soft films: 12 nm of it"),
    Material("67 MPa", 67e6, 0.4, 30e-9, 5e-9, 1e-9, 150e-9, "as 45 MPa: one probe for one kind of film"),
    Material("916 MPa", 916e6, 5.0, 30e-9, 20e-9, 4e-9, 100e-9, "5 N/m, the usual lever for polymers: 2 nm deep"),
    Material("1.5 GPa", 1.5e9, 5.0, 30e-9, 20e-9, 4e-9, 100e-9, "as 916 MPa: one probe for one kind of film"),
    Material("2.4 GPa", 2.4e9, 10.0, 30e-9, 40e-9, 6e-9, 100e-9, "10 N/m keeps 2 nm of indentation at 4 nm bend"),
    Material("10.7 GPa", 10.7e9, 40.0, 30e-9, 100e-9, 10e-9, 60e-9, "40 N/m tapping lever, the stiffest of its kind"),
    Material("30 GPa", 30e9, 100.0, 40e-9, 300e-9, 10e-9, 60e-9, "long diamond-coated lever: 1 nm deep without wear"),
    Material("40 GPa", 40e9, 100.0, 40e-9, 300e-9, 10e-9, 60e-9, "as 30 GPa; more force would blunt the tip"),
    Material("58 GPa", 58e9, 200.0, 40e-9, 600e-9, 20e-9, 60e-9, "200 N/m, short diamond-coated lever, 1 nm deep"),
    Material("75 GPa", 75e9, 200.0, 40e-9, 600e-9, 20e-9, 60e-9, "as 58 GPa: the stiffest lever that is sold"),
)


def table_of_materials() -> str:
    """Return the materials, probes and reasons as a markdown table."""
    lines = ["| material | k N/m | R nm | peak nN | adhesion nN | ramp nm | why |", "|---" * 7 + "|"]
    for m in MATERIALS:
        lines.append(
            f"| {m.name} | {m.spring_constant:g} | {m.tip_radius * 1e9:g} | {m.peak_force * 1e9:g}"
            f" | {m.adhesion * 1e9:g} | {m.travel * 1e9:g} | {m.why} |"
        )
    return "\n".join(lines)


def described(material: Material, channel: Channel, curves: int, samples: int, *, shared_z: bool = True) -> ForceVolume:
    """Return the description that a file of such curves would have.

    Parameters
    ----------
    material : Material
    channel : Channel
        Of the deflection, m.
    curves, samples : int
        Grid of 1 × `curves`; samples per branch.
    shared_z : bool
        One z for all curves, or one for each; in m, float64.
    """
    branch = Branch(samples, channel, Channel("float64", "m"), shared_z)
    return ForceVolume(
        "simulated",
        "simulated",
        Grid(1, curves),
        branch,
        branch,
        calibration=Calibration(Setting(material.spring_constant)),
        tip_radius=Setting(material.tip_radius),
        poisson_ratio=0.3,
    )
