"""Many files in one queue: small maps starve nobody, a bad file stops nothing, what is stopped is told and goes on."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fvproc as fv
from fvproc import bulk, engine, events, simulate
from fvproc.cli import main
from fvproc.errors import OutputError
from fvproc.job import Interrupted
from fvproc.progress import Bar

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


def test_files_that_were_not_run_are_no_good_ones():
    results = [
        bulk.Result(Path("a.h5"), stopped=True),
        bulk.Result(Path("b.h5"), curves=5),
        bulk.Result(Path("c"), error="x"),
    ]
    assert bulk.table_text(results).endswith("1 of 3 files, 5 curves")


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
@pytest.mark.parametrize("suffix", [".csv", ".json", ".txt"])
def test_a_name_with_a_byte_that_is_no_text_is_in_the_table(small_files, tmp_path, suffix):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/map\xff.h5")
    Path(path).write_bytes(small_files[0].read_bytes())
    table, log = tmp_path / f"table{suffix}", tmp_path / "run.log"
    command = [sys.executable, "-m", "fvproc", "run", path, "-o", f"{tmp_path / 'out'}{os.sep}", "--summary", table]
    done = subprocess.run([*command, "--log", log], capture_output=True, text=True, cwd=TESTS, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 files, 16 curves" in done.stdout
    told = table.read_text(encoding="utf-8")
    assert ("map\\udcff.h5" in told) and "done" in told
    assert len(log.read_text(encoding="utf-8").splitlines()) == 5


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


@pytest.mark.parametrize("refuses", ["summary", "standard output"])
def test_what_cannot_be_told_of_a_run_that_was_stopped_does_not_hide_that_it_was(
    small_files, tmp_path, monkeypatch, capsys, refuses
):
    def stopped(inputs, recipe, *, told, **given):
        told(bulk.Result(inputs[0], stopped=True))
        raise Interrupted("0 of 1 files came to an end; the same again with --resume goes on")

    def full(*given):
        raise OutputError(f"{refuses} cannot be written: No space left on device")

    monkeypatch.setattr(bulk, "process_many", stopped)
    monkeypatch.setattr(bulk, "write_table" if refuses == "summary" else "table_text", full)
    arguments = [str(small_files[0]), "-o", f"{tmp_path / 'out'}{os.sep}", "--summary", str(tmp_path / "table.csv")]
    assert main(["run", *arguments]) == 130
    told = capsys.readouterr().err
    assert f"{refuses} cannot be written" in told
    assert told.endswith("fvproc: stopped; 0 of 1 files came to an end; the same again with --resume goes on\n")


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
    assert main(["run", str(small_files[0].parent / "*.spm"), "gone[1].spm", "-o", str(tmp_path)]) == 2


def test_a_pattern_without_a_match_fails_alone(small_files, tmp_path, capsys):
    folder = small_files[0].parent
    given = [str(small_files[2]), str(folder / "gone[1].h5"), str(folder / "*.spm")]
    assert main(["run", *given, "-o", f"{tmp_path}{os.sep}", "--json"]) == 1
    told = capsys.readouterr()
    assert [row["status"] for row in json.loads(told.out)] == ["done", "failed", "failed"]
    assert f"{given[1]}: no file has that name, and no file matches the pattern" in told.err


def test_a_missing_file_whose_name_is_a_pattern_of_another_is_told(small_files, tmp_path, capsys):
    name = str(small_files[0].parent / "map[1].h5")
    assert main(["run", name, "-o", str(tmp_path / "a.h5")]) == 0
    assert f"{name}: no file of that name; taken as a pattern, it is {small_files[1]}" in capsys.readouterr().err


def test_the_progress_counts_files_that_were_done_before_or_failed(small_files, tmp_path):
    fv.process_many([*small_files[:2], small_files[4]], output_dir=tmp_path)
    stream, seen = io.StringIO(), Seen()
    bar = Bar(stream=stream, files=7)
    gone = tmp_path / "gone.h5"
    given = [*small_files[:4], gone, *small_files[4:]]
    fv.process_many(given, output_dir=tmp_path, resume=True, progress=bar)
    assert stream.getvalue().splitlines()[-1].startswith("100% file 7 of 7, 96/96 curves")
    for path in tmp_path.glob("map[23].h5"):
        path.unlink()
    fv.process_many(given, output_dir=tmp_path, resume=True, progress=seen)
    kinds = [note[0] for note in seen.notes]
    assert kinds[0] == "start" and kinds[-1] == "finish"
    assert sorted(note[1:] for note in seen.notes if note[0] == "expect") == [(0, 0), *[(16, 0)] * 2, *[(16, 16)] * 4]


def test_the_table_of_many_files_takes_no_time(tmp_path, monkeypatch):
    names = [str(tmp_path / f"{number}.h5") for number in range(20_000)]

    def process_many(inputs, recipe, *, told, **given):
        for path in inputs:
            told(bulk.Result(path, stopped=True))

    monkeypatch.setattr(bulk, "process_many", process_many)
    began = time.process_time()
    main(["run", *names, "-o", f"{tmp_path}{os.sep}", "--quiet"])
    assert time.process_time() - began < 10  # 50 s where each was looked for in the list


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


def test_a_log_is_written_into_nothing_else(small_files, tmp_path, capsys):
    theirs = tmp_path / "notes.txt"
    theirs.write_text("to be kept\n")
    copy, link = tmp_path / "map.h5", tmp_path / "link.log"
    copy.write_bytes(small_files[0].read_bytes())
    os.link(copy, link)
    before = {path: path.read_bytes() for path in (theirs, copy, small_files[1])}
    folder = f"{tmp_path / 'out'}{os.sep}"
    for log, why in [
        (theirs, "is there and is no log of a run"),
        (small_files[1], "is there and is no log of a run"),
        (copy, f"would be written into {copy}"),
        (link, f"would be written into {copy}"),
        (tmp_path / "out" / "map.h5", "would be written into"),
        (tmp_path / "table.csv", "would be written into"),
    ]:
        command = ["run", str(copy), "-o", folder, "--summary", str(tmp_path / "table.csv"), "--log", str(log)]
        assert main(command) == 2
        assert why in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    assert main(["run", str(copy), "-o", str(tmp_path / "x.h5"), "--log", str(tmp_path / "x.h5")]) == 2
    assert not (tmp_path / "out").exists() and not (tmp_path / "x.h5").exists()
    (tmp_path / "run.log").write_text("")
    for _ in range(2):
        assert main(["run", str(copy), "-o", folder, "--overwrite", "--log", str(tmp_path / "run.log"), "--quiet"]) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_on_a_full_disk_ends_in_a_line(small_files, tmp_path, capsys):
    assert main(["run", str(small_files[0]), "-o", str(tmp_path / "a.h5"), "--log", "/dev/full", "--quiet"]) == 0
    assert capsys.readouterr().err == "fvproc: /dev/full: the log ends here: No space left on device; the run goes on\n"
    assert (tmp_path / "a.h5").exists()


def test_a_log_that_cannot_be_written_is_refused_before_work(small_files, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["run", str(small_files[0]), "-o", str(tmp_path / "a.h5"), "--log", str(tmp_path / "file" / "x")]) == 2
    assert "the log cannot be written" in capsys.readouterr().err
    assert not (tmp_path / "a.h5").exists()
