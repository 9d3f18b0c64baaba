"""The structure of the package: imports run one way, every module says what it owns, start-up stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fvproc

TESTS = Path(__file__).parent
PACKAGE = Path(fvproc.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# floor of each module: it may import its own floor and those below (names of packages stand for their modules)
FLOORS = [
    {"errors", "processors", "quantities", "storage"},
    {"streams"},
    {"events", "region_options", "calibration"},
    {"volume"},
    {"physics"},
    {"models", "recipe_settings"},
    {"recipe_sections", "recipe_files"},
    {"recipe"},
    {"_core", "reference", "maps"},
    {"readers", "provenance", "regions", "curve_numbers", "partial"},
    {"statistics", "journal_file", "measurement"},
    {"beside"},
    {"simulate", "engine", "writers", "journal"},
    {"bound", "sampling"},
    {"noise", "systematic", "density", "calibration_file"},
    {"calibrate", "sections"},
    {"region_tables"},
    {"schedule", "report", "progress", "truth", "options", "finished"},
    {"job"},
    {"bulk", "conversion", "pictures", "exports"},
    {"pages"},
    {"opening", "single_curves"},
    {"processing"},
    {"api"},
    {"benchmark"},
    {"run_command"},
    {"cli", "__init__"},
    {"__main__"},
]
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}
NEVER = {
    "readers": {"_core", "engine", "reference", "writers", "schedule", "api", "maps"},
    "_core": {"readers", "writers", "engine", "maps"},
    "writers": {"readers", "_core", "engine", "reference", "schedule", "simulate"},
    "reference": {"readers", "simulate"},
    "engine": {"writers", "schedule", "simulate"},
}


def part(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Names of the package's parts that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module, f"{path}: a relative import goes unseen here; write it out"
            names = [f"{node.module}.{alias.name}" if node.module == "fvproc" else node.module for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("fvproc.")}
    return found & set(FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downward(path):
    own = part(path)
    assert own in FLOOR, f"{own} has no floor: add it to the house in tests/test_layers.py"
    for name in imports(path) - {own}:
        assert FLOOR[name] <= FLOOR[own], f"{own} imports {name} from a floor above"
        assert name not in NEVER.get(own, ()), f"{own} must not know {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_first_line_says_what_a_module_owns(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring and docstring.splitlines()[0].endswith((".", ":"))


def test_only_the_schedule_knows_dask():
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
        names += [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        if any(name.split(".")[0] in ("dask", "distributed") for name in names):
            assert part(path) == "schedule", path


@pytest.mark.parametrize(
    "command",
    ["import fvproc", "import fvproc.cli; fvproc.cli.build_parser()"],
)
def test_start_up_imports_nothing_heavy(command):
    heavy = "('dask', 'distributed', 'h5py', 'tifffile', 'matplotlib', 'scipy', 'xarray', 'plotly')"
    code = f"import sys; {command}; sys.exit(' '.join(m for m in {heavy} if m in sys.modules) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=TESTS)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="its time-outs are a class of asyncio's own before")
def test_threads_import_nothing_of_a_cluster():
    heavy = "('asyncio', 'dask', 'distributed', 'tifffile', 'matplotlib', 'scipy', 'xarray')"
    command = "import fvproc.processing, fvproc.schedule"
    code = f"import sys; {command}; sys.exit(' '.join(m for m in {heavy} if m in sys.modules) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=TESTS)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", ["--help", "run --help", "info --help", "--version"])
def test_help_imports_no_arrays(arguments):
    """Not even NumPy, which takes longer than all the rest."""
    heavy = "('numpy', 'dask', 'distributed', 'h5py', 'tifffile', 'matplotlib', 'scipy', 'xarray')"
    code = (
        "import sys, fvproc.cli\n"
        "try:\n    fvproc.cli.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"sys.exit(' '.join(m for m in {heavy} if m in sys.modules) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()], capture_output=True, text=True, check=False, cwd=TESTS
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
