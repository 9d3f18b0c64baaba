"""Many files in one queue: small maps starve nobody, a bad file stops nothing, what is stopped is told and goes on."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fvproc as fv
from fvproc import bulk, engine, events, simulate
from fvproc.cli import main
from fvproc.errors import OutputError

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def small_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    paths = [folder / f"map{number}.h5" for number in range(6)]
    for number, path in enumerate(paths):
        simulate.write_map(path, ny=4, nx=4, samples=64, seed=number)
    return paths


class Seen:
    """Notes what happened, in order."""

    def __init__(self):
        self.notes = []

    def start(self, workers):
        self.notes.append(("start", workers))

    def expect(self, curves, done):
        self.notes.append(("expect", curves, done))

    def advance(self, tile, failed):
        self.notes.append(("advance", len(tile)))

    def staff(self, workers):
        pass

    def finish(self):
        self.notes.append(("finish",))


def test_tiles_of_the_next_file_fly_before_the_first_is_done(small_files, tmp_path):
    seen = Seen()
    results = fv.process_many(small_files, output_dir=tmp_path, threads=2, progress=seen)
    assert [result.status for result in results] == ["done"] * 6
    kinds = [note[0] for note in seen.notes]
    assert kinds[0] == "start" and kinds[-1] == "finish"
    assert kinds.count("expect") == kinds.count("advance") == 6
    # 2 threads, 3 tiles in flight for each: all six files are open before the first tile lands
    assert kinds[1:7] == ["expect"] * 6
    for path, result in zip(small_files, results, strict=True):
        assert result.path == path and result.curves == 16
        alone = fv.process(path)
        assert fv.load(result.outputs[0]).records.tobytes() == alone.records.tobytes()


def test_what_was_done_before_is_taken_as_it_is(small_files, tmp_path, monkeypatch):
    fv.process_many(small_files[:3], output_dir=tmp_path)
    results = fv.process_many(small_files, output_dir=tmp_path, resume=True)
    assert [result.status for result in results] == ["done before"] * 3 + ["done"] * 3
    monkeypatch.setattr(engine, "run_tile", None)
    again = fv.process_many(small_files, output_dir=tmp_path, resume=True)
    assert {result.status for result in again} == {"done before"}
    refused = fv.process_many(small_files, output_dir=tmp_path)
    assert all("exists already" in result.error for result in refused)


def test_inputs_that_would_meet_in_one_output_are_refused(small_files, tmp_path):
    other = tmp_path / "elsewhere" / "MAP0.h5"
    with pytest.raises(OutputError, match=r"map0\.h5: is there twice"):
        fv.process_many([small_files[0], small_files[0]], output_dir=tmp_path)
    with pytest.raises(OutputError, match=r"would both write .*rename one"):
        fv.process_many([small_files[0], other], output_dir=tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".json", ".txt"])
def test_the_table_names_each_file(small_files, tmp_path, suffix):
    bad = tmp_path / "bad.h5"
    bad.write_bytes(b"nothing")
    results = fv.process_many([small_files[0], bad], output_dir=tmp_path / "out")
    path = tmp_path / f"table{suffix}"
    bulk.write_table(results, path)
    text = path.read_text(encoding="utf-8")
    if suffix == ".csv":
        rows = list(csv.DictReader(text.splitlines()))
        assert [row["status"] for row in rows] == ["done", "failed"]
        assert rows[0]["curves"] == "16" and "no known format" in rows[1]["error"]
        assert rows[0]["outputs"].endswith("map0.h5")
    elif suffix == ".json":
        rows = json.loads(text)
        assert rows[0]["status"] == "done" and rows[1]["outputs"] == []
        assert set(rows[0]) == set(rows[1])
    else:
        assert "1 of 2 files, 16 curves" in text and "bad.h5" in text
    with pytest.raises(OutputError, match=r"ends in \.csv, \.json or \.txt"):
        bulk.write_table(results, tmp_path / "table.xlsx")


@pytest.mark.parametrize("name", ["table.xlsx", "table", "file/table.csv", "folder.csv"])
def test_a_summary_that_cannot_be_written_is_refused_before_any_work(small_files, tmp_path, monkeypatch, capsys, name):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder.csv").mkdir()
    monkeypatch.setattr(engine, "run_tile", None)
    arguments = [str(small_files[0]), "-o", f"{tmp_path / 'out'}{os.sep}", "--summary", str(tmp_path / name)]
    assert main(["run", *arguments]) == 2
    assert str(tmp_path / name) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_summary_that_cannot_be_written_in_the_end_hides_no_result(small_files, tmp_path, monkeypatch, capsys):
    def full(results, path):
        raise OutputError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(bulk, "write_table", full)
    table = tmp_path / "table.csv"
    arguments = [str(small_files[0]), "-o", f"{tmp_path / 'out'}{os.sep}", "--summary", str(table)]
    assert main(["run", *arguments]) == 2
    told = capsys.readouterr()
    assert "1 of 1 files, 16 curves" in told.out
    assert "table.csv: cannot be written: No space left on device; the files of the run itself" in told.err
    assert (tmp_path / "out" / "map0.h5").exists()


def test_what_is_no_sequence_is_refused_at_the_door(small_files, tmp_path):
    for paths in (str(small_files[0]), small_files[0]):
        with pytest.raises(TypeError, match=r"paths = .*give a list"):
            fv.process_many(paths, output_dir=tmp_path)
    with pytest.raises(TypeError, match=r"suffixes = '\.h5'.*such as \('\.h5',\)"):
        fv.process_many(small_files, output_dir=tmp_path, suffixes=".h5")
    with pytest.raises(OutputError, match=r"suffixes: '\.xlsx': no output format.*\.h5"):
        fv.process_many(small_files, output_dir=tmp_path, suffixes=(".h5", ".xlsx"))
    with pytest.raises(TypeError, match=r"expected a fvproc\.Recipe, not a str"):
        fv.process_many(small_files, "nanoscope", output_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_tells_what_was_not_run_and_resume_goes_on(small_files, tmp_path):
    code = (
        "import os, signal, sys\nfrom fvproc import engine\nfrom fvproc.cli import main\n"
        "honest, seen = engine.run_tile, []\n"
        "def run_tile(*arguments):\n"
        "    seen.append(1)\n"
        "    if len(seen) == 3:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return honest(*arguments)\n"
        "engine.run_tile = run_tile\nsys.exit(main(sys.argv[1:]))\n"
    )
    table = tmp_path / "table.json"
    arguments = ["run", *small_files, "-o", f"{tmp_path / 'out'}{os.sep}", "--threads", "1", "--summary", table]
    stopped = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=TESTS, check=False
    )
    assert stopped.returncode == 130, stopped.stderr
    assert "of 6 files came to an end" in stopped.stderr and "--resume goes on" in stopped.stderr
    statuses = [row["status"] for row in json.loads(table.read_text())]
    assert len(statuses) == 6 and statuses.count("done") >= 1 and statuses[-1] == "not run"
    assert main([str(argument) for argument in [*arguments, "--resume", "--quiet"]]) == 0
    after = [row["status"] for row in json.loads(table.read_text())]
    assert after == ["done before" if status == "done" else "done" for status in statuses]


def test_patterns_that_a_shell_left_alone_are_expanded(small_files, tmp_path, capsys):
    pattern = str(small_files[0].parent / "map[0-2].h5")
    assert main(["run", pattern, "-o", str(tmp_path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert main(["run", str(small_files[0].parent / "*.spm"), "-o", str(tmp_path)]) == 2
    assert "no file matches the pattern" in capsys.readouterr().err


def test_the_log_tells_what_happened_in_json_lines(small_files, tmp_path, monkeypatch):
    log, bad = tmp_path / "logs" / "run.log", tmp_path / "bad.h5"
    bad.write_bytes(b"nothing")
    folder = f"{tmp_path / 'out'}{os.sep}"
    assert main(["run", str(small_files[0]), str(bad), "-o", folder, "--log", str(log), "--quiet"]) == 1
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines] == [
        *("file_opened", "run_started", "file_failed", "writing", "file_done", "run_done")
    ]
    assert lines[0]["curves"] == 16 and lines[0]["file"].endswith("map0.h5")
    assert lines[2]["level"] == "error" and "no known format" in lines[2]["reason"]
    assert all(line["time"].endswith("+00:00") for line in lines)

    def fail(volume, tile):
        raise fv.FileFormatError("truncated")

    monkeypatch.setattr("fvproc.readers.read_tile", fail)
    assert main(["run", str(small_files[1]), "-o", folder, "--log", str(log), "--quiet"]) == 1
    added = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()][len(lines) :]
    (failed,) = [line for line in added if line["event"] == "tile_failed"]
    assert failed["curves"] == [0, 16] and failed["flag"] == "read_error" and failed["level"] == "warning"
    assert not events.LOGGER.isEnabledFor(10) and len(events.LOGGER.handlers) == 1


def test_events_reach_any_handler_of_python_s_logging(small_files, caplog):
    with caplog.at_level("INFO", logger="fvproc"):
        fv.process(small_files[0])
    assert "file_opened: file=" in caplog.text
    (record,) = [record for record in caplog.records if record.event == "run_done"]
    assert record.facts == {}


def test_a_log_that_cannot_be_written_is_refused_before_work(small_files, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["run", str(small_files[0]), "-o", str(tmp_path / "a.h5"), "--log", str(tmp_path / "file" / "x")]) == 2
    assert "the log cannot be written" in capsys.readouterr().err
    assert not (tmp_path / "a.h5").exists()
