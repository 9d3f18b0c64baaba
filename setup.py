"""The only build logic: the Cython kernel, one table of compiler flags, a debug switch.

FVPROC_DEBUG=1 builds with bounds checks, integer-overflow traps and debug information;
FVPROC_DEBUG=sanitize adds the address and undefined-behaviour sanitizers (gcc and clang).
"""

import os
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("FVPROC_DEBUG", "")

# No -march: wheels are portable. No fast-math and no contraction to fused multiply-add: the same bits on every
# instruction set. -g0: the build does not depend on the folder it is made in.
FLAGS = {
    "unix": ["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-g0", "-Wno-psabi"],
    "msvc": ["/O2", "/fp:precise"],
}
DEBUG_FLAGS = {
    "unix": ["-O1", "-g", "-ffp-contract=off", "-ftrapv"],
    "msvc": ["/Od", "/Zi", "/fp:precise"],
}
SANITIZE = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]

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


class BuildKernel(build_ext):
    """Choose the flags of the compiler at hand; a failed compile fails the install, and says what is missing."""

    def build_extensions(self):
        table = DEBUG_FLAGS if DEBUG else FLAGS
        flags = table.get(self.compiler.compiler_type, FLAGS["unix"])
        for extension in self.extensions:
            extension.extra_compile_args = list(flags)
            if DEBUG == "sanitize" and self.compiler.compiler_type == "unix":
                extension.extra_compile_args += SANITIZE
                extension.extra_link_args = list(SANITIZE)
        try:
            super().build_extensions()
        except Exception as error:
            sys.exit(MISSING.format(error=error))


def extensions():
    """Return the kernel's extension; Cython is imported late so that a plain `setup.py --version` needs none."""
    from Cython.Build import cythonize

    return cythonize(
        [Extension("fvproc._core._kernel", ["fvproc/_core/_kernel.pyx"], include_dirs=["fvproc/_core"])],
        # set here and not in the .pyx alone: a .pyx's own directives do not reach the inline functions of its .pxd
        compiler_directives={
            "language_level": 3,
            "boundscheck": bool(DEBUG),
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": bool(DEBUG),
            "freethreading_compatible": True,
        },
        build_dir="build/cython",
    )


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernel})
