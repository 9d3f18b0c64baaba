"""Writes small NSID and USID files for tests, after the layouts that pyNSID and pyUSID write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

Z = np.concatenate([np.linspace(0, 100, 60), np.linspace(99, -1, 60)])  # nm, there and back


def nsid_dataset(
    group: h5py.Group,
    name: str,
    values: np.ndarray,
    units: str,
    axes: list[tuple[str, np.ndarray, str]],
    quantity: str | None = None,
) -> h5py.Dataset:
    """Write a main dataset with a scale (label, values, units) on each axis, spectral but for x and y."""
    group = group.create_group(name)
    main = group.create_dataset(name, data=values)
    main.attrs.update(quantity=quantity or name, units=units, main_data_name=name, data_type="SPECTRAL_IMAGE")
    main.attrs.update(modality="generic", source="generic", pyNSID_version="0.0.7")
    for number, (label, places, unit) in enumerate(axes):
        scale = group.create_dataset(label, data=places)
        kind = "SPATIAL" if label in "xy" else "SPECTRAL"
        scale.attrs.update(dimension_type=kind, name=label, units=unit, quantity=label)
        scale.make_scale(label)
        main.dims[number].attach_scale(scale)
    return main


def write_nsid(
    path: Path,
    values: np.ndarray,
    *,
    units: str = "nm",
    order: str = "yxz",
    down: bool = False,
    z: np.ndarray = Z,
    z_units: str = "nm",
    height: np.ndarray | None = None,
    notes: dict[str, Any] | None = None,
) -> Path:
    """Write curves (ny, nx, samples), and their heights where z is a time; `notes` go into original_metadata."""
    ny, nx, _ = values.shape
    y = np.arange(ny) * 20e-9
    axes = {"y": ("y", y[::-1] if down else y, "m"), "x": ("x", np.arange(nx) * 10e-9, "m"), "z": ("z", z, z_units)}
    turned = [axes[axis] for axis in order]
    with h5py.File(path, "w") as file:
        group = file.create_group("Measurement_000/Channel_000")
        for name, cube, unit in (("Deflection", values, units), ("ZSnsr", height, "m")):
            if cube is not None:
                cube = cube[::-1] if down else cube
                nsid_dataset(group, name, cube.transpose(["yxz".index(axis) for axis in order]), unit, turned)
        for key, value in (notes or {}).items():
            group["Deflection"].require_group("original_metadata").attrs[key] = value
        image = np.zeros((ny, nx))
        nsid_dataset(group, "Height", image, "m", [axes["y"], axes["x"]])
    return path


def write_usid(
    path: Path, values: np.ndarray, *, labels: tuple[str, str] = ("Y", "X"), slow: str = "Y", units: str = "nm"
) -> Path:
    """Write curves (ny, nx, samples) as rows of a table, `slow` the position that changes least."""
    ny, nx, count = values.shape
    rows, columns = (part.ravel() for part in np.indices((ny, nx)))
    if slow == "X":
        rows, columns = (part.T.ravel() for part in np.indices((ny, nx)))
    of = {"Y": rows, "X": columns}
    with h5py.File(path, "w") as file:
        group = file.create_group("Measurement_000/Channel_000")
        main = group.create_dataset("Raw_Data", data=values[rows, columns])
        main.attrs.update(quantity="Deflection", units=units)
        indices = np.stack([of[label] for label in labels], axis=1).astype("u4")
        for name, table, marks, unit in (
            ("Position_Indices", indices, labels, "m"),
            ("Position_Values", indices * np.float32(1e-8), labels, "m"),
            ("Spectroscopic_Indices", np.arange(count, dtype="u4")[None], ("Z",), "nm"),
            ("Spectroscopic_Values", Z[None, :count].astype("f4"), ("Z",), "nm"),
        ):
            dataset = group.create_dataset(name, data=table)
            dataset.attrs.update(labels=np.array(marks, "S1"), units=np.array([unit] * len(marks), "S2"))
            main.attrs[name] = dataset.ref
    return path
