"""The page of an evaluation as a reader uses it: in a real browser, without a network."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.learn.conftest import random_artefact
from tests.street import PROTOCOL, demo_scene
from trajpred.report import examine, page
from trajpred.windows import DataSource

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'"
)
image = pytest.importorskip("PIL.Image", reason="pillow is not installed: pip install -e '.[viz]'")

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome", "microsoft-edge")
PAPER = {"light": (255, 255, 255), "dark": (0x15, 0x18, 0x1C)}
BLUE = {"light": (0x00, 0x72, 0xB2), "dark": (0x56, 0xB4, 0xE9)}
ORANGE = {"light": (0xD5, 0x5E, 0x00), "dark": (0xF0, 0xA0, 0x20)}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        found = next(filter(None, map(shutil.which, NAMES)), None)
        if found is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip(
                f"no browser: install one of {', '.join(NAMES)}, or run `playwright install chromium`"
            )
        opened = driver.chromium.launch(executable_path=found)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What was found on a small street with a small model of four paths, and the page about it."""
    folder = tmp_path_factory.mktemp("report")
    model = random_artefact(folder / "m.onnx")
    source = DataSource("street", (demo_scene(seconds=15.0, seed=3),), PROTOCOL, streamed=True)
    found = examine(str(model), source)
    path = folder / "report.html"
    path.write_text(page(found, "trajpred evaluate"), encoding="utf-8")
    return found, path


@pytest.fixture
def opened(browser, report):
    """Opens the page; at the end: nothing was complained about, and nothing but the page was asked for."""
    complaints, requests, contexts = [], [], []

    def at(width: int = 1400, scheme: str = "light", fragment: str = ""):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(report[1].as_uri() + fragment)
        return tab

    yield at
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url.partition("#")[0] for url in requests} == {report[1].as_uri()}


def shown(tab) -> list[str]:
    """The anchors of the cases that can be seen, in their order on the page."""
    return tab.evaluate(
        """() => Array.from(document.querySelectorAll(".case")).filter(one => one.checkVisibility())
            .sort((a, b) => {
                const [p, q] = [a.getBoundingClientRect(), b.getBoundingClientRect()];
                return p.top - q.top || p.left - q.left;
            }).map(one => one.id)"""
    )


def pixels(element) -> np.ndarray:
    """(H, W, 3) what is seen of an element."""
    return np.asarray(image.open(io.BytesIO(element.screenshot())).convert("RGB")).astype(int)


def near(seen: np.ndarray, colour: tuple[int, int, int]) -> int:
    """How many pixels have this colour."""
    return int((np.abs(seen - colour).max(axis=2) <= 3).sum())


def words(value) -> str:
    return value.name.lower().replace("_", " ")


def test_cases_are_filtered_by_class_and_motion(opened, report):
    tab, cases = opened(), report[0].witness.cases()
    assert shown(tab) == [case.anchor for case in cases]
    labels = {words(case.label) for case in cases}
    assert len(labels) > 1
    for label in sorted(labels):
        tab.get_by_label("Class", exact=True).select_option(label)
        expected = [case for case in cases if words(case.label) == label]
        assert shown(tab) == [case.anchor for case in expected]
        assert tab.locator("#case-count").inner_text() == f"{len(expected)} of {len(cases)} shown"
        for motion in sorted({words(case.motion) for case in cases}):
            tab.get_by_label("Motion", exact=True).select_option(motion)
            assert shown(tab) == [case.anchor for case in expected if words(case.motion) == motion]
        tab.get_by_label("Motion", exact=True).select_option("all")
    tab.get_by_label("Class", exact=True).select_option("all")
    assert len(shown(tab)) == len(cases)


@pytest.mark.parametrize(
    ("order", "key"),
    [
        (r"^best of 4", lambda case: -case.error["min_ade_6"]),
        (r"single path", lambda case: -case.error["fde_single"]),
        (r"earliest", lambda case: case.stamp_ns),
        (r"class", lambda case: (words(case.label), words(case.motion))),
    ],
    ids=["error", "single", "time", "class"],
)
def test_cases_are_sorted(order, key, opened, report):
    tab, cases = opened(), report[0].witness.cases()
    (option,) = (
        text
        for text in tab.get_by_label("Order", exact=True).locator("option").all_inner_texts()
        if re.search(order, text)
    )
    tab.get_by_label("Order", exact=True).select_option("earliest first")
    tab.get_by_label("Order", exact=True).select_option(option)
    assert shown(tab) == [case.anchor for case in sorted(cases, key=key)]


