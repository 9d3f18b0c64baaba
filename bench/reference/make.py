"""The reference curves: a small set of known truth, made again to the same content by this script.

    python bench/reference/make.py [--curves 64] [--folder DIR]     write the set
    python bench/reference/make.py --check                          hold the committed set against a new one

    fvproc bench --reference bench/reference

Version 1. Each file is a curves file with its truth (docs/formats.md): 64 curves of 2 × 256 int16 samples, contact
points spread over one step of the ramp. `DIGESTS.json` holds the SHA-256 of the content of every dataset, so that a
file is known again whatever library wrote it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fvproc import simulate

VERSION = 1
HERE = Path(__file__).parent
DIGESTS = HERE / "DIGESTS.json"
SAMPLES = 256
_MATERIALS = {material.name: material for material in simulate.REFERENCE_MATERIALS}

# What changes from the plain condition: sine, 256 samples, 0.02 nm of white noise, no tilt.
_VARIANTS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "plain": (tuple(_MATERIALS), {}),
    "linear": (("45 MPa", "1.5 GPa", "30 GPa"), {"drive": "linear"}),
    "noisy": (("45 MPa", "1.5 GPa", "10.7 GPa"), {"sigma": 1e-10}),
    "quiet": (("75 GPa",), {"sigma": 5e-12}),
    "tilted": (("45 MPa", "1.5 GPa"), {"tilt": 2e-3}),
    "few-samples": (("45 MPa", "916 MPa"), {"samples": 64}),
    "many-samples": (("1.5 GPa",), {"samples": 1024}),
    "correlated": (("45 MPa", "1.5 GPa"), {"correlation": 0.6}),
    "flicker": (("45 MPa", "1.5 GPa"), {"flicker": 2e-11}),
    "sticky": (("23 MPa", "1.5 GPa"), {"adhesion": 3.0}),
    "barely-sticky": (("45 MPa", "10.7 GPa"), {"adhesion": 0.1}),
    "artefacts": (
        ("45 MPa", "1.5 GPa"),
        {"artefacts": {"no contact": 0.1, "saturated": 0.1, "never left": 0.1, "spikes": 0.1, "missing samples": 0.1}},
    ),
    "film": (("45 MPa", "916 MPa"), {"thickness": 50e-9, "series": "published"}),
    "jkr": (("0.7 MPa",), {"model": "jkr", "adhesion": 5.0}),
}


def conditions() -> list[tuple[str, simulate.ReferenceMaterial, dict[str, Any]]]:
    """Return (name of the file, material, what changes)."""
    found = []
    for variant, (materials, changes) in _VARIANTS.items():
        for name in materials:
            found.append((f"{variant}-{name.replace(' ', '')}.h5", _MATERIALS[name], changes))
    return found


def write(folder: Path, curves: int = 64, only: str = "") -> list[Path]:
    """Write the set, or the one file `only`; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed, (name, material, changes) in enumerate(conditions()):
        if only and name != only:
            continue
        settings = dict(changes)
        adhesion = material.adhesion * settings.pop("adhesion", 1.0)
        samples = settings.pop("samples", SAMPLES)
        drive = settings.pop("drive", "sine")
        z = simulate.ramp(samples, material.travel, drive)[0]
        path = folder / name
        simulate.write_map(
            path,
            ny=8,
            nx=curves // 8,
            samples=samples,
            modulus=material.modulus,
            adhesion=adhesion,
            peak_force=material.peak_force,
            probe=material.probe,
            travel=material.travel,
            drive=drive,
            seed=seed,
            spread=float(np.max(np.abs(np.diff(z)))),
            **{"sigma": 2e-11, **settings},
        )
        needed = _recipe(settings)
        if needed:
            path.with_suffix(".toml").write_text(needed, encoding="utf-8")
        paths.append(path)
    return paths


def _recipe(changes: dict[str, Any]) -> str:
    """Return the settings without which the curves cannot be understood, as TOML."""
    if "thickness" in changes:
        film = f"[film]\nthickness = {changes['thickness']!r}\n"
        return f'{film}series = "{changes["series"]}"  # as the simulation has it\n'
    if "model" in changes:
        return f'[fit]\nmodel = "{changes["model"]}"\n'
    return ""


def digest(path: Path) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of all datasets of a file."""
    total = hashlib.sha256()
    with h5py.File(path) as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in sorted(names):
            values = np.ascontiguousarray(file[name][()])
            total.update(f"{name} {values.dtype.str} {values.shape}".encode())
            total.update(values.tobytes())
    return total.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=int, default=64, help="of a file, a multiple of 8; 64 is the committed set")
    parser.add_argument("--folder", type=Path, default=HERE)
    parser.add_argument("--check", action="store_true", help="exit status 1 where the committed set differs")
    arguments = parser.parse_args()
    if not arguments.check:
        paths = write(arguments.folder, arguments.curves)
        if arguments.folder == HERE and arguments.curves == 64:
            entries = {"version": VERSION, "sha256": {path.name: digest(path) for path in paths}}
            DIGESTS.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        return 0
    expected = json.loads(DIGESTS.read_text(encoding="utf-8"))["sha256"]
    with tempfile.TemporaryDirectory() as folder:
        new = {path.name: digest(path) for path in write(Path(folder))}
    here = {path.name: digest(path) for path in HERE.glob("*.h5")}
    wrong = [
        name for name in sorted({*expected, *new, *here}) if not expected.get(name) == new.get(name) == here.get(name)
    ]
    print("\n".join(f"{name}: differs" for name in wrong) or f"{len(expected)} files, all the same")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
