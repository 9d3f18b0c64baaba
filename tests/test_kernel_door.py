"""What the kernel cannot take, its door refuses, naming the array; what it can, however odd, it lets through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from simulated import CASES, measure

from fvproc import _core
from fvproc.errors import KernelError
from fvproc.quantities import RECORD
from fvproc.volume import RawTile


def _one(name: str, change: Any) -> Any:
    def apply(raw: RawTile) -> None:
        branch, _, what = name.partition(".")
        target = getattr(raw, branch) if what else raw
        setattr(target, what or branch, change(getattr(target, what or branch)))

    return pytest.param(apply, id=f"{name}-{change.__name__}")


def as_list(array):
    return array.tolist()


def masked(array):
    return np.ma.masked_array(array, array == 0)


def byte_swapped(array):
    return array.astype(array.dtype.newbyteorder())


def misaligned(array):
    source = np.zeros(16, np.float64) if array is None else array
    memory = np.zeros(source.nbytes + 1, np.uint8)[1:]
    memory[:] = np.frombuffer(source.tobytes(), np.uint8)
    return memory.view(source.dtype).reshape(source.shape)


def one_dimensional(array):
    return array[0]


def of_no_dimension(array):
    return np.array(array.flat[0])


def three_dimensional(array):
    return array[:, :, None]


def without_samples(array):
    return array[..., :0]


def one_curve_less(array):
    return array[:-1]


def too_long_z(array):
    return np.append(array, 0.0)


def as_column(array):
    return array[:, None]


def unsigned(array):
    return array.astype(np.uint16)


def of_objects(array):
    return array.astype(object)


def as_records(array):
    return array.view([("a", array.dtype)])


def too_long(_):
    return np.array([256] * 15 + [257], np.int32)


def negative(_):
    return np.array([256] * 15 + [-1], np.int32)


def of_int64(_):
    return np.zeros(16, np.int64)


def swapped_lengths(_):
    return np.full(16, 5, np.dtype(np.int32).newbyteorder())


def misaligned_lengths(_):
    return misaligned(np.zeros(16, np.int32))


def spaced_lengths(_):
    return np.zeros(32, np.int32)[::2]


def a_length_too_few(_):
    return np.zeros(15, np.int32)


def spaced_heights(_):
    return np.zeros(32)[::2]


def of_float32(_):
    return np.zeros(16, np.float32)


def heights_in_two_dimensions(_):
    return np.zeros((16, 1))


DEFLECTION = (as_list, masked, byte_swapped, misaligned, one_dimensional, of_no_dimension, three_dimensional)
DEFLECTION += (without_samples, one_curve_less, unsigned, of_objects, as_records)
Z = (as_list, masked, byte_swapped, misaligned, of_no_dimension, without_samples, one_curve_less, too_long_z, as_column)
LENGTHS = (too_long, negative, of_int64, swapped_lengths, misaligned_lengths, spaced_lengths, a_length_too_few)
HEIGHTS = (misaligned, spaced_heights, of_float32, heights_in_two_dimensions)
REFUSED = [
    *(_one(f"{branch}.deflection", change) for branch in ("approach", "retract") for change in DEFLECTION),
    *(_one(f"{branch}.z", change) for branch in ("approach", "retract") for change in Z),
    *(_one(f"{branch}.valid_length", change) for branch in ("approach", "retract") for change in LENGTHS),
    *(_one("height", change) for change in HEIGHTS),
]


@pytest.mark.parametrize("apply", REFUSED)
def test_the_door_refuses(apply, request):
    measured = measure(CASES["45 MPa"], curves=16)
    apply(measured.raw)
    name = request.node.callspec.id.split("-")[0]
    if "one_curve_less" in request.node.callspec.id and name == "approach.deflection":
        name = "retract.deflection"  # the approach says how many curves there are
    for verb in (_core.fit_tile, _core.explain):
        if verb is _core.explain:
            name = (
                "explain takes a tile of one curve" if name != "approach.deflection" else "approach.deflection|explain"
            )
        with pytest.raises(KernelError, match=name):
            verb(measured.raw, measured.settings)


def _misaligned_records() -> np.ndarray:
    return np.zeros(2 * RECORD.itemsize + 1, np.uint8)[1:].view(RECORD)


def _read_only_records() -> np.ndarray:
    records = np.zeros(2, RECORD)
    records.flags.writeable = False
    return records


@pytest.mark.parametrize(
    "out, words",
    [
        (np.zeros(3, RECORD), "shape"),
        (np.zeros((2, 1), RECORD), "shape"),
        (np.zeros(4, RECORD)[::2], "contiguous"),
        (np.zeros(2, RECORD)[::-1], "contiguous"),
        (np.zeros(2, RECORD.newbyteorder()), "RECORD"),
        (np.zeros(2, [*RECORD.descr, ("more", "<f4")]), "RECORD"),
        (np.zeros((2, 24), np.float32), "RECORD"),
        (_misaligned_records(), "aligned"),
        (_read_only_records(), "writeable"),
        (np.ma.zeros(2, RECORD), "without a mask"),
        ([0, 0], "NumPy array"),
    ],
)
def test_the_door_refuses_records(out, words):
    measured = measure(CASES["45 MPa"], curves=2)
    before = np.array(out).tobytes()
    with pytest.raises(KernelError, match=f"^out must be .*{words}"):
        _core.fit_tile(measured.raw, measured.settings, out=out)
    assert np.array(out).tobytes() == before


def test_the_door_lets_odd_but_sound_arrays_through():
    """Read-only, broadcast and memory-mapped arrays: the kernel reads them all."""
    measured = measure(CASES["45 MPa"], curves=4)
    expected = _core.fit_tile(measured.raw, measured.settings)[:1]
    for branch in (measured.raw.approach, measured.raw.retract):
        branch.deflection = np.broadcast_to(branch.deflection[:1], branch.deflection.shape)
        branch.z = np.broadcast_to(branch.z, branch.deflection.shape)
        assert branch.deflection.strides[0] == 0
    records = _core.fit_tile(measured.raw, measured.settings)
    assert all(record.tobytes() == expected.tobytes() for record in records)
