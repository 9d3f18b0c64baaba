"""Scheduler and workers as processes of their own, for those that get stopped, killed or made different."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path


def dask_command(name: str, *arguments: object, **environment: str) -> subprocess.Popen[bytes]:
    """Start `dask scheduler` or `dask worker`."""
    code = f"from distributed.cli.dask_{name} import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "--no-dashboard", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parent,
        env={**os.environ, **environment},
    )


class Hosts:
    """A scheduler and workers, none of which outlives the test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []

    def scheduler(self, *arguments: object) -> subprocess.Popen[bytes]:
        """Start a scheduler on a port that is free; its address is in `file`."""
        self.file.unlink(missing_ok=True)
        process = dask_command(
            "scheduler", "--host", "127.0.0.1", "--port", 0, "--scheduler-file", self.file, *arguments
        )
        self.processes.append(process)
        while not (self.file.exists() and self.file.stat().st_size):
            assert process.poll() is None
            time.sleep(0.02)
        return process

    def worker(self, *arguments: object, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker of one thread without a nanny."""
        process = dask_command(
            "worker", "--scheduler-file", self.file, "--no-nanny", "--nthreads", 1, *arguments, **environment
        )
        self.processes.append(process)
        return process

    def shim(self, code: str) -> dict[str, str]:
        """Return the environment of a process that runs this code before anything else."""
        folder = self.folder / "shim"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(code)
        return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}

    def close(self) -> None:
        """Kill all of them."""
        for process in self.processes:
            process.kill()
            process.wait()
