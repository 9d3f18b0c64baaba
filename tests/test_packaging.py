"""What is shipped, and what a failed compile says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build needs, so that builds leave nothing in the checkout."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("the tests do not stand in a checkout")
    copy = tmp_path_factory.mktemp("build") / "fvproc"
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "*.so", "*.pyd", "*.c", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy


def build(checkout: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_sdist_holds_the_sources_and_nothing_compiled(checkout):
    done = build(checkout, "from setuptools.build_meta import build_sdist; build_sdist('dist')")
    assert done.returncode == 0, done.stderr[-2000:]
    (archive,) = (checkout / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.split("/", 1)[-1] for name in tar.getnames()}
    core = ("_kernel.pyx", "_cpu.pyx", "fit.pxd", "no_contraction.h")
    for wanted in ("setup.py", "fvproc/py.typed", "LICENSE", *(f"fvproc/_core/{name}" for name in core)):
        assert wanted in names
    for source in (ROOT / "fvproc").rglob("*"):
        if source.suffix in (".py", ".pyx", ".pxd", ".pyi", ".h"):
            assert str(source.relative_to(ROOT)).replace(os.sep, "/") in names
    assert not [name for name in names if name.endswith((".c", ".so", ".pyd")) or name.startswith("build/")]


@pytest.mark.skipif(os.name == "nt", reason="MSVC is not chosen by CC")
def test_without_a_compiler_the_install_fails_and_says_what_is_missing(checkout):
    code = "import sys; sys.argv = ['setup.py', 'build_ext']; import setuptools; exec(open('setup.py').read())"
    done = build(checkout, code, CC="/nowhere/cc")
    assert done.returncode != 0
    assert "needs a C compiler" in done.stderr
    assert "apt install gcc" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="the debug build is made on Linux and macOS")
def test_the_debug_build_with_bounds_checks_says_the_same(checkout, tmp_path):
    """Catches reads beyond an array that a build without checks gets away with."""
    code = "import sys; sys.argv = ['setup.py', 'build_ext', '--inplace']; exec(open('setup.py').read())"
    done = build(checkout, code, FVPROC_DEBUG="1")
    assert done.returncode == 0, done.stderr[-2000:]
    script = (
        "import sys, hashlib; sys.path.insert(0, 'tests')\n"
        "from simulated import CASES, measure\n"
        "import fvproc\n"
        "from fvproc import _core\n"
        "digest = hashlib.sha256()\n"
        "for name in CASES:\n"
        "    for method in ('ml', 'qnm'):\n"
        "        m = measure(CASES[name], curves=20, fit={'method': method})\n"
        "        digest.update(_core.fit_tile(m.raw, m.settings).tobytes())\n"
        "print(fvproc.__file__, digest.hexdigest())\n"
    )
    results = []
    for folder, path in ((checkout, str(checkout)), (tmp_path, "")):
        if folder == tmp_path:
            shutil.copytree(checkout / "tests", tmp_path / "tests")
        done = build(folder, script, PYTHONPATH=path)
        assert done.returncode == 0, done.stderr[-2000:]
        results.append(done.stdout.split())
    assert results[0][0] != results[1][0]
    assert results[0][1] == results[1][1]
