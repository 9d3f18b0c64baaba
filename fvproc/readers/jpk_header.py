"""Headers of JPK files: their properties, what a segment is, and how its numbers become volts and metres."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from fvproc.errors import FileFormatError

# The height channels in the order of preference, sensors before the piezo's drive. The smoothed and combined ones are
# left out: they are computed from these.
HEIGHTS = (
    "measuredHeight",
    "capacitiveSensorHeight",
    "strainGaugeHeight",
    "height",
    "head-height",
    "cellhesion-height",
)
DEFLECTION = "vDeflection"

_STORED = {
    "signedshort": ">i2",
    "unsignedshort": ">u2",
    "signedinteger": ">i4",
    "unsignedinteger": ">u4",
    "signedlong": ">i8",
    "float": ">f4",
    "float-data": ">f4",
    "double": ">f8",
    "double-data": ">f8",
}
_SLOTS = ("nominal", "calibrated", "absolute")  # of a height whose default is not defined


@dataclass(frozen=True, slots=True)
class Properties:
    """The lines ``key=value`` of one entry of one archive; errors name both."""

    path: str
    entry: str
    values: Mapping[str, str]

    def text(self, key: str, otherwise: str = "") -> str:
        """Return the value of a key as it stands."""
        return self.values.get(key, otherwise).strip()

    def number(self, key: str) -> float | None:
        """Return a value as a number; None if it is absent; FileFormatError if it is no finite number."""
        text = self.text(key)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.refuse(key, text, "must be a finite number; export the file again")
        return value

    def refuse(self, key: str, value: str, what: str) -> NoReturn:
        """Raise FileFormatError with file, entry, key and value."""
        raise FileFormatError(f"{self.path}: {self.entry}: {key} = {value or 'absent'}: {what}")


def parse(path: str, entry: str, content: bytes | memoryview) -> Properties:
    """Read properties: Latin-1, ``key=value``, ``#`` and ``!`` for comments, ``\\:`` for a colon."""
    values = {}
    for line in bytes(content).decode("latin-1").split("\n"):
        key, separator, value = line.partition("=")
        if separator and line[0] not in "#!":
            values[key.strip()] = value.replace("\\:", ":").replace("\\=", "=")
    return Properties(path, entry, values)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the stored numbers of a channel turn into volts or metres: value = stored · scale + offset.

    `sensitivity` (m/V) and `spring_constant` (N/m) are those of the deflection; None where the file has none.
    """

    stored: str
    scale: float
    offset: float
    unit: str
    sensitivity: float | None = None
    spring_constant: float | None = None


@dataclass(frozen=True, slots=True)
class _Linear:
    scale: float
    offset: float
    unit: str

    def after(self, first: _Linear) -> _Linear:
        """Return this conversion of the result of another."""
        return _Linear(self.scale * first.scale, self.scale * first.offset + self.offset, self.unit)


# ---- segments


def segment_style(segment: Properties, shared: Properties) -> str:
    """Return ``"extend"``, ``"retract"``, ``"pause"``, another word of the file, or nothing where it does not tell."""
    number = segment.text("force-segment-header.force-segment-header-info.*")
    sources = [(segment, "force-segment-header")]
    if number:
        sources.insert(0, (shared, f"force-segment-header-info.{number}"))
    for key in ("settings.style", "settings.segment-settings.style", "settings.segment-settings.type", "name.name"):
        for source, prefix in sources:
            word = source.text(f"{prefix}.{key}")
            for style in ("pause", "extend", "retract"):
                if style in word:
                    return style
            if word and key.endswith("style"):
                return word
    return ""


def channel_names(segment: Properties) -> list[str]:
    """Return the names of the channels of a segment."""
    return segment.text("channels.list").split()


def channel_file(segment: Properties, channel: str) -> str:
    """Return the name of a channel's data within the folder of its segment."""
    return segment.text(f"channel.{channel}.data.file.name", f"channels/{channel}.dat")


def channel_info(segment: Properties, shared: Properties, channel: str) -> tuple[Properties, str]:
    """Return where a channel is described: in the shared header if the segment refers to it, else in its own."""
    number = segment.text(f"channel.{channel}.lcd-info.*")
    return (shared, f"lcd-info.{number}") if number else (segment, f"channel.{channel}")


def shared_infos(shared: Properties, channel: str) -> list[str]:
    """Return the prefixes of all descriptions of a channel in the shared header."""
    suffix = ".channel.name"
    return [
        key.removesuffix(suffix)
        for key, value in shared.values.items()
        if key.startswith("lcd-info.") and key.endswith(suffix) and value.strip() == channel
    ]


# ---- channels


