"""The door to the writers: suffixes, refusals before work, finished files only, equal bytes for equal maps."""

from __future__ import annotations

import ast
import csv
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from test_writers_hdf5 import assert_equal
from test_writers_samples import dmt_curve, film_maps, ramp_maps, random_maps, volume

import fvproc.writers as writers
from fvproc import job
from fvproc.errors import FileFormatError, OutputError
from fvproc.maps import ParameterMaps
from fvproc.quantities import QUANTITIES
from fvproc.writers import bands, gsf, hdf5, tables

SUFFIXES = sorted(writers.SUFFIXES)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_is_written_into_a_new_folder_and_nothing_else_is(tmp_path, suffix):
    path = tmp_path / "new" / "folder" / f"maps.v1{suffix.upper()}"
    maps = film_maps(20, 24)
    writers.check_writable(path)
    assert not files(tmp_path)
    written = writers.save(maps, path, curve=dmt_curve(maps, 5, 5))
    assert sorted(p.name for p in written) == files(tmp_path)
    assert (written == (path,)) is (suffix != ".gsf")
    assert all(p.stat().st_size > 100 for p in written)


def test_suffixes_are_told_apart():
    assert writers.suffix_of("a/b.c.ome.tif") == ".ome.tif"
    assert writers.suffix_of("b.OME.TIFF") == ".ome.tiff"
    assert writers.suffix_of("home.tif") == ".tif"
    assert writers.suffix_of("b.tif.h5") == ".h5"
    assert writers.suffix_of("b.xyz") == ".xyz"


@pytest.mark.parametrize("name", ["maps.xlsx", "maps", ".h5", "maps.h5.gz"])
def test_unknown_suffix_is_refused_with_those_known(tmp_path, name):
    for refused in (lambda path: writers.save(ramp_maps(1, 1), path), writers.check_writable):
        with pytest.raises(OutputError) as caught:
            refused(tmp_path / name)
        assert all(suffix in str(caught.value) for suffix in SUFFIXES)
        assert name in str(caught.value)
    assert not files(tmp_path)


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".npz"])
def test_load_gives_back_what_was_saved(tmp_path, suffix):
    maps = film_maps(30, 20)
    assert_equal(maps_of(tmp_path, maps, suffix), maps)
    random = random_maps(7, 5, size_x=1e-6, rotation=3.0)
    assert_equal(maps_of(tmp_path, random, suffix), random)


def maps_of(folder, maps, suffix):
    return writers.load(writers.save(maps, folder / f"m{suffix}")[0])


@pytest.mark.parametrize("name", ["m.tif", "m.csv", "m.xyz"])
def test_load_refuses_formats_that_do_not_hold_everything(tmp_path, name):
    with pytest.raises(FileFormatError, match=r"\.h5, \.hdf5, \.npz"):
        writers.load(tmp_path / name)


@pytest.mark.parametrize("content", [None, b"", b"no archive", "other", "changed"])
def test_load_refuses_an_npz_that_is_none_of_ours(tmp_path, content):
    path = tmp_path / "m.npz"
    if content == "other":
        np.savez(path, a=np.zeros(3))
    elif content == "changed":
        writers.save(ramp_maps(3, 4), path)
        with np.load(path) as archive:
            arrays = dict(archive)
        np.savez(path, **{**arrays, "adhesion": arrays["adhesion"].astype("f8")})
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"m\.npz"):
        writers.load(path)


# ---- refusals before work starts


def test_check_accepts_and_leaves_nothing_behind(tmp_path):
    writers.check_writable(tmp_path / "a" / "b" / "m.h5")
    writers.check_writable(tmp_path / "m.h5", overwrite=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_existing_output_is_kept_unless_it_may_be_overwritten(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    targets = writers.save(ramp_maps(2, 3), path)
    before = [target.read_bytes() for target in targets]
    for refused in (
        lambda: writers.save(ramp_maps(4, 4), path, overwrite=False),
        lambda: writers.check_writable(path, overwrite=False),
    ):
        with pytest.raises(OutputError, match="--overwrite"):
            refused()
    assert [target.read_bytes() for target in targets] == before
    writers.check_writable(path)
    writers.save(ramp_maps(4, 4), path)
    assert [target.read_bytes() for target in targets] != before


def test_folder_in_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "m.h5").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        writers.check_writable(tmp_path / "m.h5")
    with pytest.raises(OutputError, match=r"m\.h5"):
        writers.save(ramp_maps(1, 1), tmp_path / "m.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5"]


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "results").write_text("x")
    path = tmp_path / "results" / "deeper" / "m.h5"
    with pytest.raises(OutputError, match="results is a file"):
        writers.check_writable(path)
    with pytest.raises(OutputError, match=r"m\.h5: cannot be written"):
        writers.save(ramp_maps(1, 1), path)


