"""Writes JPK archives of known content: both styles of headers, grids, orders, segments and ways of storing."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile

VOLTS = 5.547317028661896e-9  # V per stored unit of 32-bit deflections, as in a real file
METRES = -1.57637e-14  # m per stored unit of 32-bit heights
NOMINAL = 1.5e-5  # m, added to the absolute height


@dataclass
class JpkFile:
    """One synthetic file; `write` makes it.

    `deflection` and `z` give volts and metres (toward the sample) of (curve number, segment, samples); they are stored
    rounded to the encoder's step, so that a reader must return them to half a step.
    """

    ny: int = 2
    nx: int = 3
    samples: tuple[int, ...] = (256, 256)
    styles: tuple[str, ...] = ("extend", "retract")
    headers: str = "shared"  # "shared", or "own": one encoder for each segment of each curve, 16-bit
    kind: str = "quantitative-imaging-map"  # or "force-scan-map", or "force-scan-series" for one curve
    back_and_forth: str | None = "false"
    numbering: str | None = None
    reflect: bool = False
    theta: float = 0.0
    missing: frozenset[int] = frozenset()
    length: Callable[[int, int], int] | None = None  # samples of (curve, segment)
    compression: int = zipfile.ZIP_DEFLATED
    spring_constant: str | None = "0.4"
    sensitivity: str | None = "5.0E-8"
    own_spring_constant: dict[int, str] = field(default_factory=dict)
    height: str = "measuredHeight"
    height_offsets: Callable[[int], float] | None = None  # one lcd-info for each value
    images: dict[str, tuple[np.ndarray, str, float, float]] = field(default_factory=dict)
    first: int = 0
    complete: bool = False  # also folders as entries, a header for each curve, times: afmformats needs them
    deflection: Callable[[int, int, int], np.ndarray] = field(default=lambda n, s, k: example(n, s, k)[0])
    z: Callable[[int, int, int], np.ndarray] = field(default=lambda n, s, k: example(n, s, k)[1])

    @property
    def single(self) -> bool:
        return self.kind.endswith("series")

    def write(self, path: Path) -> Path:
        """Write the file."""
        with zipfile.ZipFile(path, "w", self.compression) as archive:
            archive.writestr("header.properties", lines(self.header()))
            for number in [0] if self.single else range(self.first, self.first + self.ny * self.nx):
                if number not in self.missing:
                    self._curve(archive, number)
            if self.headers == "shared":
                archive.writestr("shared-data/header.properties", lines(self.shared()))
            if self.images:
                archive.writestr("data-image.jpk-qi-image", tiff(self.images))
        return path

    def header(self) -> dict[str, object]:
        scan = self.kind
        content: dict[str, object] = {
            "file-format-version": "2.0",
            "type": scan,
            f"{scan}.description.instrument": "SYNTHETIC",
        }
        if self.single:
            return content
        pattern = f"{scan}.position-pattern"
        content |= {
            f"{scan}.indexes.type": "range",
            f"{scan}.indexes.min": self.first,
            f"{scan}.indexes.max": self.first + self.ny * self.nx - 1,
            f"{pattern}.type": "grid-position-pattern",
            f"{pattern}.grid.ulength": 3e-6,
            f"{pattern}.grid.vlength": 2e-6,
            f"{pattern}.grid.theta": self.theta,
            f"{pattern}.grid.reflect": str(self.reflect).lower(),
            f"{pattern}.grid.unit.unit": "m",
            f"{pattern}.grid.ilength": self.nx,
            f"{pattern}.grid.jlength": self.ny,
        }
        if self.back_and_forth is not None:
            content[f"{pattern}.back-and-forth"] = self.back_and_forth
        if self.numbering is not None:
            content[f"{pattern}.numbering"] = self.numbering
        return content

    def offsets(self) -> list[float]:
        """Return the different offsets of the height's encoder, in the order of their lcd-infos."""
        numbers = range(self.first, self.first + self.ny * self.nx)
        return list(dict.fromkeys(self.height_offsets(n) for n in numbers)) if self.height_offsets else [-1.4e-5]

    def shared(self) -> dict[str, object]:
        content: dict[str, object] = {"force-segment-header-infos.count": len(self.styles)}
        for number, style in enumerate(self.styles):
            content[f"force-segment-header-info.{number}.settings.type"] = "combined"
            content[f"force-segment-header-info.{number}.settings.style"] = style
        content |= self.channel("lcd-info.0", "vDeflection", "integer-data", "signedinteger", VOLTS, 1e-3, "encoder")
        for number, offset in enumerate(self.offsets(), 1):
            key = f"lcd-info.{number}"
            content |= self.channel(key, self.height, "integer-data", "signedinteger", METRES, offset, "encoder")
        return content

    def channel(
        self, key: str, name: str, kind: str, encoder: str, step: float, offset: float, where: str, number: int = 0
    ) -> dict[str, object]:
        """Return the properties of one channel: encoder and conversions."""
        content: dict[str, object] = {f"{key}.channel.name": name}
        content[f"{key}.type" if where == "encoder" else f"{key}.data.type"] = kind
        unit = "V" if name == "vDeflection" else "m"
        content[f"{key}.{where}.type"] = encoder
        content |= scaling(f"{key}.{where}.scaling", step, offset, unit)
        conversions = f"{key}.conversion-set"
        if name != "vDeflection":
            content |= {
                f"{conversions}.conversions.list": "nominal",
                f"{conversions}.conversions.default": "nominal",
                f"{conversions}.conversions.base": "absolute",
                **conversion(conversions, "nominal", "absolute", 1.0, NOMINAL, "m"),
            }
            return content
        spring_constant = self.own_spring_constant.get(number, self.spring_constant)
        content |= {
            f"{conversions}.conversions.list": "distance force",
            f"{conversions}.conversions.default": "force",
            f"{conversions}.conversions.base": "volts",
            **conversion(conversions, "distance", "volts", self.sensitivity, 0.0, "m"),
            **conversion(conversions, "force", "distance", spring_constant, 0.0, "N"),
        }
        return content

    def _curve(self, archive: zipfile.ZipFile, number: int) -> None:
        base = "" if self.single else f"index/{number}/"
        if self.complete:
            series = f"{self.kind.replace('-map', '-series')}.header"
            for folder in ("index/",) * (number == self.first) + (base, f"{base}segments/"):
                archive.writestr(folder, b"")
            archive.writestr(f"{base}header.properties", lines({f"{series}.position-index": number}))
        for segment, (style, samples) in enumerate(zip(self.styles, self.samples, strict=True)):
            count = samples if self.length is None else self.length(number, segment)
            if count < 0:
                continue  # this curve lacks the segment
            folder = f"{base}segments/{segment}/"
            volts, z = self.deflection(number, segment, count), self.z(number, segment, count)
            content: dict[str, object] = {"channels.list": f"vDeflection {self.height}"}
            if self.complete:
                archive.writestr(folder, b"")
                archive.writestr(f"{folder}channels/", b"")
                content |= timed(count, style == "extend")
            if self.headers == "shared":
                offset = self.height_offsets(number) if self.height_offsets else -1.4e-5
                content["force-segment-header.force-segment-header-info.*"] = segment
                content["channel.vDeflection.lcd-info.*"] = 0
                content[f"channel.{self.height}.lcd-info.*"] = 1 + self.offsets().index(offset)
                stored = ">i4"
                raw = [(volts - 1e-3) / VOLTS, (-z - NOMINAL - offset) / METRES]
            else:
                content |= {
                    "force-segment-header.settings.style": style,
                    "force-segment-header.num-points": count,
                }
                stored = ">i2"
                raw = []
                for name, values in (("vDeflection", volts), (self.height, -z - NOMINAL)):
                    # as wide as the curve: the old software chose the encoder so
                    step = (np.ptp(values) / 60000 if count else 0.0) or 1e-3
                    offset = float(values.min() + values.max()) / 2 if count else 0.0
                    key, where = f"channel.{name}", "data.encoder"
                    content |= self.channel(key, name, "short", "signedshort", step, offset, where, number)
                    raw.append((values - offset) / step)
            for name, values in zip(("vDeflection", self.height), raw, strict=True):
                content[f"channel.{name}.data.file.name"] = f"channels/{name}.dat"
                archive.writestr(f"{folder}channels/{name}.dat", np.rint(values).astype(stored).tobytes())
            archive.writestr(f"{folder}segment-header.properties", lines(content))


