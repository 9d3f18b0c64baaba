"""The viewer: the page of a report served to this machine alone, with any curve read from the file when asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from fvproc import engine
from fvproc.errors import FvprocError
from fvproc.maps import ParameterMaps
from fvproc.pages import page
from fvproc.pictures import materials_or_all, measured
from fvproc.recipe import Recipe
from fvproc.volume import ForceVolume

HOST = "127.0.0.1"  # never another: whoever reaches the port can read the measurement


class Viewer:
    """Serves one output on 127.0.0.1; a context manager.

    Parameters
    ----------
    maps : ParameterMaps
        What to show.
    volume : ForceVolume, optional
        The measurement, from which curves are read one by one, with the calibration of the maps.
    regions : mapping of str to ndarray of bool, shape (ny, nx), optional
        As for `report`.
    port : int
        0 takes any that is free.

    Raises
    ------
    OutputError
        If plotly is missing.
    FvprocError
        If the volume is not what the maps came from or was given another calibration, or the port is taken.
    """

    def __init__(
        self,
        maps: ParameterMaps,
        volume: ForceVolume | None = None,
        *,
        regions: Mapping[str, np.ndarray] | None = None,
        port: int = 0,
    ) -> None:
        self.maps = maps
        self.volume: ForceVolume | None = None
        self._recipe: Recipe | None = None
        if volume is not None:
            self.volume, self._recipe = measured(volume, maps)
        pixel = engine.typical_pixel(maps.flags, maps["modulus"]) if "modulus" in maps else None
        text = page.page(maps, regions=regions or materials_or_all(maps), pixel=pixel, server=True)
        self._page = text.encode()
        self._reading = threading.Lock()  # readers need not be safe for threads
        try:
            self._server = ThreadingHTTPServer((HOST, port), _handler(self))
        except OSError as error:
            raise FvprocError(f"--port {port}: {error.strerror or error}; give another, or 0 for any") from None
        self._server.daemon_threads = True

    def __enter__(self) -> Viewer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.server_close()

    @property
    def port(self) -> int:
        """The port it listens at."""
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self.port}/"

    def serve(self) -> None:
        """Serve until `stop` or Ctrl-C."""
        self._server.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """End `serve`, from another thread."""
        self._server.shutdown()

    def page(self) -> bytes:
        """Return the page."""
        return self._page

    def curve(self, y: int, x: int) -> dict[str, Any]:
        """Return one curve with its fit, as the page takes it."""
        if self.volume is None or self._recipe is None:
            raise FvprocError("The viewer has no curves; start it with --curves FILE.")
        with self._reading:
            return page.curve_data(engine.explain(self.volume, self._recipe, y, x))

    def numbers(self, y: int, x: int) -> dict[str, Any]:
        """Return the record of one pixel; what is no number is None."""
        return page.numbers(self.maps, y, x)

    def window(self, name: str, y0: int, y1: int, x0: int, x1: int) -> tuple[str, bytes]:
        """Return (y0, x0, rows, columns, step as text; values as bytes) of a part of a map, as fine as a page goes."""
        step = page.stride((y1 - y0, x1 - x0))
        values = self.maps[name][y0:y1:step, x0:x1:step]
        return f"{y0},{x0},{values.shape[0]},{values.shape[1]},{step}", np.ascontiguousarray(values, "<f4").tobytes()


def _handler(viewer: Viewer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET for the page, numbers, curves and windows of maps; nothing else."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            # a page of another site that points its own name at 127.0.0.1 comes with that name
            if self.headers.get("Host", "") not in (f"{HOST}:{viewer.port}", f"localhost:{viewer.port}"):
                self._answer(HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", b"this address only")
                return
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            try:
                self._route(parts.path, query)
            except (KeyError, ValueError, IndexError) as error:
                self._answer(HTTPStatus.BAD_REQUEST, "text/plain; charset=utf-8", f"not understood: {error}".encode())
            except (FvprocError, OSError) as error:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", str(error).encode())

        def _route(self, path: str, query: Mapping[str, str]) -> None:
            if path == "/":
                self._answer(HTTPStatus.OK, "text/html; charset=utf-8", viewer.page())
            elif path in ("/curve", "/numbers"):
                y, x = (_within(int(query[name]), size) for name, size in zip("yx", viewer.maps.shape, strict=True))
                told = viewer.curve(y, x) if path == "/curve" else viewer.numbers(y, x)
                self._answer(HTTPStatus.OK, "application/json", json.dumps(told, allow_nan=False).encode())
            elif path == "/window":
                ny, nx = viewer.maps.shape
                y0, x0 = _within(int(query["y0"]), ny), _within(int(query["x0"]), nx)
                y1, x1 = y0 + 1 + _within(int(query["y1"]) - y0 - 1, ny - y0), int(query["x1"])
                x1 = x0 + 1 + _within(x1 - x0 - 1, nx - x0)
                if query["name"] not in viewer.maps.quantities:
                    raise KeyError(query["name"])
                where, content = viewer.window(query["name"], y0, y1, x0, x1)
                self._answer(HTTPStatus.OK, "application/octet-stream", content, {"X-Window": where})
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"no such page")

        def _answer(self, status: HTTPStatus, kind: str, content: bytes, more: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store"}
            headers |= {"X-Content-Type-Options": "nosniff", **(more or {})}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: what is looked at is nobody's business."""

    return Handler


def _within(value: int, size: int) -> int:
    if not 0 <= value < size:
        raise IndexError(f"{value} is outside 0 … {size - 1}")
    return value