def test_folder_that_refuses_files_is_refused(tmp_path, monkeypatch):
    def denied(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", denied)  # the tests may run as root, whom no permission stops
    with pytest.raises(OutputError, match=f"{tmp_path.name} cannot be written: Permission denied"):
        writers.check_writable(tmp_path / "m.h5")


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_pictures_without_matplotlib_are_refused_with_the_remedy(tmp_path, monkeypatch, suffix):
    find = writers.importlib.util.find_spec
    monkeypatch.setattr(writers.importlib.util, "find_spec", lambda n: None if n == "matplotlib" else find(n))
    for refused in (writers.check_writable, lambda path: writers.save(ramp_maps(1, 1), path)):
        with pytest.raises(OutputError, match=r"pip install fvproc\[plot\]"):
            refused(tmp_path / f"m{suffix}")
    writers.check_writable(tmp_path / "m.h5")


def test_bad_source_date_epoch_is_refused_before_work(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "tomorrow")
    with pytest.raises(OutputError, match="SOURCE_DATE_EPOCH"):
        writers.check_writable(tmp_path / "m.h5")


# ---- finished files only


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError, OSError(28, "No space left on device")])
@pytest.mark.parametrize("earlier", [True, False])
def test_failure_while_writing_removes_the_part_and_keeps_the_earlier_file(tmp_path, monkeypatch, failure, earlier):
    path = tmp_path / "m.h5"
    maps = ramp_maps(3, 4)
    if earlier:
        writers.save(maps, path)
    seen = []

    def half(maps, temporary):
        Path(temporary).write_bytes(b"half")
        seen.extend(files(tmp_path))
        raise failure

    monkeypatch.setattr(hdf5, "write", half)
    expected = OutputError if isinstance(failure, OSError) else failure
    with pytest.raises(expected):
        writers.save(ramp_maps(9, 9), path)
    assert any(name.endswith(".tmp.h5") for name in seen)
    assert files(tmp_path) == (["m.h5"] if earlier else [])
    if earlier:
        assert_equal(writers.load(path), maps)


def test_full_disk_is_named(tmp_path, monkeypatch):
    def full(maps, temporary):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hdf5, "write", full)
    with pytest.raises(OutputError, match=r"m\.h5: cannot be written: No space left on device"):
        writers.save(ramp_maps(2, 2), tmp_path / "m.h5")


