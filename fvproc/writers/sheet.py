"""How a figure of matplotlib becomes a file: our style whatever the user's, no dates, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fvproc import provenance as origin
from fvproc.writers import panels

DOTS_PER_INCH = 300

# Matplotlib keeps its settings, fonts and caches for the process as a whole.
_DRAWING = threading.Lock()
_STYLES: tuple[str, ...] = ("axes", "figure.", "font", "grid", "hatch", "image", "legend", "lines", "mathtext")
_STYLES += ("patch", "path", "pdf", "savefig", "svg", "text", "xtick", "ytick")


def store(make: Callable[[], Figure], path: str | PathLike[str], provenance: Mapping[str, Any]) -> None:
    """Write what `make` draws, in the format that the suffix names and in our style; never two at a time.

    Equal figures give equal bytes: no dates, and nothing of the user's settings.
    """
    kind = Path(path).suffix.lower().lstrip(".")
    about = origin.to_json(provenance)
    made_by = f"{origin.PROGRAM} {origin.version()}"
    metadata: dict[str, dict[str, str | None]] = {
        "png": {"Software": made_by, "Description": about},
        "svg": {"Creator": made_by, "Description": about, "Date": None},
        "pdf": {"Creator": made_by, "Subject": about, "CreationDate": None},
    }
    with _DRAWING, matplotlib.rc_context(style()):
        make().savefig(path, format=kind, dpi=DOTS_PER_INCH, metadata=metadata[kind])


def style() -> dict[str, Any]:
    """Return matplotlib's own defaults, whatever the user's settings, and what makes an SVG reproducible."""
    defaults = {
        key: matplotlib.rcParamsDefault[key]
        for key in matplotlib.rcParamsDefault
        if key.startswith(_STYLES) and key not in ("savefig.directory", "figure.raise_window")
    }
    return {**defaults, "svg.hashsalt": origin.PROGRAM}


def new_figure(width: float, height: float) -> Figure:
    """Return an empty page, inches, that pyplot knows nothing of."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def place(picture: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Return axes at a place in inches from the lower left corner."""
    wide, high = picture.get_size_inches()
    axes: Axes = picture.add_axes((left / wide, bottom / high, width / wide, height / high))
    return axes


def panel_title(axes: Axes, letter: str, title: str) -> None:
    """Write letter and title above a panel."""
    where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "baseline"}
    where |= {"color": panels.INK, "parse_math": False}
    axes.annotate(letter, (0, 1), (0, panels.TITLE_PAD), fontsize=panels.NORMAL + 1, fontweight="bold", **where)
    axes.annotate(title, (0, 1), (11, panels.TITLE_PAD), fontsize=panels.NORMAL, **where)
