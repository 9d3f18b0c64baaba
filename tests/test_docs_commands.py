"""What the documentation tells people to type is typed here, in an empty folder."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fvproc.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / name for name in ("running.md", "clusters.md")]
README = ROOT / "README.md"
if not all(page.exists() for page in PAGES):
    pytest.skip("an installed package has no docs folder", allow_module_level=True)


def blocks(marker: str) -> list[tuple[str, str]]:
    """Return (page and number, content) of the fenced blocks after a comment."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for number, match in enumerate(re.finditer(rf"<!-- {marker} -->\n```\w+\n(.*?)```", text, re.DOTALL)):
            found.append((f"{page.stem}-{number}", match[1]))
    assert found, marker
    return found


def command_of(line: str) -> list[str]:
    """Return a line as this Python runs it, whatever is on the path."""
    program, *arguments = shlex.split(line)
    if program == "fvproc":
        return [sys.executable, "-m", "fvproc", *arguments]
    if program != "dask":
        return [program, *arguments]
    name, *arguments = arguments
    return [sys.executable, "-c", f"from distributed.cli.dask_{name} import main; main()", *arguments]


@pytest.mark.parametrize("content", [pytest.param(text, id=name) for name, text in blocks("run")])
def test_commands_of_one_machine(content, tmp_path):
    for line in content.strip().splitlines():
        done = subprocess.run(command_of(line), cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert list(tmp_path.rglob("*.h5"))
    assert not list(tmp_path.rglob("*.partial*"))


@pytest.mark.parametrize("content", [pytest.param(text, id=name) for name, text in blocks("python")])
def test_python(content, tmp_path):
    done = subprocess.run([sys.executable, "-c", content], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("content", [pytest.param(text, id=name) for name, text in blocks("cluster")])
def test_a_cluster_by_hand(content, tmp_path, sei_file):
    """Lines of Dask stay in the background, the others end before the next begins."""
    pytest.importorskip("distributed")
    if "openssl" in content and shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    shutil.copy2(sei_file, tmp_path / "map.h5")
    lines = content.strip().splitlines()
    processes = []
    try:
        for line in lines:
            if line.startswith("dask"):
                quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                processes.append(subprocess.Popen(command_of(line), cwd=tmp_path, **quiet))
                waited = time.monotonic() + 30
                file = tmp_path / "scheduler.json"
                while not (file.exists() and file.stat().st_size):  # there before it is filled
                    assert processes[0].poll() is None and time.monotonic() < waited
                    time.sleep(0.05)
            else:
                done = ended(command_of(line), tmp_path)
                assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert (tmp_path / "out.h5").exists()
        if "--tls-" in content:
            bare = lines[-1].partition(" --tls-")[0].replace("out.h5", "bare.h5")
            done = ended(command_of(bare), tmp_path)
            assert done.returncode == 2 and "--tls-ca, --tls-cert and --tls-key" in done.stderr
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(30)


def ended(command: list[str], folder: Path, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120, **options)


# What stands for the programs of a batch system: srun drops its own options and runs the rest on this machine.
SHIMS = {
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n',
    "dask": 'name=$1; shift\nexec "$PYTHON" -c "from distributed.cli.dask_$name import main; main()" "$@"\n',
    "fvproc": 'exec "$PYTHON" -m fvproc "$@"\n',
}


@pytest.mark.skipif(sys.platform != "linux", reason="names the loopback interface as Linux does")
def test_the_job_script(tmp_path, sei_file, curves_file):
    pytest.importorskip("distributed")
    (script,) = re.findall(
        r"```sh\n(#!/bin/bash\n.*?)```", (ROOT / "docs" / "clusters.md").read_text("utf-8"), re.DOTALL
    )
    for old, new in {"ib0": "lo", "/data/beamtime/*.spm": "data/*.h5", "/data/maps/": "maps/"}.items():
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "data").mkdir()
    for path in (sei_file, curves_file):
        shutil.copy2(path, tmp_path / "data")
    (tmp_path / "bin").mkdir()
    for name, content in SHIMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{content}")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "job.sh").write_text(script)
    # what a job that was killed and requeued finds
    (tmp_path / "17.json").write_text('{"address": "tcp://127.0.0.1:9"}')
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "SLURM_JOB_ID": "17",
        "SLURM_CPUS_PER_TASK": "1",
        "TMPDIR": str(tmp_path),
    }
    with (tmp_path / "told").open("w") as told:
        job = subprocess.Popen(
            ["bash", "job.sh"], cwd=tmp_path, env=environment, stdout=told, stderr=told, start_new_session=True
        )
        try:
            assert job.wait(120) == 0, (tmp_path / "told").read_text()
        finally:
            os.killpg(job.pid, signal.SIGTERM)  # as Slurm does when the script has ended
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["homogeneous.h5", "sei.h5"]
    assert (tmp_path / "run.log").read_text().count("file_done") == 2