def test_content_is_on_disk_before_the_name_is(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, Path.replace

    def log_fsync(descriptor):
        steps.append(("fsync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def log_replace(self, target):
        steps.append(("replace", self.stat().st_ino))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", log_fsync)
    monkeypatch.setattr(Path, "replace", log_replace)
    writers.save(ramp_maps(2, 2), tmp_path / "m.csv")
    number = (tmp_path / "m.csv").stat().st_ino
    assert steps[:2] == [("fsync", number), ("replace", number)]


def test_link_stays_a_link(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "m.h5").symlink_to(tmp_path / "store" / "real.h5")
    writers.save(ramp_maps(2, 3), tmp_path / "m.h5")
    assert (tmp_path / "m.h5").is_symlink()
    assert writers.load(tmp_path / "store" / "real.h5").shape == (2, 3)
    assert files(tmp_path / "store") == ["real.h5"]


def test_new_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "plain").touch()
    writers.save(ramp_maps(1, 2), tmp_path / "m.h5")
    assert (tmp_path / "m.h5").stat().st_mode == (tmp_path / "plain").stat().st_mode


# ---- equal maps, equal bytes

_PROGRAM = """
import hashlib, pathlib, sys
sys.path[:0] = sys.argv[2:]
from test_writers_samples import dmt_curve, film_maps
from fvproc import writers
maps = film_maps(40, 30)
for suffix in sorted(writers.SUFFIXES):
    for path in writers.save(maps, pathlib.Path(sys.argv[1]) / f"m{suffix}", curve=dmt_curve(maps, 5, 5)):
        print(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
"""


def test_equal_maps_give_equal_bytes_in_another_process(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    maps = film_maps(40, 30)
    here = {}
    for suffix in SUFFIXES:
        for path in writers.save(maps, tmp_path / f"m{suffix}", curve=dmt_curve(maps, 5, 5)):
            here[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "there").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "there"), *sys.path],
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    there = dict(line.split() for line in done.stdout.splitlines())
    assert there == here
    assert len(here) == len(SUFFIXES) - 1 + len(bands.BANDS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_date_changes_what_carries_it(tmp_path, monkeypatch, suffix):
    content = []
    for epoch in ("1700000000", "1700000001"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        (path, *_) = writers.save(film_maps(6, 8), tmp_path / f"m{suffix}")
        content.append(path.read_bytes())
    assert (content[0] == content[1]) is (suffix in (".csv", ".gsf"))  # which have no room for a provenance


# ---- tables and fields


def test_npz_opens_without_fvproc(tmp_path):
    maps = ramp_maps(3, 5)
    writers.save(maps, tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as archive:
        for name in (*QUANTITIES, "flags"):
            np.testing.assert_array_equal(archive[name], maps[name])
            assert archive[name].dtype == maps[name].dtype
        y, x = maps.coordinates()
        np.testing.assert_array_equal(archive["y"], y)
        np.testing.assert_array_equal(archive["x"], x)
        assert maps.provenance["recipe_digest"] in str(archive["provenance"])
    with zipfile.ZipFile(tmp_path / "m.npz") as archive:
        assert archive.testzip() is None


def test_csv_has_one_row_per_curve_with_exact_numbers(tmp_path):
    maps = random_maps(6, 7, 5, size_y=3e-6, size_x=7e-6)
    maps.records["flags"][0, :2] = (0, 5)
    writers.save(maps, tmp_path / "m.csv")
    with (tmp_path / "m.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 42
    assert [(int(row["row"]), int(row["column"])) for row in rows] == list(np.ndindex(6, 7))
    y, x = maps.coordinates()
    for row in rows:
        record = maps.records[int(row["row"]), int(row["column"])]
        assert float(row["y (m)"]) == pytest.approx(y[int(row["row"])], rel=1e-11)
        assert float(row["x (m)"]) == pytest.approx(x[int(row["column"])], rel=1e-11)
        assert int(row["flags"]) == record["flags"]
        for name, quantity in QUANTITIES.items():
            column = name if quantity.unit == "1" else f"{name} ({quantity.unit})"
            np.testing.assert_array_equal(np.float32(row[column]), record[name])
    assert rows[0]["flag_names"] == ""
    assert rows[1]["flag_names"] == "few_points poor_fit"


def test_gsf_is_a_padded_header_and_the_top_row_first(tmp_path):
    maps = ramp_maps(3, 5)
    written = writers.save(maps, tmp_path / "m.gsf")
    assert {path.name for path in written} == {f"m_{band.name}.gsf" for band in bands.BANDS}
    for path, band in gsf.parts(tmp_path / "m.gsf").items():
        content = path.read_bytes()
        header, _, rest = content.partition(b"\0")
        fields = dict(line.split(" = ", 1) for line in header.decode().splitlines()[1:])
        assert content.startswith(b"Gwyddion Simple Field 1.0\n")
        assert (fields["XRes"], fields["YRes"]) == ("5", "3")
        assert float(fields["XReal"]) == pytest.approx(maps.grid.size_x)
        assert float(fields["YReal"]) == pytest.approx(maps.grid.size_y)
        assert fields["XYUnits"] == "m"
        assert fields["ZUnits"] == ("" if band.unit == "1" else band.unit)
        padding = 4 - len(header) % 4
        assert content[len(header) : len(header) + padding] == b"\0" * padding
        values = np.frombuffer(content[len(header) + padding :], "<f4").reshape(3, 5)
        assert len(rest) == padding - 1 + values.nbytes
        np.testing.assert_array_equal(values, bands.plane(maps, band))


# ---- the house


def test_maps_of_a_gsf_whose_name_begins_alike_are_left_alone(tmp_path):
    maps = ramp_maps(3, 5)
    few = ParameterMaps(maps.grid, maps.records, quantities=("modulus",))
    writers.save(maps, tmp_path / "s.gsf")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for longer in ("s_approach.gsf", "s_reduced.gsf", "s_contact.gsf"):
        for refused in (writers.check_writable, lambda path: writers.save(maps, path)):
            with pytest.raises(OutputError, match=r"of another output.*another name"):
                refused(tmp_path / longer)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    writers.save(few, tmp_path / "s_approach.gsf")  # has no map of that name, and deletes none
    assert before.items() <= {path.name: path.read_bytes() for path in tmp_path.iterdir()}.items()
    writers.save(few, tmp_path / "s.gsf")  # its own of before go
    assert not (tmp_path / "s_approach_contact_point.gsf").exists()
    writers.save(few, tmp_path / "t_reduced.gsf")
    with pytest.raises(OutputError, match="of another output"):
        writers.save(maps, tmp_path / "t.gsf")


def test_two_outputs_of_a_run_share_no_file(tmp_path):
    both = [tmp_path / "s.gsf", tmp_path / "s_reduced.gsf"]
    with pytest.raises(OutputError, match=r"share s_reduced_modulus\.gsf with .*s_\*\.gsf"):
        job.check_outputs(volume(), both)
    job.check_outputs(volume(), [tmp_path / "s.gsf", tmp_path / "t.gsf", tmp_path / "s.h5"])


def test_start_up_imports_no_format_library():
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "import fvproc.writers\n"
        "heavy = {'h5py', 'tifffile', 'matplotlib', 'dask', 'distributed', 'xarray'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *sys.path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_writers_import_nothing_above_or_beside_them():
    allowed = {"errors", "maps", "provenance", "quantities", "recipe", "storage", "volume", "writers"}
    allowed |= {"curve_numbers", "statistics"}  # what a picture draws
    allowed |= {"processors"}
    folder = Path(writers.__file__).parent
    found = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "fvproc":
                parts = node.module.split(".")
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("fvproc.")}
    assert {"maps", "quantities"} <= found <= allowed
    assert tables.FORMAT == hdf5.FORMAT
