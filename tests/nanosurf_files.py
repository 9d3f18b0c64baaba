"""Writes small Nanosurf .nid files for tests: sections of a real one, blocks of known integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

BITS = 32
FORCE = (4e-6, -2e-6)  # range and minimum of Dim2
SENSOR = (2.8e-5, -1.4e-5)


def line_of(ny: int, nx: int) -> np.ndarray:
    """Row of the data sets in which the curve of each pixel lies: back and forth from the bottom."""
    lines = np.arange(ny * nx).reshape(ny, nx)
    lines[1::2] = lines[1::2, ::-1].copy()
    return lines


def counts(ny: int, nx: int, points: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Integers of the four data sets, (lines, points): forward and backward deflection and sensor."""
    generator = np.random.default_rng(seed)
    shape = (ny * nx, points)
    ramp = np.linspace(-(2**27), 2**27, points).astype("<i4")
    data = {}
    for number in (0, 1):
        data[f"{number}:0"] = generator.integers(-(2**24), 2**24, shape).astype("<i4")
        data[f"{number}:7"] = (ramp + generator.integers(-1000, 1000, shape)).astype("<i4")
    return data


def write(
    path: Path,
    data: dict[str, np.ndarray],
    *,
    grid: tuple[int, int] | None = (2, 3),
    unit: str = "N",
    spring_constant: str | None = "D[2.5]*[N/m]",
    valid: np.ndarray | None = None,
    current: int | None = None,
    replace: tuple[str, str] = ("", ""),
) -> Path:
    """Write a file; `valid` are the measured points of the forward rows, `replace` changes the header's text."""
    lines, points = data["0:0"].shape
    text = ["[DataSet]", "Version=2", "GroupCount=2"]
    for number, title in ((0, "Spec forward"), (1, "Spec backward")):
        text += [f"Gr{number}-Name={title}", f"Gr{number}-ID=1", f"Gr{number}-Count=8"]
    text += [f"Gr{key[0]}-Ch{key[2]}=DataSet-{key}" for key in sorted(data)]
    text += ["", "[DataSet-Info]", "Head type=FlexAFM", "Software ver.=3.10.0.20", ""]
    text += ["[DataSet\\Calibration\\Cantilever]", "Name=Tap150Al-G"]
    if spring_constant:
        text += [f"Prop0={spring_constant}"]
    if grid:
        ny, nx = grid
        text += ["", "[DataSet\\SpecInfos\\SpecMapTable]", "Count=1"]
        text += [f"Map0=-{(nx - 1) * 5e-7};{(nx - 1) * 5e-7};-{(ny - 1) * 5e-7};{(ny - 1) * 5e-7};{nx};{ny};0;1"]
    for key in sorted(data):
        sensor = key.endswith("7")
        reach, low = SENSOR if sensor else FORCE
        text += ["", f"[DataSet-{key}]", "Version=3", f"Points={points}", f"Lines={lines}"]
        text += [f"CurLine={lines - 1 if current is None else current}", "Dim0Name=Z-Axis", "Dim0Unit=m"]
        text += ["Dim0Range=1e-06", "Dim0Min=1e-06", "Dim1Name=SpecPoint"]
        text += [f"Dim2Name={'Z-Axis Sensor' if sensor else 'Deflection'}", f"Dim2Unit={'m' if sensor else unit}"]
        text += [f"Dim2Range={reach}", f"Dim2Min={low}"]
        if valid is not None and key.startswith("0"):
            for row, count in enumerate(valid):
                text += [
                    f"LineDim{row}Range=1e-06",
                    f"LineDim{row}Min={1e-6 + row * 1e-8}",
                    f"LineDim{row}Points={count}",
                ]
        text += ["SaveMode=Binary", f"SaveBits={BITS}", "SaveSign=Signed", "SaveOrder=Intel"]
    head = "\r\n".join([*text, "", "", "#!"]).replace(*replace) if replace[0] else "\r\n".join([*text, "", "", "#!"])
    path.write_bytes(head.encode("latin-1") + b"".join(data[key].tobytes() for key in sorted(data)))
    return path
