"""Makes the pictures of docs/images anew: python docs/make_images.py [FOLDER]

FOLDER holds what `fvproc demo FOLDER` left, or will. Needs `pip install ".[plot,report]" playwright`, and for the
screenshots of report and viewer a Chromium or Chrome.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from pathlib import Path

import fvproc as fv
from fvproc.cli import main as fvproc
from fvproc.pages.viewer import Viewer

IMAGES = Path(__file__).parent / "images"
WIDTH = 1300  # pixels: what a page shows, and no more in the repository
KINDS = ("maps", "histogram", "correlation", "density", "curves", "flags", "topography")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def shrink(source: Path, target: Path) -> None:
    """Write a picture of `WIDTH` pixels, 256 colours."""
    from PIL import Image

    with Image.open(source) as image:
        small = image.convert("RGB")
        if small.width > WIDTH:
            small = small.resize((WIDTH, round(small.height * WIDTH / small.width)), Image.Resampling.LANCZOS)
        small.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
    print(target)


def pictures(demo: Path, scratch: Path) -> None:
    """Make those of `fvproc plot`."""
    for kind in KINDS:
        made = scratch / f"{kind}.png"
        arguments = [
            "plot",
            str(demo / "demo.h5"),
            "--kind",
            kind,
            "--curves",
            str(demo / "curves.h5"),
            "-o",
            str(made),
        ]
        if fvproc(arguments):
            raise SystemExit(f"fvproc {' '.join(arguments)}: failed")
        shrink(made, IMAGES / made.name)


def screenshots(demo: Path, scratch: Path) -> None:
    """Make those of report and viewer, as a browser shows them."""
    from playwright.sync_api import sync_playwright

    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        print(f"no screenshots: none of {', '.join(BROWSERS)} is installed", file=sys.stderr)
        return
    maps, volume = fv.load(demo / "demo.h5"), fv.open(demo / "curves.h5")
    fv.write_report(maps, scratch / "report.html", volume=volume)
    with Viewer(maps, volume) as viewer, sync_playwright() as running:
        threading.Thread(target=viewer.serve, daemon=True).start()
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, address in (("report", (scratch / "report.html").as_uri()), ("viewer", viewer.address)):
            tab = browser.new_page(viewport={"width": 1500, "height": 1000})
            tab.goto(address)
            tab.wait_for_function("document.querySelectorAll('#curve .trace').length >= 4")
            if name == "viewer":  # another pixel, closer: zoomed in, all maps follow
                part = "{'xaxis.range': [0.55, 0.95], 'yaxis.range': [0.55, 0.95]}"
                tab.evaluate(f"Plotly.relayout(document.querySelector('.map .plot'), {part}).then(() => pin(200, 190))")
                tab.wait_for_function("document.getElementById('pixel').textContent === 'Row 200, column 190'")
            tab.wait_for_timeout(1500)  # until everything is drawn
            tab.screenshot(path=scratch / f"{name}.png")
            shrink(scratch / f"{name}.png", IMAGES / f"{name}.png")
        browser.close()
        viewer.stop()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        demo = Path(sys.argv[1]) if len(sys.argv) > 1 else scratch
        if not (demo / "demo.h5").exists() and fvproc(["demo", str(demo)]):
            raise SystemExit("fvproc demo: failed")
        pictures(demo, scratch)
        screenshots(demo, scratch)


if __name__ == "__main__":
    main()
