"""The report and the viewer: self-contained, closed to others, and right in a real browser where there is one."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import json
import re
import shutil
import threading
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
from test_writers_samples import described, dmt_curve, film_maps

import fvproc as fv
from fvproc.cli import main
from fvproc.errors import FvprocError, OutputError
from fvproc.maps import ParameterMaps
from fvproc.pages import page
from fvproc.pages.viewer import HOST, Viewer
from fvproc.quantities import QUANTITIES, Flag
from fvproc.volume import Grid

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def volume(sei_file):
    return fv.open(sei_file)


@pytest.fixture(scope="module")
def maps(volume):
    return fv.process(volume)


@pytest.fixture(scope="module")
def report(maps, volume, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    fv.write_report(maps, path, volume=volume, pixels=[(20, 30)], embed=6)
    return path


def data_of(text: str) -> dict:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(found)


def test_a_report_needs_nothing_from_elsewhere(report):
    text = report.read_text(encoding="utf-8")
    assert not re.search(r'<(script|link|img|iframe)[^>]+(src|href)="(?!data:)', text)
    assert "connect-src 'none'" in text
    assert "{{" not in text.split("<script")[0]
    assert not list(report.parent.glob("*.tmp*")) and len(list(report.parent.iterdir())) == 1


def test_a_report_holds_every_number_to_the_bit(report, maps):
    data = data_of(report.read_text(encoding="utf-8"))
    assert [q["name"] for q in data["quantities"]] == list(QUANTITIES)
    for quantity in data["quantities"]:
        raw = base64.b64decode(quantity["data"])
        assert raw == np.ascontiguousarray(maps[quantity["name"]], "<f4").tobytes(), quantity["name"]
        assert quantity["unit"] == QUANTITIES[quantity["name"]].unit
    assert base64.b64decode(data["flags"]) == np.ascontiguousarray(maps.flags, "<u4").tobytes()
    assert data["provenance"]["recipe_digest"] == maps.provenance["recipe_digest"]


def test_a_report_holds_the_curves_asked_for_and_a_typical_one_of_each_material(report, maps, volume):
    curves = data_of(report.read_text(encoding="utf-8"))["curves"]
    assert len(curves) == 7 and "20,30" in curves
    truth = fv.explain(volume, None, 20, 30)
    force = np.frombuffer(base64.b64decode(curves["20,30"]["retract_force"]), "<f8")
    np.testing.assert_array_equal(force, truth.retract_force)
    classes = {round(np.log10(maps["modulus"][tuple(map(int, key.split(",")))]), 0) for key in curves}
    assert len(classes) >= 3  # 45 MPa, 1.5 GPa, 10 GPa and more


def test_large_maps_show_pixels_that_were_measured():
    maps = described(ParameterMaps(Grid(1100, 900)))
    maps.records["modulus"] = np.arange(1100 * 900, dtype="f4").reshape(1100, 900)
    data = data_of(page.page(maps, regions={}))
    assert data["grid"] | {"dy": 0, "dx": 0} == {
        "ny": 1100, "nx": 900, "dy": 0, "dx": 0, "unit": "px", "step": 3, "rows": 367, "columns": 300,
    }  # fmt: skip
    modulus = np.frombuffer(base64.b64decode(data["quantities"][0]["data"]), "<f4").reshape(367, 300)
    np.testing.assert_array_equal(modulus, maps["modulus"][::3, ::3])


def test_a_scan_of_unknown_size_is_measured_in_pixels():
    grid = data_of(page.page(described(ParameterMaps(Grid(4, 5))), regions={}))["grid"]
    assert (grid["dy"], grid["dx"], grid["unit"]) == (1, 1, "px")
    grid = data_of(page.page(described(ParameterMaps(Grid(4, 5, 4e-7, 1e-6))), regions={}))["grid"]
    assert (grid["dy"], grid["dx"], grid["unit"]) == (1e-7, 2e-7, "m")


def test_names_of_files_are_text_and_no_markup():
    evil = "</script><script>alert(1)</script><b>&.spm"
    text = page.page(described(film_maps(8, 8), f"/data/{evil}"), regions={})
    assert "<script>alert" not in text and "<b>" not in text
    assert data_of(text)["provenance"]["input"]["name"].endswith("<b>&.spm")


def test_maps_without_any_value_make_a_page():
    text = page.page(ParameterMaps(Grid(3, 4)), regions={"all": np.ones((3, 4), bool)})
    assert data_of(text)["statistics"][0]["count"] == 0


def test_the_command_writes_a_report_once(maps, sei_file, tmp_path, capsys):
    fv.save(maps, tmp_path / "out.h5")
    arguments = [
        "report",
        str(tmp_path / "out.h5"),
        "--curves",
        str(sei_file),
        "--embed",
        "2",
        "--where",
        "modulus>1GPa",
    ]
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out.html")
    data = data_of((tmp_path / "out.html").read_text(encoding="utf-8"))
    assert {one["region"] for one in data["statistics"]} == {"modulus>1GPa"}
    assert len(data["curves"]) == 2
    for wrong, told in (
        (arguments, "--overwrite"),
        ([*arguments, "-o", str(tmp_path / "x.pdf")], ".html"),
        (["report", str(tmp_path / "out.h5"), "--curve", "1,1", "--overwrite"], "--curves"),
        ([*arguments, "--overwrite", "--curve", "99,0"], "48 rows"),
    ):
        assert main(wrong) == 2
        assert told in capsys.readouterr().err
    with pytest.raises(FvprocError, match="its grid"):
        fv.write_report(described(film_maps(8, 8)), tmp_path / "y.html", volume=fv.open(sei_file))


def test_without_plotly_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(page.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OutputError, match=r"fvproc\[report\]"):
        fv.write_report(film_maps(8, 8), tmp_path / "x.html")


@pytest.fixture(scope="module")
def viewer(maps, volume):
    with Viewer(maps, volume) as made:
        thread = threading.Thread(target=made.serve, daemon=True)
        thread.start()
        yield made
        made.stop()
        thread.join(10)


def get(viewer: Viewer, path: str) -> bytes:
    with urlopen(viewer.address + path, timeout=20) as answer:
        return answer.read()


def test_the_viewer_listens_to_this_machine_only(viewer):
    assert viewer._server.server_address[0] == HOST == "127.0.0.1"
    connection = http.client.HTTPConnection(HOST, viewer.port, timeout=20)
    for host, status in ((f"127.0.0.1:{viewer.port}", 200), (f"localhost:{viewer.port}", 200), ("evil.example", 403)):
        connection.request("GET", "/numbers?y=1&x=2", headers={"Host": host})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status, host
    connection.close()


def test_the_viewer_answers_numbers_curves_and_windows(viewer, maps, volume):
    record = json.loads(get(viewer, "numbers?y=7&x=9"))
    assert record["values"]["modulus"] == pytest.approx(float(maps["modulus"][7, 9]), rel=1e-12)
    assert record["flags"] == int(maps.flags[7, 9])
    curve = json.loads(get(viewer, "curve?y=7&x=9"))
    np.testing.assert_array_equal(
        np.frombuffer(base64.b64decode(curve["approach_force"])), fv.explain(volume, None, 7, 9).approach_force
    )
    with urlopen(f"{viewer.address}window?name=adhesion&y0=3&y1=11&x0=5&x1=20", timeout=20) as answer:
        assert answer.headers["X-Window"] == "3,5,8,15,1"
        values = np.frombuffer(answer.read(), "<f4").reshape(8, 15)
    np.testing.assert_array_equal(values, maps["adhesion"][3:11, 5:20])
    assert b"connect-src 'self'" in get(viewer, "")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("curve?y=48&x=0", 400),
        ("curve?y=-1&x=0", 400),
        ("numbers?y=a&x=0", 400),
        ("numbers", 400),
        ("window?name=nothing&y0=0&y1=1&x0=0&x1=1", 400),
        ("window?name=modulus&y0=5&y1=5&x0=0&x1=1", 400),
        ("window?name=modulus&y0=0&y1=49&x0=0&x1=1", 400),
        ("../etc/passwd", 404),
    ],
)
def test_the_viewer_refuses_what_makes_no_sense(viewer, path, status):
    with pytest.raises(HTTPError) as refused:
        get(viewer, path)
    assert refused.value.code == status


def test_a_viewer_without_curves_says_how_to_get_them(maps):
    with pytest.raises(FvprocError, match="--curves"), Viewer(maps) as made:
        made.curve(0, 0)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as running:
        made = running.chromium.launch(executable_path=program, args=["--no-sandbox"])  # root in a container has none
        yield made
        made.close()


def opened(browser, address: str):
    tab = browser.new_page(viewport={"width": 1500, "height": 1100})
    tab.set_default_timeout(120_000)  # a machine may be busy
    tab.faults, tab.asked = [], []
    tab.on("pageerror", lambda error: tab.faults.append(str(error)))
    tab.on("console", lambda message: tab.faults.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.goto(address)
    tab.wait_for_function("document.querySelectorAll('.map .main-svg').length >= 12")
    return tab


def click(tab, number: int, y: int, x: int, shape: tuple[int, int]) -> None:
    """Click the middle of pixel (y, x) in map `number`."""
    box = tab.locator(".map .plot").nth(number).locator(".draglayer .nsewdrag").bounding_box()
    tab.mouse.click(
        box["x"] + (x + 0.5) / shape[1] * box["width"], box["y"] + (1 - (y + 0.5) / shape[0]) * box["height"]
    )


def test_in_a_browser_a_click_shows_the_numbers_of_that_very_pixel(browser, report, maps, tmp_path):
    tab = opened(browser, report.as_uri())
    for map_number, (y, x) in enumerate([(2, 3), (45, 37), (20, 30)]):
        click(tab, map_number, y, x, maps.shape)
        tab.wait_for_function(f"document.getElementById('pixel').textContent === 'Row {y}, column {x}'")
        shown = tab.locator("#numbers").inner_text()
        factor, unit = fv.quantities.readable("N", np.array([maps["peak_force"][y, x]]))
        assert f"{maps['peak_force'][y, x] * factor:.4g} {unit}" in shown
        for flag in Flag:
            assert (f"{str(flag.name).lower()}:" in shown) == bool(int(maps.flags[y, x]) & int(flag)), flag
    assert tab.locator("#note").inner_text() == ""  # (20, 30) is in the report
    assert tab.locator("#curve .scatterlayer .trace").count() >= 4
    click(tab, 0, 40, 2, maps.shape)
    tab.wait_for_function("document.getElementById('note').textContent.includes('nearest')")
    tab.screenshot(path=tmp_path / "report.png", full_page=True)
    assert (tmp_path / "report.png").stat().st_size > 50_000
    assert tab.faults == []
    assert [url for url in tab.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    tab.close()


def test_in_a_browser_maps_zoom_together_and_change_their_quantity(browser, report):
    tab = opened(browser, report.as_uri())
    read = (
        "[...document.querySelectorAll('.map .plot')]"
        ".map((plot) => plot._fullLayout.xaxis.range.map((value) => value.toFixed(4)).join())"
    )
    before = tab.evaluate(read)
    assert len(set(before)) == 1
    tab.evaluate(
        "Plotly.relayout(document.querySelector('.map .plot'), {'xaxis.range': [0.1, 0.3], 'yaxis.range': [0.1, 0.3]})"
    )
    tab.wait_for_function(f"new Set({read}).size === 1 && {read}[0] !== '{before[0]}'")
    tab.locator(".map select").nth(1).select_option("dissipation")
    tab.wait_for_function("document.querySelectorAll('.map .plot')[1].data[0].colorbar.title.text.endsWith('eV')")
    assert len(set(tab.evaluate(read))) == 1
    assert tab.faults == []
    tab.close()


def test_in_a_browser_the_viewer_reads_any_curve(browser, viewer, maps):
    tab = opened(browser, viewer.address)
    click(tab, 1, 33, 11, maps.shape)
    tab.wait_for_function("document.getElementById('pixel').textContent === 'Row 33, column 11'")
    tab.wait_for_function("document.querySelector('#curve').data !== undefined")
    assert any("curve?y=33&x=11" in url for url in tab.asked)
    assert tab.locator("#note").inner_text() == ""
    tab.keyboard.press("ArrowUp")
    tab.wait_for_function("document.getElementById('pixel').textContent === 'Row 34, column 11'")
    assert tab.faults == []
    tab.close()


def test_in_a_browser_a_scan_of_unknown_size_has_pixels_along_its_edges(browser, tmp_path):
    fv.write_report(described(ParameterMaps(Grid(12, 10), film_maps(12, 10).records)), tmp_path / "r.html")
    tab = opened(browser, (tmp_path / "r.html").as_uri())
    shown = tab.evaluate(
        "(({ xaxis: x, yaxis: y }) => [x.title.text, x.range, y.range])(document.querySelector('.map .plot').layout)"
    )
    assert shown == ["x (px)", [0, 10], [0, 12]]
    assert tab.faults == []
    tab.close()


@pytest.fixture(scope="module")
def large() -> ParameterMaps:
    maps = described(ParameterMaps(Grid(600, 600)))
    maps.records["modulus"] = 1e9 + np.arange(360_000, dtype="f4").reshape(600, 600) * 64
    maps.records["adhesion"] = 1e-9
    maps.records["flags"] = 0
    return maps


def test_in_a_browser_numbers_and_curve_of_a_large_map_are_of_one_pixel(browser, large, tmp_path):
    curve = dataclasses.replace(dmt_curve(film_maps(64, 64)), y=301, x=77)
    text = page.page(large, regions={}, curves=[curve])
    assert data_of(text)["curves"]["301,77"]["record"]["values"]["modulus"] == large["modulus"][301, 77]
    (tmp_path / "r.html").write_text(text, encoding="utf-8")
    tab = opened(browser, (tmp_path / "r.html").as_uri())
    tab.wait_for_function("document.querySelector('#curve').data !== undefined")
    assert tab.locator("#pixel").inner_text() == "Row 301, column 77"
    assert f"{large['modulus'][301, 77] / 1e9:.4g} GPa" in tab.locator("#numbers").inner_text()
    assert tab.locator("#note").inner_text() == ""
    for keys in ("Alt+ArrowLeft", "Control+ArrowRight", "Shift+ArrowUp"):
        tab.keyboard.press(keys)
        tab.wait_for_timeout(200)
        assert tab.evaluate("JSON.stringify(pinned)") == "[301,77]", keys
    assert tab.faults == []
    tab.close()


def test_in_a_browser_late_answers_of_the_viewer_change_nothing_and_the_last_zoom_holds(browser, large):
    with Viewer(large) as viewer:
        thread = threading.Thread(target=viewer.serve)
        thread.start()
        try:
            tab = opened(browser, viewer.address)
            # the first window comes after whatever is asked for next
            tab.evaluate(
                "(() => { const plain = window.fetch; let first = true; window.fetch = async (...what) => {"
                " const late = first && String(what[0]).startsWith('window'); if (late) first = false;"
                " const answer = await plain(...what);"
                " if (late) await new Promise((go) => setTimeout(go, 1500)); return answer; }; })()"
            )
            zoom = "Plotly.relayout(slots[{}].plot, {{'xaxis.range': [{}], 'yaxis.range': [{}]}})"
            tab.evaluate(zoom.format(0, "100, 200", "100, 200"))
            tab.wait_for_timeout(300)
            tab.evaluate(zoom.format(1, "300, 340", "300, 340"))
            tab.locator(".map select").nth(0).select_option("adhesion")
            tab.wait_for_timeout(3000)
            ranges = tab.evaluate("slots.map((slot) => slot.plot._fullLayout.xaxis.range.map(Math.round))")
            assert all(found == ranges[0] and found[0] > 250 and found[1] < 400 for found in ranges)
            assert tab.evaluate("slots[0].values[0]") == pytest.approx(1e-9)
            assert tab.evaluate("slots[0].view.y0") > 250
            assert [fault for fault in tab.faults if "404" not in fault] == []  # there is no curve to be had
            tab.close()
        finally:
            viewer.stop()
            thread.join()