def height_encoding(info: Properties, prefix: str) -> Encoding:
    """Return how a height turns into z in metres; z grows toward the sample, JPK's heights away from it.

    Raises
    ------
    FileFormatError
        If the header does not define a conversion into metres.
    """
    encoder = _encoder(info, prefix)
    default = info.text(f"{prefix}.conversion-set.conversions.default")
    for slot in dict.fromkeys((default, *_SLOTS)):
        linear = _into(info, prefix, slot, encoder)
        if linear is not None and linear.unit == "m":
            return Encoding(_stored(info, prefix), -linear.scale, -linear.offset, "m")
    info.refuse(
        f"{prefix}.conversion-set.conversions.default",
        default,
        "no conversion of this height into metres is defined; export the file with its calibration",
    )


def deflection_encoding(info: Properties, prefix: str) -> Encoding:
    """Return how the deflection turns into volts, or metres where the file holds it so, and its calibration.

    Raises
    ------
    FileFormatError
        If the stored numbers are neither.
    """
    encoder = _encoder(info, prefix)
    if encoder.unit not in ("V", "m"):
        info.refuse(f"{prefix} unit", encoder.unit, "the deflection must be stored in volts (V) or metres (m)")
    identity = _Linear(1.0, 0.0, encoder.unit)
    distance = _into(info, prefix, "distance", identity)
    if distance is None and encoder.unit == "m":
        distance = identity
    if distance is None or distance.unit != "m":
        return Encoding(_stored(info, prefix), encoder.scale, encoder.offset, encoder.unit)
    constant = None
    force = _into(info, prefix, "force", identity)
    if force is not None and force.unit == "N":
        key = f"{prefix}.conversion-set.conversion.force"
        direct = info.text(f"{key}.base-calibration-slot") == "distance"
        constant = info.number(f"{key}.scaling.multiplier") if direct else force.scale / distance.scale
        if constant is None or not constant > 0:
            info.refuse(f"{key}.scaling.multiplier", str(constant), "a spring constant must be above zero")
    if encoder.unit == "m":
        metres = distance.after(encoder)
        return Encoding(_stored(info, prefix), metres.scale, metres.offset, "m", None, constant)
    # a sensitivity is above zero: its sign, and the zero of the distance, belong to the volts
    sensitivity = abs(distance.scale)
    volts = _Linear(math.copysign(1.0, distance.scale), distance.offset / sensitivity, "V").after(encoder)
    return Encoding(_stored(info, prefix), volts.scale, volts.offset, "V", sensitivity, constant)


def _stored(info: Properties, prefix: str) -> str:
    """Return the dtype of the numbers in the file, which are big-endian."""
    for key in (f"{prefix}.encoder.type", f"{prefix}.data.encoder.type", f"{prefix}.type", f"{prefix}.data.type"):
        if info.text(key) in _STORED:
            return _STORED[info.text(key)]
    kind = info.text(f"{prefix}.type") or info.text(f"{prefix}.data.type")
    info.refuse(f"{prefix}.encoder.type", kind, f"must be one of {', '.join(_STORED)}")


def _encoder(info: Properties, prefix: str) -> _Linear:
    """Return the conversion of stored numbers into the base slot; floating-point channels need none."""
    for key in (f"{prefix}.encoder", f"{prefix}.data.encoder"):
        if info.text(f"{key}.type"):
            return _linear(info, f"{key}.scaling")
    if "f" not in _stored(info, prefix):
        info.refuse(f"{prefix}.encoder.scaling", "", "is needed to read integers; export the file again")
    unit = info.text(f"{prefix}.unit.unit") or info.text(f"{prefix}.data.unit.unit")
    return _Linear(1.0, 0.0, unit)


def _into(info: Properties, prefix: str, slot: str, encoder: _Linear) -> _Linear | None:
    """Return the conversion of stored numbers into a calibration slot; None where a step to it is not defined."""
    conversions = f"{prefix}.conversion-set"
    base = info.text(f"{conversions}.conversions.base")
    steps: list[_Linear] = []
    while slot != base:
        key = f"{conversions}.conversion.{slot}"
        if info.text(f"{key}.defined") != "true" or len(steps) > 9:
            return None
        steps.append(_linear(info, f"{key}.scaling"))
        slot = info.text(f"{key}.base-calibration-slot")
    linear = encoder
    for step in reversed(steps):
        linear = step.after(linear)
    return linear


def _linear(info: Properties, key: str) -> _Linear:
    kind = (info.text(f"{key}.type"), info.text(f"{key}.style"))
    if kind not in (("linear", "offsetmultiplier"), ("linear", "")):
        info.refuse(f"{key}.style", " ".join(kind).strip(), "only linear offsetmultiplier scalings can be read")
    scale, offset = info.number(f"{key}.multiplier"), info.number(f"{key}.offset")
    if not scale or offset is None:
        info.refuse(
            f"{key}.multiplier", info.text(f"{key}.multiplier"), "must be a number other than 0, with an offset"
        )
    return _Linear(scale, offset, info.text(f"{key}.unit.unit"))