def test_a_link_shows_its_case_even_where_it_was_filtered_out(opened, report):
    cases = report[0].witness.cases()
    last = cases[-1]
    tab = opened(fragment=f"#{last.anchor}")
    assert tab.locator(f"#{last.anchor} svg").first.is_visible()
    box = tab.locator(f"#{last.anchor}").bounding_box()
    assert -1 <= box["y"] < 900
    other = next(words(case.label) for case in cases if case.label != last.label)
    tab.get_by_label("Class", exact=True).select_option(other)
    assert last.anchor not in shown(tab)
    tab.evaluate("anchor => { location.hash = ''; location.hash = anchor; }", last.anchor)
    tab.wait_for_function("anchor => !document.getElementById(anchor).hidden", arg=last.anchor)
    assert len(shown(tab)) == len(cases)


@pytest.mark.parametrize(("system", "other"), [("light", "dark"), ("dark", "light")])
def test_colours_follow_the_system_and_the_button(system, other, opened):
    tab = opened(scheme=system)

    def ground() -> tuple[int, ...]:
        return tuple(
            map(int, re.findall(r"\d+", tab.evaluate("getComputedStyle(document.body).backgroundColor")))
        )

    button = tab.get_by_role("button", name="colours")
    assert ground() == PAPER[system]
    assert button.inner_text().lower() == f"{other} colours"
    button.click()
    assert ground() == PAPER[other]
    assert button.inner_text().lower() == f"{system} colours"
    button.click()
    assert ground() == PAPER[system]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_main_parts_can_be_seen(scheme, opened, report):
    tab = opened(scheme=scheme)
    chart = pixels(tab.locator("section", has=tab.locator("#horizon")).locator("figure svg").first)
    diagram = pixels(tab.locator("section", has=tab.locator("#calibration")).locator("figure svg").first)
    case = pixels(tab.locator(".case figure svg").first)
    for seen in (chart, diagram, case):
        assert near(seen, BLUE[scheme]) > 30
    for seen in (chart, case):
        assert near(seen, ORANGE[scheme]) > 30
    assert len(np.unique(pixels(tab.locator("table").first).reshape(-1, 3), axis=0)) > 10
    for one in tab.locator(".case figure > svg").all():
        assert len(np.unique(pixels(one).reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_it_fits_any_width_and_no_text_lies_on_another(width, opened):
    tab = opened(width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    overlaps, least_px = tab.evaluate(
        """() => {
            const overlaps = [];
            let least = Infinity;
            for (const svg of document.querySelectorAll("figure > svg")) {
                const texts = Array.from(svg.querySelectorAll("text"));
                const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
                const size = one => parseFloat(getComputedStyle(one).fontSize) * scale;
                least = Math.min(least, ...texts.map(size));
                const boxes = texts.map(one => one.getBoundingClientRect());
                boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b, j) => {
                    if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
                        overlaps.push([texts[i].textContent, texts[i + 1 + j].textContent]);
                }));
            }
            return [overlaps, least];
        }"""
    )
    assert overlaps == []
    assert least_px >= 8


def test_it_prints_dark_on_white_without_controls(opened):
    tab = opened(scheme="dark")
    tab.get_by_role("button", name="colours").click()
    tab.get_by_role("button", name="colours").click()
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not tab.locator("#case-controls").is_visible()
    assert not tab.locator("#theme").is_visible()
    assert tab.locator(".case").first.is_visible()
    tab.set_viewport_size({"width": 700, "height": 1000})  # a sheet of A4 without its margins, at 96 dpi
    assert tab.evaluate("document.documentElement.scrollWidth") <= 700


def test_it_can_be_read_without_scripts(browser, report):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(report[1].as_uri())
    assert tab.locator(".case").last.is_visible()
    assert not tab.locator("#case-controls").is_visible()
    assert not tab.locator("#theme").is_visible()
    context.close()
