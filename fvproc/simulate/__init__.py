"""Force-distance curves of known truth: forward model, artefacts, and maps written as curves files."""

from fvproc.simulate.artefacts import ARTEFACTS, spoil, spoil_shares
from fvproc.simulate.attraction import Attraction, after_pull_off, van_der_waals
from fvproc.simulate.curves import MODELS, Probe, Sample, deflection, load_at, ramp
from fvproc.simulate.files import write_curves, write_map
from fvproc.simulate.materials import REFERENCE_MATERIALS, ReferenceMaterial
from fvproc.simulate.noise import noise, power_law_noise
from fvproc.simulate.sei import BAD_PIXELS, MATERIALS, Material, sei_layout, sei_map
from fvproc.simulate.tiles import FULL_SCALE, Background, simulated_tile, store, stored_channel

__all__ = [
    "ARTEFACTS",
    "BAD_PIXELS",
    "FULL_SCALE",
    "MATERIALS",
    "MODELS",
    "REFERENCE_MATERIALS",
    "Attraction",
    "Background",
    "Material",
    "Probe",
    "ReferenceMaterial",
    "Sample",
    "after_pull_off",
    "deflection",
    "load_at",
    "noise",
    "power_law_noise",
    "ramp",
    "sei_layout",
    "sei_map",
    "simulated_tile",
    "spoil",
    "spoil_shares",
    "store",
    "stored_channel",
    "van_der_waals",
    "write_curves",
    "write_map",
]
