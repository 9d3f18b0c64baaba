"""The build logic: the kernel once per instruction set from one source, one table of compiler flags, a debug switch.

FVPROC_DEBUG=1 builds with bounds checks, integer-overflow traps and debug information;
FVPROC_DEBUG=sanitize adds the address and undefined-behaviour sanitizers (gcc and clang).
docs/building.md tells the rest.
"""

import json
import os
import re
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("FVPROC_DEBUG", "")
CORE = Path("fvproc/_core")
# everything made on the way stands here, never in the tree; Cython does not see that its directives changed
MADE = Path("build") / ("debug" if DEBUG else "release")

# No -march=native: wheels are portable. No fast-math and no contraction to fused multiply-add: the same bits on every
# instruction set. -Wno-psabi: vectors are passed to inline functions only, so it does not matter how a call would pass
# them. -funroll-loops: of what a pass over samples costs, a tenth is counting. -g0: the build does not depend on the
# folder it is made in. The header says to MSVC what -ffp-contract=off says to the others.
FLAGS = {
    "unix": [
        *("-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
        *("-funroll-loops", "-Wno-psabi", "-g0"),
    ],
    "msvc": ["/O2", "/fp:precise", "/FIno_contraction.h"],
}
DEBUG_FLAGS = {
    "unix": ["-O1", "-g", "-ffp-contract=off", "-Wno-psabi", "-ftrapv"],
    "msvc": ["/Od", "/Zi", "/fp:precise", "/FIno_contraction.h"],
}
# Recovery is off: the first finding ends the process, so that none can go unseen. -ftrapv would leave no report, and
# with the -fwrapv that Python's own build hands down an overflow is no fault.
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-fno-wrapv"]

# What each build of the kernel is allowed to use; fvproc/_core/instruction_sets.py chooses among them at import.
# None has -mfma: a fused multiply-add rounds once where the others round twice.
INSTRUCTION_SETS = {
    "baseline": {"unix": [], "msvc": []},
    "avx2": {"unix": ["-mavx2"], "msvc": ["/arch:AVX2"]},
    "avx512": {
        "unix": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512"],
        "msvc": ["/arch:AVX512"],
    },
}

MISSING = """
fvproc could not compile its kernel, fvproc/_core/_kernel.pyx.
It needs a C compiler and the headers of this Python:
    Debian, Ubuntu   apt install gcc python3-dev
    Fedora           dnf install gcc python3-devel
    macOS            xcode-select --install
    Windows          Visual Studio Build Tools with "Desktop development with C++"
or a wheel made elsewhere: pip install fvproc --only-binary fvproc
What the build said: {error}
"""


def platform():
    """Return the name of the platform that is compiled for, such as linux-x86_64, win-amd64, macosx-11.0-universal2."""
    from distutils.util import get_platform  # setuptools' own; knows a cross compile of Visual Studio

    return get_platform()


def instruction_sets():
    """Return the instruction sets to build for the target: all of them on 64-bit x86, elsewhere the baseline."""
    wide = re.search(r"[-_](x86_64|amd64|universal2)$", platform()) and sys.maxsize > 2**32
    return list(INSTRUCTION_SETS) if wide else ["baseline"]


def write_if_changed(path, text):
    """Write a made file, leaving its time alone where it says the same: what depends on it is not built again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    return path.as_posix()


class BuildKernel(build_ext):
    """Choose the flags of the compiler at hand; a failed compile fails the install, and says what is missing."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        kind = "msvc" if self.compiler.compiler_type == "msvc" else "unix"
        flags = list((DEBUG_FLAGS if DEBUG else FLAGS)[kind])
        if DEBUG == "sanitize" and kind == "unix":
            flags = [flag for flag in flags if flag != "-ftrapv"] + SANITIZE
        for extension in self.extensions:
            own = INSTRUCTION_SETS.get(extension.name.rpartition("_kernel_")[2], {kind: []})[kind]
            if platform().startswith("macosx"):
                own = [part for flag in own for part in ("-Xarch_x86_64", flag)]  # a universal wheel holds both
            extension.extra_compile_args = flags + own
            extension.extra_link_args = [flag for flag in flags if flag.startswith("-fsanitize")]
            # a change of flags or compiler makes the objects of an earlier build stale
            said = {name: os.environ.get(name, "") for name in ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "ARCHFLAGS")}
            said["flags"] = extension.extra_compile_args
            record = MADE / "flags" / f"{extension.name}.json"
            extension.depends = [*extension.depends, write_if_changed(record, json.dumps(said, indent=1))]
        try:
            super().build_extensions()
        except Exception as error:
            sys.exit(MISSING.format(error=error))


def extensions():
    """Return one extension per instruction set and the look at the CPU; Cython is imported only where it is needed.

    An extension's initialisation carries its name, so each instruction set gets a copy of the one source under its
    own name.
    """
    from Cython.Build import cythonize

    source = (CORE / "_kernel.pyx").read_text(encoding="utf-8")
    inline = [path.as_posix() for pattern in ("*.pxd", "*.h") for path in sorted(CORE.glob(pattern))]
    wanted = [Extension("fvproc._core._cpu", [(CORE / "_cpu.pyx").as_posix()])]
    for name in instruction_sets():
        copy = write_if_changed(MADE / "sources" / f"_kernel_{name}.pyx", source)
        wanted.append(Extension(f"fvproc._core._kernel_{name}", [copy], include_dirs=[CORE.as_posix()], depends=inline))
    return cythonize(
        wanted,
        # set here and not in the .pyx alone: a .pyx's own directives do not reach the inline functions of its .pxd
        compiler_directives={
            "language_level": 3,
            "boundscheck": bool(DEBUG),
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": bool(DEBUG),
            "freethreading_compatible": True,
        },
        build_dir=(MADE / "c").as_posix(),
        emit_linenums=bool(DEBUG),  # debugger and sanitizers then tell the line of the .pyx or .pxd
    )


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernel})
