"""Tiles of JPK files: from the entries of an archive to raw integers, or to volts and metres where encoders differ."""

from __future__ import annotations

import numpy as np

from fvproc.errors import FileFormatError
from fvproc.readers import jpk_header
from fvproc.readers.blocks import buffer
from fvproc.readers.jpk_description import encoding_of, positions
from fvproc.readers.jpk_directory import Directory, directory
from fvproc.readers.jpk_entries import read_entries, read_entry
from fvproc.readers.jpk_header import Encoding, Properties
from fvproc.volume import ForceVolume, RawBranch, RawTile, Tile

_SHARED = "shared-data/header.properties"
_ROLES = ("deflection", "z")
_Content = bytes | memoryview


def read_curves(volume: ForceVolume, tile: Tile) -> RawTile:
    """Read a tile: all entries that it needs in the order of the file, then branch by branch.

    A curve that the file does not hold has no valid samples.

    Raises
    ------
    FileFormatError
        If an entry is damaged, or its curve has another calibration than the volume.
    """
    found = directory(volume.path)
    numbers = positions(volume, np.arange(tile.start, tile.stop))
    wanted = [
        (branch, role)
        for branch in ("approach", "retract")
        for role in ("header", *_ROLES)
        if role != "header" or _varies(volume, branch)
    ]
    entries = [found.entries(volume.layout[f"{branch} {role}"], numbers) for branch, role in wanted]
    every = np.concatenate(entries)
    contents: list[_Content] = [b""] * len(every)
    present = np.flatnonzero(every >= 0)
    for place, content in zip(present.tolist(), read_entries(volume.path, found, every[present]), strict=True):
        contents[place] = content
    count = len(tile)
    parts = {key: contents[i * count : (i + 1) * count] for i, key in enumerate(wanted)}
    shared = _shared(volume, found) if any(role == "header" for _, role in wanted) else None
    approach, retract = (_branch(volume, branch, parts, shared, numbers) for branch in ("approach", "retract"))
    return RawTile(approach, retract)


def _varies(volume: ForceVolume, branch: str) -> bool:
    return any(volume.layout[f"{branch} {role} varies"] for role in _ROLES)


def _shared(volume: ForceVolume, found: Directory) -> Properties:
    content = read_entry(volume.path, _SHARED) if _SHARED in found.plain else b""
    return jpk_header.parse(volume.path, _SHARED, content)


def _branch(
    volume: ForceVolume,
    branch: str,
    parts: dict[tuple[str, str], list[_Content]],
    shared: Properties | None,
    numbers: np.ndarray,
) -> RawBranch:
    layout = volume.layout
    samples = getattr(volume, branch).samples
    lengths = []
    for role in _ROLES:
        width = np.dtype(layout[f"{branch} {role} stored"]).itemsize
        octets = np.array([len(content) for content in parts[branch, role]], np.int64)
        if (octets % width).any() or octets.max() > samples * width:
            curve = int(numbers[np.argmax((octets % width != 0) | (octets > samples * width))])
            raise FileFormatError(
                f"{volume.path}: curve {curve}, {layout[f'{branch} {role}']}: its length is no whole number of"
                f" {width}-byte samples up to {samples}; fetch the file again"
            )
        lengths.append(octets // width)
    valid = np.minimum(*lengths).astype(np.int32)
    headers: list[Properties | None] = [None] * len(numbers)
    if (branch, "header") in parts:
        headers = [
            jpk_header.parse(volume.path, f"curve {number}, {layout[f'{branch} header']}", content) if content else None
            for number, content in zip(numbers.tolist(), parts[branch, "header"], strict=True)
        ]
        valid[[header is None for header in headers]] = 0  # without it nobody knows what the numbers mean
    values = [
        _values(volume, branch, role, parts[branch, role], length, headers, shared)
        for role, length in zip(_ROLES, lengths, strict=True)
    ]
    return RawBranch(values[0], values[1], None if (valid == samples).all() else valid)


def _values(
    volume: ForceVolume,
    branch: str,
    role: str,
    contents: list[_Content],
    lengths: np.ndarray,
    headers: list[Properties | None],
    shared: Properties | None,
) -> np.ndarray:
    """Return one channel of a branch, shape (curves, samples), in the dtype that the volume promises."""
    stored = np.dtype(volume.layout[f"{branch} {role} stored"])
    target = np.dtype(getattr(getattr(volume, branch), role).dtype)
    samples = getattr(volume, branch).samples
    flat = np.frombuffer(b"".join(contents), stored)
    if stored.kind == "u" and target.kind == "i":
        flat = (flat ^ stored.type(1 << (8 * stored.itemsize - 1))).view(stored.str.replace("u", "i"))
    if volume.layout[f"{branch} {role} varies"]:
        scale, offset = _scales(volume, branch, role, headers, shared)
        flat = flat * np.repeat(scale, lengths) + np.repeat(offset, lengths)
    elif stored.itemsize == 8:
        scale, offset = volume.layout[f"{branch} {role} scale"], volume.layout[f"{branch} {role} offset"]
        flat = flat * scale + offset
    values = buffer(target, (len(contents), samples))
    if (lengths == samples).all():
        values[...] = flat.reshape(values.shape)
    else:
        values[...] = 0
        values[np.arange(samples) < lengths[:, None]] = flat
    return values


def _scales(
    volume: ForceVolume, branch: str, role: str, headers: list[Properties | None], shared: Properties | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and offset of each curve from its own header; 1 and 0 for curves that are missing."""
    assert shared is not None
    name = volume.layout[f"{branch} {role} name"]
    scale, offset = np.ones(len(headers)), np.zeros(len(headers))
    known: dict[str, Encoding] = {}
    for number, header in enumerate(headers):
        if header is None:
            continue
        key = header.text(f"channel.{name}.lcd-info.*")
        encoding = known.get(key) if key else None
        if encoding is None:
            encoding = encoding_of(header, shared, name, role)
            _require_alike(volume, branch, role, header, encoding)
            if key:
                known[key] = encoding
        scale[number], offset[number] = encoding.scale, encoding.offset
    return scale, offset


def _require_alike(volume: ForceVolume, branch: str, role: str, header: Properties, encoding: Encoding) -> None:
    """Refuse a curve whose numbers are of another kind, or whose calibration is not the one of the volume."""
    layout = volume.layout
    channel = getattr(getattr(volume, branch), role)
    if encoding.stored != layout[f"{branch} {role} stored"] or encoding.unit != channel.unit:
        header.refuse(
            f"channel.{layout[f'{branch} {role} name']}",
            f"{encoding.stored} in {encoding.unit}",
            f"other curves are {layout[f'{branch} {role} stored']} in {channel.unit}; split the map",
        )
    if role != "deflection":
        return
    for field, option in (("sensitivity", "deflection_sensitivity"), ("spring_constant", "spring_constant")):
        setting = getattr(volume.calibration, option)
        value = getattr(encoding, field)
        if setting is not None and setting.source == "file" and value != setting.value:
            header.refuse(field, str(value), f"other curves have {setting.value}; give {option} for all of them")
