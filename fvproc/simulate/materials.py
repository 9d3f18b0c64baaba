"""The reference materials: each modulus that a battery map holds, with a probe and a peak force suited to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fvproc import physics
from fvproc.simulate.curves import Probe, Sample


@dataclass(frozen=True, slots=True)
class ReferenceMaterial:
    """A material, and the measurement that a user would choose for it.

    Parameters
    ----------
    name : str
        Of the material: its modulus.
    occurrence : str
        Where a map meets it.
    modulus : float
        Young's modulus, Pa.
    spring_constant, tip_radius : float
        Of the probe, N/m and m.
    peak_force, adhesion : float
        N.
    travel : float
        Of the piezo, m.
    reason : str
        Why this probe and this force.
    poisson_ratio : float
        Of the sample.
    """

    name: str
    occurrence: str
    modulus: float
    spring_constant: float
    tip_radius: float
    peak_force: float
    adhesion: float
    travel: float
    reason: str
    poisson_ratio: float = 0.3

    @property
    def probe(self) -> Probe:
        """The sphere on its cantilever."""
        return Probe(self.spring_constant, self.tip_radius, poisson_ratio=self.poisson_ratio)

    def sample(self, curves: int = 1, model: str = "dmt") -> Sample:
        """Return what `curves` equal curves measure."""
        modulus, adhesion, peak = (np.full(curves, value) for value in (self.modulus, self.adhesion, self.peak_force))
        return Sample(modulus, adhesion, peak, model)

    @property
    def indentation(self) -> float:
        """DMT's at peak force, m."""
        return float(self.sample().indentation(self.probe)[0])

    @property
    def stiffness(self) -> float:
        """dF/dδ of the DMT contact at peak force, N/m."""
        return float(1.5 * self.probe.stiffness_factor(self.modulus) * np.sqrt(self.indentation))

    @property
    def tabor_parameter(self) -> float:
        """Tabor's μ with the work of adhesion of DMT; up to about 1 DMT describes the contact."""
        work = physics.work_of_adhesion(self.adhesion, self.tip_radius)
        return float(
            physics.tabor_parameter(self.tip_radius, work, physics.reduced_modulus(self.modulus, self.poisson_ratio))
        )


# The rule behind the choices: an indentation of 1–10 nm, or 2–13 % of R, so that the paraboloid holds to about 1 %; a
# contact 0.1–10 times as stiff as the cantilever, so that neither swallows the other; a peak deflection of some nm, a
# hundred times the noise and more; adhesion as low as in an electrolyte, so that Tabor's parameter stays near 1.
_SOFT = "R = 1 µm: a sharp tip would sink in by more than its radius at a force that can be measured"
_SHARP = "a sharp tip on a soft lever: 2 nN give 4 nm, some 13 % of R at most"
_MIDDLE = "the common PeakForce probe; 2 nm of indentation, 4 nm of deflection"
_STIFF = "a stiff lever, since at 5 N/m the contact would be 20 times as stiff; 1 nm needs 100 nN"
_HARD = "the stiffest silicon levers and a blunted tip: 1 nm needs 300 nN and more, at 2–3 GPa of mean pressure"
_HARDEST = "a lever of 200 N/m, else the contact hides in its bending; 600 nN for 1 nm, 5 GPa: a diamond tip"

REFERENCE_MATERIALS = (
    ReferenceMaterial("0.7 MPa", "lower end of DMT", 0.7e6, 0.03, 1e-6, 0.5e-9, 0.01e-9, 500e-9, _SOFT),
    ReferenceMaterial("23 MPa", "SEI on HOPG, soft", 23e6, 0.2, 60e-9, 2e-9, 0.07e-9, 200e-9, _SHARP),
    ReferenceMaterial("45 MPa", "organic SEI", 45e6, 0.4, 30e-9, 2e-9, 0.1e-9, 150e-9, _SHARP),
    ReferenceMaterial("67 MPa", "SEI on HOPG, stiff", 67e6, 0.4, 30e-9, 3e-9, 0.15e-9, 150e-9, _SHARP),
    ReferenceMaterial("916 MPa", "EC-derived SEI", 916e6, 5.0, 30e-9, 20e-9, 2e-9, 100e-9, _MIDDLE),
    ReferenceMaterial("1.5 GPa", "FEC-derived, LiF-rich SEI", 1.5e9, 5.0, 30e-9, 20e-9, 3e-9, 100e-9, _MIDDLE),
    ReferenceMaterial("2.4 GPa", "softest inorganic SEI", 2.4e9, 10.0, 30e-9, 40e-9, 5e-9, 100e-9, _MIDDLE),
    ReferenceMaterial("10.7 GPa", "LiF-rich SEI on Li", 10.7e9, 40.0, 30e-9, 100e-9, 10e-9, 60e-9, _STIFF),
    ReferenceMaterial("30 GPa", "aqueous LiTFSI SEI", 30e9, 100.0, 40e-9, 300e-9, 10e-9, 60e-9, _HARD),
    ReferenceMaterial("40 GPa", "delithiated LiCoO2", 40e9, 100.0, 40e-9, 300e-9, 10e-9, 60e-9, _HARD),
    ReferenceMaterial("58 GPa", "hardest inorganic SEI", 58e9, 200.0, 40e-9, 600e-9, 20e-9, 60e-9, _HARDEST),
    ReferenceMaterial("75 GPa", "pristine LiCoO2", 75e9, 200.0, 40e-9, 600e-9, 20e-9, 60e-9, _HARDEST),
)
"""Moduli of SEI and cathodes after the EC-AFM review, Adv. Energy Mater. 2021, 2101518; softest first."""
