"""Files that several tests read, simulated once for a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from fvproc import simulate

# how long an example takes depends on the machine and says nothing of the code
settings.register_profile("fvproc", deadline=None)
settings.load_profile("fvproc")


@pytest.fixture(scope="session")
def curves_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Curves file of a homogeneous 916 MPa sample, 12 × 17 pixels of 2 × 128 samples."""
    path = tmp_path_factory.mktemp("curves") / "homogeneous.h5"
    simulate.write_map(path, ny=12, nx=17, samples=128, modulus=916e6, adhesion=4e-9, seed=5)
    return path


@pytest.fixture(scope="session")
def sei_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Curves file of the SEI scene, 48 × 40 pixels."""
    path = tmp_path_factory.mktemp("curves") / "sei.h5"
    simulate.sei_map(path, ny=48, nx=40, samples=256, seed=2)
    return path


@pytest.fixture(scope="session")
def bare_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Curves file in volts that tells no spring constant, no sensitivity and no tip."""
    import h5py
    import numpy as np

    path = tmp_path_factory.mktemp("curves") / "bare.h5"
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["format_version"] = "fvproc-curves", 1
        for branch, way in (("approach", 1), ("retract", -1)):
            deflection = file.create_dataset(f"{branch}/deflection", data=np.zeros((2, 3, 64), np.int16))
            deflection.attrs.update(units="V", scale_factor=1e-4, add_offset=0.0)
            z = file.create_dataset(f"{branch}/z", data=np.linspace(0, 1e-7, 64)[::way])
            z.attrs.update(units="m")
    return path
