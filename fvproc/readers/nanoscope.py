r"""Bruker NanoScope: force volumes, single force curves, and PeakForce Capture.

**Ramps** (force volumes and single curves, versions 6 to 9, proved on real files). A block holds for each curve an
extend and a retract half of max(extend, retract) slots. Both halves start at the surface, so the extend half is stored
against time. Curves come row by row from the bottom of the scan, whatever ``Frame direction`` says. Deflection in volts
= raw × V/LSB of its ``Z scale``, in metres × ``Sens. DeflSens``.

z comes from the block of a height sensor where there is one. Otherwise from the ramp: step = ramp size / samples of
the half (the instrument's own, not ramp / (samples − 1)), z = ramp size at the surface slot of both halves, so that
approach and retract turn at the same z.

Where several blocks hold deflection, those against ramp or time come before those drawn against another channel
(``X data type: Ch 2:``), which repeat the same numbers; then the first one counts.

A ramp that was cut short leaves slots unfilled: 0 in the height sensor, garbage in the deflection. Such samples are
closed up to the front of the branch and `valid_length` tells how many are real. Without a sensor nothing tells them.

**PeakForce Capture** (.pfc). No such file is public: this part follows the facts known of one real header and of other
programs, and is proved on synthetic files only. z is not stored: z = A·(1 − cos 2πt/N) with A = ``Peak Force
Amplitude`` and N samples a period. Extend (stored against time) and retract halves make up one stream of samples, a
period to a pixel; ``Sync Distance QNM`` (times N / ``Sample Points``) is the place of the turning point within the
pixel's record. The curve of a pixel is the period centred there, so that it borrows its first samples from the record
of the pixel before (or its last ones from the pixel after, if the turning point lies in the second half). The first (or
last) pixel of the map has none to borrow from: those samples are invalid. The fraction of the sync distance that is no
whole sample goes into the phase of z. The first sample of each record holds a marker (−32768, or the smallest int32);
it is invalid too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fvproc.readers import nanoscope_settings as settings
from fvproc.readers.blocks import read_block
from fvproc.readers.nanoscope_header import UNITS, Header, is_nanoscope, read_header
from fvproc.readers.nanoscope_images import image_scale, images_of
from fvproc.readers.nanoscope_layout import Block, Shape, curve_shape, declared_blocks, image_dtype
from fvproc.readers.nanoscope_tiles import read_capture, read_ramps, smallest
from fvproc.volume import Branch, Channel, ForceVolume, RawTile, Tile, VendorMap

__all__ = ["description", "name", "open", "read", "sniff", "suffixes", "vendor_maps"]

name = "nanoscope"
description = "Bruker NanoScope force volume, force curve or PeakForce Capture (.spm, .pfc, .000 to .999)"
suffixes = (".spm", ".pfc")

_PROBED = 16  # curves looked at for the sign of the height sensor

_Layout = dict[str, int | float | str]


@dataclass(frozen=True, slots=True)
class _Z:
    """How z is known: its channel, whether all curves share it, its sensitivity (m/V) and the name of that."""

    channel: Channel
    shared: bool
    sensitivity: float | None
    soft: str


def sniff(head: bytes, path: str) -> bool:
    """Tell whether the file begins as NanoScope files do."""
    return is_nanoscope(head)


def vendor_maps(volume: ForceVolume) -> dict[str, VendorMap]:
    """Return the images in the file that lie on the grid of the curves, in SI units; see `nanoscope_images`."""
    return images_of(volume)


def open(path: str) -> ForceVolume:
    """Describe a NanoScope file from its header.

    Raises
    ------
    FileFormatError
        If the header lacks what is needed, contradicts itself, or does not agree with the size of the file.
    """
    header = read_header(path)
    status = Path(path).stat()
    blocks, warnings = declared_blocks(header, status.st_size)
    images = [block for block in blocks if block.kind == "image"]
    curves = [block for block in blocks if block.kind == "curves"]
    deflection = _deflection_block(header, curves)
    capture = _is_capture(header)
    shape = curve_shape(header, deflection, images, symmetric=capture)
    scale = deflection.section.value("z scale")
    step = settings.volts(scale, shape.width)
    if scale is None or step is None:
        header.refuse(
            "Z scale", deflection.section.text("z scale"), "of the deflection needs V/LSB; fetch the file again"
        )
    layout: _Layout = {
        "deflection offset": deflection.offset,
        "deflection dtype": shape.dtype,
        "slots": shape.slots,
    }
    channel = Channel(np.dtype(shape.dtype).name, "V", step, invalid=smallest(shape.dtype))
    sensor = None if capture else _sensor_block(header, curves, shape, images)
    if capture:
        z = _capture(header, shape, layout)
    elif sensor is not None:
        z = _sensor(header, path, *sensor, layout, warnings)
    else:
        z = _ramp(header, deflection, layout, warnings)
    has_height = sensor is None and _height(header, images, shape, z.soft, capture, layout)
    tip_radius, tip_half_angle, poisson_ratio = settings.tip(header)
    return ForceVolume(
        path=path,
        format=name,
        grid=settings.grid(header, shape, [b for b in images if image_dtype(b, shape.ny, shape.nx)]),
        approach=Branch(shape.extend, channel, z.channel, z.shared),
        retract=Branch(shape.retract, channel, z.channel, z.shared),
        calibration=settings.calibration(header, deflection, scale.soft, z.sensitivity, warnings),
        tip_radius=tip_radius,
        tip_half_angle=tip_half_angle,
        poisson_ratio=poisson_ratio,
        has_height=has_height,
        vendor_recipe=settings.vendor_recipe(header, warnings),
        header=settings.facts(header),
        layout=layout,
        file_size=status.st_size,
        modified_ns=status.st_mtime_ns,
        header_digest=header.digest,
        warnings=tuple(warnings),
    )


def read(volume: ForceVolume, tile: Tile) -> RawTile:
    """Read a tile: one run of the deflection, one of the height sensor or of the height image where there is one."""
    return read_capture(volume, tile) if volume.layout["kind"] == "capture" else read_ramps(volume, tile)


# ---- choosing blocks


def _deflection_block(header: Header, curves: list[Block]) -> Block:
    """Return the block to compute with: deflection against ramp or time before that against another channel."""
    found = [block for block in curves if block.title.lower().startswith("defl") or "defl" in block.internal.lower()]
    if not found:
        titles = ", ".join(repr(block.title) for block in curves)
        header.refuse("Image Data", titles, "no block holds the deflection; open a file in which it was recorded")
    return min(found, key=lambda block: (block.section.text("x data type") or "").lower().startswith("ch "))


def _is_capture(header: Header) -> bool:
    """Tell PeakForce Capture from ramps: the instrument's own mark, in a file that is no force volume by its mode."""
    scan = header.first("ciao scan list")
    mode = (scan.text("operating mode") or "").lower()
    return (scan.text("peakforce capture") or "").lower() == "allow" and not mode.startswith("force")


