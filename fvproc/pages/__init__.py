"""Pages for a browser: the report, one file without network; the viewer, which reads curves as they are asked for."""

from __future__ import annotations