def timed(count: int, extend: bool) -> dict[str, object]:
    """Return what the header of a segment says of its time and range."""
    key = "force-segment-header"
    return {
        f"{key}.num-points": count,
        f"{key}.duration": 0.01,
        f"{key}.time-stamp": "2026-01-01 12:00:00.000 +0000",
        f"{key}.approach-id": "synthetic",
        f"{key}.settings.segment-settings.duration": 0.01,
        f"{key}.settings.segment-settings.z-start": 1e-6 if extend else 0.0,
        f"{key}.settings.segment-settings.z-end": 0.0 if extend else 1e-6,
    }


def example(number: int, segment: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return volts and z of a curve that tells its number and segment: a ramp that turns, and a bend in contact."""
    z = np.linspace(0.0, 1e-6, samples) if segment == 0 else np.linspace(1e-6, 0.0, samples)
    volts = 0.01 * number + 0.001 * segment + np.clip(z - 0.8e-6, 0.0, None) * 2e6
    return volts, z + 1e-9 * number


def scaling(key: str, multiplier: object, offset: object, unit: str) -> dict[str, object]:
    return {
        f"{key}.type": "linear",
        f"{key}.style": "offsetmultiplier",
        f"{key}.offset": offset,
        f"{key}.multiplier": multiplier,
        f"{key}.unit.unit": unit,
    }


def conversion(key: str, slot: str, base: str, multiplier: object, offset: float, unit: str) -> dict[str, object]:
    one = f"{key}.conversion.{slot}"
    if multiplier is None:
        return {f"{one}.defined": "false"}
    content = {f"{one}.defined": "true", f"{one}.base-calibration-slot": base, f"{one}.calibration-slot": slot}
    content[f"{one}.name"] = slot
    return content | scaling(f"{one}.scaling", multiplier, offset, unit)


def lines(content: dict[str, object]) -> bytes:
    body = "".join(f"{key}={value}\n" for key, value in content.items())
    return b"#Thu Jan 08 16\\:39\\:16 CET 2026\n" + body.encode("latin-1")


def tiff(images: dict[str, tuple[np.ndarray, str, float, float]]) -> bytes:
    """Return a TIFF as JPK's: a thumbnail, then for each channel (stored integers, unit, multiplier, offset) a page."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=">") as writer:
        writer.write(np.zeros((8, 8), np.uint8), metadata=None)
        for name, (values, unit, multiplier, offset) in images.items():
            tags = [
                (0x8050, 2, None, name, True),
                (0x8051, 3, 1, 0, True),
                (0x8052, 2, None, name.title(), True),
                (0x8080, 4, 1, 2, True),
                (0x8081, 2, None, "default", True),
                (0x8090, 2, None, "raw", True),
                (0x80A3, 2, None, "NullScaling", True),
                (0x80C0, 2, None, "default", True),
                (0x80D2, 2, None, unit, True),
                (0x80D3, 2, None, "LinearScaling", True),
                (0x80D4, 12, 1, multiplier, True),
                (0x80D5, 12, 1, offset, True),
            ]
            writer.write(np.asarray(values, np.int32), extratags=tags, metadata=None)
    return file.getvalue()