def _sensor_block(header: Header, curves: list[Block], shape: Shape, images: list[Block]) -> tuple[Block, Shape] | None:
    """Return the block of the height sensor with its shape, which is the deflection's but for the width."""
    found = [b for b in curves if b.internal.lower() == "zsensor" or b.title.lower() in ("height sensor", "z sensor")]
    if not found:
        return None
    other = curve_shape(header, found[0], images)
    if replace(other, width=shape.width) != shape:
        header.refuse(
            "Samps/line", found[0].section.text("samps/line"), f"of {found[0].title!r} disagrees with the deflection"
        )
    return found[0], other


# ---- z and height


def _ramp(header: Header, deflection: Block, layout: _Layout, warnings: list[str]) -> _Z:
    force = header.first("ciao force list")
    size = deflection.section.value("ramp size") or force.value("ramp size zsweep")
    size = size or deflection.section.value("z scan size") or force.value("z scan size")
    channel = deflection.section.selection("ramp channel")
    if channel[1] not in ("", "Z"):
        header.refuse("Ramp channel", repr(channel[1]), "only ramps of Z can be read")
    factor, kind = UNITS.get(size.hard_unit, (0.0, "")) if size else (0.0, "")
    if size is None or size.hard is None or not size.hard > 0 or kind not in ("V", "m"):
        text = deflection.section.text("ramp size", "z scan size")
        header.refuse("Ramp Size", text, "must be above 0 where no height sensor was recorded: z cannot be known")
    layout["kind"] = "ramp"
    layout["ramp"] = size.hard * factor
    sensitivity = settings.metres_per_volt(header, size.soft, warnings) if kind == "V" else None
    return _Z(Channel("float64", kind), True, sensitivity, size.soft)