def test_python_of_the_readme(tmp_path, sei_file):
    pytest.importorskip("distributed")
    pytest.importorskip("matplotlib")
    pytest.importorskip("xarray")
    ((code,),) = [re.findall(r"## Python\n\n```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)]
    shutil.copy2(sei_file, tmp_path / "map.spm")  # what a file is, its content says
    assert code.count('"tcp://host:8786"') == 1
    code = code.replace('"tcp://host:8786"', "cluster.scheduler_address")
    before = (
        "from distributed import LocalCluster\n"
        "import fvproc\n"
        "one = fvproc.curve(fvproc.open('map.spm'), 3, 4)\n"
        "z_in, z_out, d_in, d_out = (one[f'{b}_{c}'] for c in ('z', 'deflection') for b in ('approach', 'retract'))\n"
        "cluster = LocalCluster(n_workers=1, processes=False, protocol='tcp', dashboard_address=None)\n"
    )
    done = ended([sys.executable, "-c", before + code + "\ncluster.close()\n"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} >= {"out.h5", "out.tif", "out.png"}


def typed() -> list[tuple[str, str]]:
    """Return (page, command) of all that the pages say to type: in fences, in backquotes, and `…` for `fvproc run`."""
    found = []
    for page in [README, *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        fenced = itertools.chain.from_iterable(map(str.splitlines, re.findall(r"```sh\n(.*?)```", text, re.DOTALL)))
        spans = re.findall(r"`((?:fvproc|dask|…) [^`]+)`", text)
        for line in [*fenced, *(span.replace("…", "fvproc run") for span in spans)]:
            command = re.search(r"\b(fvproc|dask) [a-z].*", line)
            if command:
                found.append((page.name, command[0].strip()))
    return found


def help_of(command: str, capsys) -> str:
    """Return the help of `fvproc NAME …` or `dask NAME …`."""
    program, name, *rest = re.split(r"[\s|]+", command)
    if program == "dask":
        distributed = pytest.importorskip(f"distributed.cli.dask_{name}")
        return "\n".join(itertools.chain.from_iterable(p.opts + p.secondary_opts for p in distributed.main.params))
    words = [name, rest[0]] if name == "calibrate" else [name]
    with pytest.raises(SystemExit) as left:
        main([*words, "--help"])
    assert left.value.code == 0, f"no such command: {command}"
    return capsys.readouterr().out


@pytest.mark.parametrize("page, command", [pytest.param(*both, id=" ".join(both)[:60]) for both in typed()])
def test_every_option_that_is_told_of_exists(page, command, capsys):
    known = set(re.findall(r"--[a-z][\w-]*", help_of(command, capsys)))
    told = set(re.findall(r"(?<!\S)\[?(--[a-z][\w-]*)", command))
    assert told <= known, f"{page}: {command}: {sorted(told - known)}"


def test_the_options_of_workers_in_python_blocks_exist():
    worker = pytest.importorskip("distributed.cli.dask_worker")
    text = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
    (arguments,) = re.findall(r"worker_extra_args=\[(.*?)\]", text)
    told = set(re.findall(r"--[a-z-]+", arguments))
    assert told == {"--lifetime", "--lifetime-stagger"}
    assert told <= {option for parameter in worker.main.params for option in parameter.opts}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(block, "clusters.md", "exec")
