"""What is shipped; that it builds without a warning, to the same bytes; what a failed compile says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import fvproc
from fvproc import _core

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(fvproc.__file__).parent


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


@pytest.fixture(scope="module")
def sdist(checkout: Path) -> Path:
    done = build(checkout, "from setuptools.build_meta import build_sdist; build_sdist('dist')")
    assert done.returncode == 0, done.stderr[-2000:]
    (archive,) = (checkout / "dist").glob("*.tar.gz")
    return archive


# What the kernel says of simulated curves, with each instruction set; run where fvproc is the one to be asked.
RECORDS = """
import sys, hashlib; sys.path.insert(0, "tests")
import numpy as np
from simulated import CASES, measure
import fvproc
from fvproc import _core
print(fvproc.__file__)
for name in _core.available_instruction_sets():
    _core._kernel = _core.instruction_sets.load(name)
    digest = hashlib.sha256()
    for case in CASES.values():
        for method in ("ml", "qnm"):
            m = measure(case, curves=20, fit={"method": method})
            digest.update(_core.fit_tile(m.raw, m.settings).tobytes())
    # spikes large and small beside an outlier beyond what a difference of int16 holds, at the ends of a register or not
    for at in (0, 1, 2, 100, -3, -2, -1):
        m = measure(CASES["45 MPa"], curves=40, sigma=2e-10, seed=3)
        for b in (m.raw.approach, m.raw.retract):
            b.deflection[:] = np.clip(b.deflection.astype(int) + 20000, -32768, 32767)
            b.deflection[:, 60] -= 200 + 60 * np.arange(40, dtype=np.int16)
            b.deflection[:, at] = -32768
        digest.update(_core.fit_tile(m.raw, m.settings).tobytes())
    print(name, digest.hexdigest())
"""


def records_of(package: Path, folder: Path) -> list[str]:
    """Instruction sets and digests of the kernel of the fvproc that stands in a folder."""
    if not (folder / "tests").exists():
        shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    done = build(folder, RECORDS, PYTHONPATH=str(package))
    assert done.returncode == 0, done.stderr[-2000:]
    file, *digests = done.stdout.splitlines()
    assert Path(file).is_relative_to(package)
    return digests


def test_the_sdist_holds_the_sources_and_nothing_compiled(sdist):
    with tarfile.open(sdist) as tar:
        names = {name.split("/", 1)[-1] for name in tar.getnames()}
    core = ("_kernel.pyx", "_cpu.pyx", "fit.pxd", "no_contraction.h")
    for wanted in ("setup.py", "fvproc/py.typed", "LICENSE", *(f"fvproc/_core/{name}" for name in core)):
        assert wanted in names
    for source in (ROOT / "fvproc").rglob("*"):
        if source.suffix in (".py", ".pyx", ".pxd", ".pyi", ".h"):
            assert str(source.relative_to(ROOT)).replace(os.sep, "/") in names
    assert not [name for name in names if name.endswith((".c", ".so", ".pyd")) or name.startswith("build/")]


COMPILERS = ("gcc", "clang", *(f"clang-{version}" for version in range(14, 23)))


@pytest.mark.skipif(os.name == "nt", reason="MSVC is not chosen by CC")
@pytest.mark.parametrize("family", ["gcc", "clang"])
def test_a_wheel_from_the_sdist_has_no_warnings_and_the_same_bytes(sdist, family, tmp_path):
    """A warning is an error. None is switched off but -Wpsabi (setup.py says why): Cython's own C is clean as well."""
    compiler = next((path for name in COMPILERS if name.startswith(family) and (path := shutil.which(name))), None)
    if compiler is None:
        pytest.skip(f"no {family} here")
    with tarfile.open(sdist) as tar:
        tar.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    code = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    done = build(source, code, CC=compiler, CFLAGS="-Wall -Wextra -Werror", FVPROC_DEBUG="")
    assert done.returncode == 0, done.stderr[-4000:]
    (wheel,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
        names = archive.namelist()
    compiled = {Path(name).name.split(".")[0] for name in names if name.endswith((".so", ".pyd"))}
    assert compiled >= {"_cpu", *(f"_kernel_{name}" for name in _core.available_instruction_sets())}
    assert not [name for name in names if name.endswith(".c")]
    mine = tmp_path / "mine"
    mine.mkdir()
    digests = records_of(tmp_path / "installed", mine)
    assert digests == records_of(PACKAGE.parent, mine)
    assert len({line.split()[1] for line in digests}) == 1


@pytest.mark.skipif(os.name == "nt", reason="MSVC is not chosen by CC")
def test_without_a_compiler_the_install_fails_and_says_what_is_missing(checkout):
    code = "import sys; sys.argv = ['setup.py', 'build_ext']; import setuptools; exec(open('setup.py').read())"
    done = build(checkout, code, CC="/nowhere/cc")
    assert done.returncode != 0
    assert "needs a C compiler" in done.stderr
    assert "apt install gcc" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="there it is the only way")
def test_without_vector_types_the_bytes_are_the_same(checkout, tmp_path):
    """As MSVC takes the kernel: one curve and one sample at a time, though it may use AVX2 and says so."""
    folder = tmp_path / "scalar"
    shutil.copytree(checkout, folder, ignore=shutil.ignore_patterns("build", "dist", "*.so"))
    code = "import sys; sys.argv = ['setup.py', 'build_ext', '--inplace']; exec(open('setup.py').read())"
    done = build(folder, code, CFLAGS="-DFVPROC_SCALAR -Wall -Wextra -Werror", FVPROC_DEBUG="")
    assert done.returncode == 0, done.stderr[-4000:]
    mine = tmp_path / "mine"
    mine.mkdir()
    assert records_of(folder, mine) == records_of(PACKAGE.parent, mine)


@pytest.mark.skipif(os.name == "nt", reason="the debug build is made on Linux and macOS")
def test_the_debug_build_with_bounds_checks_says_the_same(checkout, tmp_path):
    """Catches reads beyond an array that a build without checks gets away with."""
    code = "import sys; sys.argv = ['setup.py', 'build_ext', '--inplace']; exec(open('setup.py').read())"
    done = build(checkout, code, FVPROC_DEBUG="1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert records_of(checkout, tmp_path) == records_of(PACKAGE.parent, tmp_path)