def _sensor(
    header: Header,
    path: str,
    block: Block,
    shape: Shape,
    layout: _Layout,
    warnings: list[str],
) -> _Z:
    scale = block.section.value("z scale")
    step = settings.volts(scale, shape.width)
    if scale is None or step is None:
        header.refuse(
            "Z scale", block.section.text("z scale"), "of the height sensor needs V/LSB; fetch the file again"
        )
    layout["kind"] = "sensor"
    layout["z offset"], layout["z dtype"] = block.offset, shape.dtype
    sign = _sensor_sign(path, block.offset, shape)
    sensitivity = settings.metres_per_volt(header, scale.soft, warnings)
    channel = Channel(np.dtype(shape.dtype).name, "V", sign * step, invalid=smallest(shape.dtype))
    return _Z(channel, False, sensitivity, scale.soft)


def _sensor_sign(path: str, offset: int, shape: Shape) -> float:
    """Return +1 or −1 so that z grows toward the sample: by definition the extend half starts at the surface.

    The polarity of sensors differs and no field tells it; a few curves do.
    """
    curves = shape.ny * shape.nx
    travel = 0.0
    for curve in np.linspace(0, curves - 1, min(curves, _PROBED)).astype(int).tolist():
        start = offset + curve * 2 * shape.slots * shape.width
        half = read_block(path, start, shape.dtype, (shape.extend,)).astype(np.float64)
        filled = half[(half != 0) & (half > smallest(shape.dtype))]
        if filled.size > 1:
            travel += float(np.sign(filled[0] - filled[-1]))
    return -1.0 if travel < 0 else 1.0


def _capture(header: Header, shape: Shape, layout: _Layout) -> _Z:
    scan = header.first("ciao scan list")
    amplitude = scan.numbers("peak force amplitude")
    sync = scan.numbers("sync distance qnm") or scan.numbers("sync distance")
    if not amplitude or not amplitude[0] > 0:
        header.refuse(
            "Peak Force Amplitude", scan.text("peak force amplitude"), "must be above 0 nm: z is made from it"
        )
    if not sync or not sync[0] >= 0:
        header.refuse("Sync Distance QNM", scan.text("sync distance qnm"), "is needed to place the turning point")
    period = 2 * shape.slots
    points = scan.numbers("sample points")
    turning = (sync[0] * period / points[0] if points and points[0] > 0 else sync[0]) % period
    layout["kind"] = "capture"
    layout["amplitude"] = amplitude[0] * 1e-9
    layout["turning"] = turning
    return _Z(Channel("float64", "m"), True, None, "")


def _height(header: Header, images: list[Block], shape: Shape, soft: str, capture: bool, layout: _Layout) -> bool:
    """Note where the scanner's height at the turning point of each curve lies; False if there is no such image."""
    wanted = ["height sensor", "height"] if capture else ["height", "height sensor"]
    found = [block for block in images if block.title.lower() in wanted]
    for block in sorted(found, key=lambda block: wanted.index(block.title.lower())):
        dtype = image_dtype(block, shape.ny, shape.nx)
        scale = image_scale(header, block, dtype.itemsize) if dtype else None
        if dtype is None or scale is None or scale.unit != "m":
            continue
        layout["height offset"], layout["height dtype"] = block.offset, dtype.str
        layout["height scale"] = scale.factor
        # a height in the volts of the ramp follows the user's z sensitivity as the ramp does
        if soft and scale.soft == soft and scale.volts:
            layout["height volts"] = scale.volts
        return True
    return False
