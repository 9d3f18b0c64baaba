"""The door to all formats: found by content, safe from threads and processes, open to plug-ins."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from curves_files import curves, edit, small, write, write_with_h5py

import fvproc as fv
from fvproc import readers
from fvproc.errors import CalibrationError, FileFormatError
from fvproc.readers import blocks
from fvproc.volume import ForceVolume, Setting, Tile


def test_overrides_are_the_users_and_are_checked(tmp_path: Path) -> None:
    path = write_with_h5py(tmp_path / "c.h5")
    volume = readers.open_volume(path, spring_constant=2.0)
    assert volume.calibration.spring_constant == Setting(2.0, "user")
    assert volume.calibration.deflection_sensitivity == Setting(5e-8, "file")
    with pytest.raises(CalibrationError, match="--spring-constant"):
        readers.open_volume(path, spring_constant=-1.0)
    edit(path, lambda f: f["calibration"].attrs.__delitem__("deflection_sensitivity"))
    with pytest.raises(CalibrationError, match="--deflection-sensitivity"):
        readers.open_volume(path).require_calibration()


def test_what_is_no_force_volume_is_refused_with_the_known_formats(tmp_path: Path) -> None:
    (tmp_path / "noise.h5").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(
        FileFormatError, match=r"noise\.h5: no known format.* named like a curves file.*nanoscope.*curves"
    ):
        readers.open_volume(tmp_path / "noise.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = [1, 2]
    with pytest.raises(FileFormatError, match="no known format"):
        readers.open_volume(tmp_path / "other.h5")
    (tmp_path / "nothing.spm").write_bytes(b"")
    with pytest.raises(FileFormatError, match=r"nothing\.spm: the file is empty"):
        readers.open_volume(tmp_path / "nothing.spm")
    with pytest.raises(FileFormatError, match=r"absent\.h5: no such file"):
        readers.open_volume(tmp_path / "absent.h5")
    with pytest.raises(FileFormatError, match="cannot be read"):
        readers.open_volume(tmp_path)


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_an_output_of_a_run_is_told_from_curves(tmp_path: Path, curves_file: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    fv.process(curves_file, output=path)
    with pytest.raises(FileFormatError, match=rf"out\{suffix}: holds the maps of a run.*fv\.load") as refused:
        fv.open(path)
    assert "--mapping" not in str(refused.value) and "Known are" not in str(refused.value)


@pytest.mark.parametrize("name", ["map.tar.gz", "map.tar", "map.tgz", "map.tar.bz2", "map.tar.xz"])
def test_an_archive_is_to_be_unpacked(tmp_path: Path, name: str) -> None:
    (tmp_path / "curve.txt").write_text("1 2\n")
    path = tmp_path / name
    kind = {"gz": "gz", "tgz": "gz", "bz2": "bz2", "xz": "xz"}.get(name.rpartition(".")[2], "")
    with tarfile.open(path, f"w:{kind}") as archive:
        archive.add(tmp_path / "curve.txt", "curve.txt")
    with pytest.raises(FileFormatError, match=r"map.*no known format.*an archive \(.*unpack it") as refused:
        fv.open(path)
    assert "Known are" not in str(refused.value)


@pytest.mark.parametrize("storage", [{}, {"compression": "gzip"}], ids=str)
def test_a_file_that_changed_or_went_is_not_read(tmp_path: Path, storage: dict) -> None:
    path = tmp_path / "c.h5"
    volume = write(path, **storage)
    with pytest.raises(ValueError, match="beyond the 1200 curves"):
        readers.read_tile(volume, Tile(1190, 1201))
    os.utime(path, ns=(0, volume.modified_ns + 5_000_000_000))
    with pytest.raises(FileFormatError, match="changed since it was opened"):
        readers.read_tile(volume, Tile(0, 1))
    path.unlink()
    with pytest.raises(FileFormatError, match="cannot be reached"):
        readers.read_tile(volume, Tile(0, 1))
    with pytest.raises(FileFormatError, match="cannot be reached"):
        readers.vendor_maps(volume)


# ---- threads, processes, memory


def right(volume: ForceVolume, start: int, stop: int) -> bool:
    raw = readers.read_tile(volume, Tile(start, stop))
    expected = np.arange(start * 64, stop * 64, dtype=np.int32).reshape(-1, 64)
    return bool(
        np.array_equal(raw.approach.deflection, expected) and np.array_equal(raw.retract.deflection, -expected[:, ::-1])
    )


@pytest.mark.parametrize("storage", [{}, {"chunk_curves": 45}, {"compression": "gzip"}], ids=str)
def test_tiles_are_right_from_many_threads_and_from_another_process(tmp_path: Path, storage: dict) -> None:
    volume = write(tmp_path / "c.h5", **storage)
    starts = np.random.default_rng(1).integers(0, 1000, 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda start: right(volume, start, start + 200), starts))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        assert processes.submit(right, volume, 17, 400).result()


def test_memory_that_is_in_use_is_never_lent_twice() -> None:
    shape = (1 << 18,)
    kept = []
    for number in range(60):
        block = blocks.buffer(np.uint8, shape)
        block[:] = number
        kept.append(block[10:20].reshape(2, 5)[:, ::-1])  # a view of a view keeps the memory
        del block
    assert [int(view[0, 0]) for view in kept] == list(range(60))
    assert all((view == number).all() for number, view in enumerate(kept))


def test_memory_is_lent_again_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = blocks._Pool()
    monkeypatch.setattr(blocks, "_POOL", pool)
    for _ in range(50):
        blocks.buffer(np.int16, (1 << 20,))
    assert pool._held() == 2 << 20
    held = [blocks.buffer(np.uint8, (20 << 20,)) for _ in range(12)]
    assert pool._held() <= blocks._POOL_BYTES < sum(block.nbytes for block in held)


def test_a_read_past_the_end_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(bytes(100))
    with pytest.raises(FileFormatError, match="ends at byte 100"):
        blocks.read_block(str(path), 50, "<i4", (100,))


def test_the_door_needs_no_h5py() -> None:
    code = "import sys, fvproc.readers; assert 'h5py' not in sys.modules and 'fvproc.readers.curves' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )


# ---- plug-ins


@pytest.fixture
def plug_ins(monkeypatch: pytest.MonkeyPatch) -> dict:
    found: dict = {}
    monkeypatch.setattr(readers, "_plug_ins", lambda: found)
    readers._load.cache_clear()
    yield found
    readers._load.cache_clear()


def test_a_plug_in_is_found_by_content(tmp_path: Path, plug_ins: dict) -> None:
    def describe(path: str) -> ForceVolume:
        status = Path(path).stat()
        return ForceVolume(
            path,
            "toy",
            small()["grid"],
            small()["approach"],
            small()["retract"],
            file_size=status.st_size,
            modified_ns=status.st_mtime_ns,
        )

    toy = SimpleNamespace(
        name="toy",
        description="toy files",
        suffixes=(".toy",),
        sniff=lambda head, path: head.startswith(b"TOY"),
        open=describe,
        read=lambda volume, tile: curves(len(tile)),
        vendor_maps=lambda volume: {},
    )
    plug_ins["toy"] = SimpleNamespace(load=lambda: toy)
    (tmp_path / "a.toy").write_bytes(b"TOY")
    volume = readers.open_volume(tmp_path / "a.toy", spring_constant=1.0)
    assert volume.format == "toy"
    assert readers.read_tile(volume, Tile(0, 3)).approach.deflection.shape == (3, 4)
    assert readers.formats()["toy"] == "toy files"
    plug_ins.clear()
    readers._load.cache_clear()
    with pytest.raises(FileFormatError, match=r"reader 'toy', which this Python does not have.*fvproc\.readers"):
        readers.read_tile(volume, Tile(0, 3))


def test_a_broken_plug_in_does_not_keep_other_files_from_opening(tmp_path: Path, plug_ins: dict) -> None:
    def load() -> None:
        raise ImportError("no module named missing")

    plug_ins["broken"] = SimpleNamespace(load=load)
    assert readers.open_volume(write_with_h5py(tmp_path / "c.h5")).format == "curves"
    (tmp_path / "x").write_bytes(b"what is this")
    with pytest.raises(FileFormatError, match=r"could not be loaded: broken \(ImportError: no module named missing\)"):
        readers.open_volume(tmp_path / "x")


def test_the_built_in_readers_keep_the_protocol() -> None:
    for name in ("nanoscope", "curves"):
        reader: readers.Reader = readers._load(name)
        assert reader.name == name
        assert reader.description and all(suffix.startswith(".") for suffix in reader.suffixes)
        assert all(callable(getattr(reader, verb)) for verb in ("sniff", "open", "read", "vendor_maps"))


def test_an_error_of_a_reader_that_does_not_name_the_file_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(path: str) -> None:
        raise FileFormatError("grid size_x must be finite and above zero, not -1.0")

    path = write_with_h5py(tmp_path / "map.h5")
    volume = readers.open_volume(path)
    monkeypatch.setattr("fvproc.readers.curves.open", careless)
    with pytest.raises(FileFormatError, match=r"map\.h5: grid size_x must be"):
        readers.open_volume(path)
    monkeypatch.setattr("fvproc.readers.curves.read", lambda volume, tile: careless(""))
    with pytest.raises(FileFormatError, match=r"map\.h5: grid size_x must be"):
        readers.read_tile(volume, Tile(0, 1))
