"""The page in a real browser: Chromium with the keyboard, narrow, dark, printed, and under axe's rules."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from ddpm_bench.report.index import build_index, views
from ddpm_bench.report.several import build_joint
from ddpm_bench.report.source import ResultsView
from tests.report.conftest import Example

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

pytestmark = pytest.mark.slow

AXE = files("axe_core_python").joinpath("axe.min.js")
FAULTS = '<p style="color:#bbb;background:#fff">pale</p><button></button>'
VIEWPORT = (1100, 900)
STILL = {"name": "prefers-reduced-motion", "value": "reduce"}
"""A click lands where the page is, not where it is scrolling to."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """One headless Chromium for all tests."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    profile = tmp_path_factory.mktemp("profile")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                     "--disable-background-networking", "--hide-scrollbars", f"--user-data-dir={profile}"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    found.set_script_timeout(300)  # axe looks at thousands of elements, and the machine may be busy
    yield found
    found.quit()


@pytest.fixture(scope="module")
def pages(example: Example, claimed: Example, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report with claims, one with failures, a joint one, and the index."""
    out = tmp_path_factory.mktemp("reports")
    suites = [ResultsView(claimed.runs, claimed.suite), ResultsView(example.runs, example.suite)]
    for given in (claimed, example):
        shutil.copytree(given.page.parent, out / given.suite)
    index = build_index(views(claimed.runs, out), out)
    return {
        "report": out / claimed.suite / "index.html", "trouble": out / example.suite / "index.html",
        "joint": build_joint(suites, out), "index": index,
    }  # fmt: skip


@pytest.fixture
def show(browser: webdriver.Chrome, pages: dict[str, Path]) -> Iterator[object]:
    """Opens one of the pages, in a window of so many pixels and a colour scheme; nothing may complain meanwhile."""

    def opened(name: str, size: tuple[int, int] = VIEWPORT, scheme: str = "light") -> webdriver.Chrome:
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}, STILL]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get(pages[name].as_uri())
        return browser

    browser.get_log("browser")
    yield opened
    assert browser.get_log("browser") == []  # errors of scripts, refusals of the policy


def column(browser: webdriver.Chrome, index: int) -> list[str]:
    """data-sort of a column of the results table, from the top, of the rows that are shown."""
    rows = browser.find_elements(By.CSS_SELECTOR, "#results-table tbody.rows tr")
    return [row.find_elements(By.XPATH, "./*")[index].get_attribute("data-sort") for row in rows if row.is_displayed()]


def heading(browser: webdriver.Chrome, text: str) -> tuple[int, object]:
    """(place, button) of the heading of the results table that begins like this."""
    heads = browser.find_elements(By.CSS_SELECTOR, "#results-table thead th")
    texts = [head.text for head in heads]
    place = next(index for index, found in enumerate(texts) if found.startswith(text))
    return place, heads[place].find_element(By.TAG_NAME, "button")


def test_headings_sort_and_say_so(show):
    browser = show("trouble")
    place, button = heading(browser, "bits/dim")
    before = column(browser, place)
    button.click()
    numbers = [float(text) for text in column(browser, place)]
    assert numbers == sorted(float(text) for text in before) != [float(text) for text in before]
    head = button.find_element(By.XPATH, "..")
    assert head.get_attribute("aria-sort") == "ascending"
    button.click()
    assert [float(text) for text in column(browser, place)] == numbers[::-1]
    assert head.get_attribute("aria-sort") == "descending"
    _, other = heading(browser, "prediction")
    other.click()
    assert head.get_attribute("aria-sort") is None
    assert len(browser.find_elements(By.CSS_SELECTOR, "#results-table [aria-sort]")) == 1
    # rows without a value stay last, whichever way
    place, button = heading(browser, "kernel distance")
    for _ in range(2):
        button.click()
        empty = [text == "" for text in column(browser, place)]
        assert empty == sorted(empty)


def test_filter_keeps_the_rows_with_every_word(show):
    browser = show("trouble")
    box = browser.find_element(By.CSS_SELECTOR, ".filter input")
    assert len(column(browser, 0)) == 8
    box.send_keys("ε VLB")
    assert set(column(browser, 0)) == {"ε"}
    assert len(column(browser, 0)) == 2
    box.send_keys(" nothing")
    assert column(browser, 0) == []
    box.send_keys(Keys.CONTROL + "a", Keys.DELETE)
    assert len(column(browser, 0)) == 8


def test_the_keyboard_reaches_and_works_everything(show):
    browser = show("report")
    wanted = browser.execute_script(
        "return [...document.querySelectorAll('a[href], button, input, summary, [tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility()).length"
    )
    seen, names = set(), []
    for _ in range(wanted + 5):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        if active.id in seen:
            continue
        seen.add(active.id)
        names.append(active.tag_name)
        if active.tag_name in ("a", "button", "input", "summary"):
            assert active.value_of_css_property("outline-style") != "none", active.get_attribute("outerHTML")[:200]
    # `body`, where the focus goes at the end of the page, is not one of them
    assert len(seen) - names.count("body") == wanted
    place, button = heading(browser, "bits/dim")
    browser.execute_script("arguments[0].focus()", button)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    numbers = [float(text) for text in column(browser, place)]
    assert numbers == sorted(numbers)
    summary = browser.find_element(By.XPATH, "//summary[starts-with(., 'Protocol of each')]")
    browser.execute_script("arguments[0].focus()", summary)
    summary.send_keys(Keys.SPACE)
    assert summary.find_element(By.XPATH, "..").get_attribute("open") is not None


@pytest.mark.parametrize("name", ["report", "trouble", "joint", "index"])
def test_a_narrow_window_has_no_sideways_scroll(show, name: str):
    browser = show(name, size=(400, 800))
    page = "document.documentElement"
    assert browser.execute_script(f"return [{page}.scrollWidth, {page}.clientWidth, innerWidth]") == [400, 400, 400]


def luminance(colour: str) -> float:
    """Relative luminance of "rgb(r, g, b)". Source: WCAG 2.2, definition of relative luminance."""
    levels = [int(text) / 255 for text in re.findall(r"\d+", colour)[:3]]
    linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_light_and_dark_follow_the_reader_and_figures_stay_on_white(show):
    paper = {}
    for scheme in ("light", "dark"):
        browser = show("report", scheme=scheme)
        body = browser.find_element(By.TAG_NAME, "body")
        paper[scheme] = luminance(body.value_of_css_property("background-color"))
        ink = luminance(body.value_of_css_property("color"))
        lighter, darker = max(paper[scheme], ink), min(paper[scheme], ink)
        assert (lighter + 0.05) / (darker + 0.05) > 7  # WCAG 2.2, 1.4.6
        for sheet in browser.find_elements(By.CSS_SELECTOR, ".sheet"):
            assert luminance(sheet.value_of_css_property("background-color")) == 1
    assert paper["light"] > 0.9
    assert paper["dark"] < 0.05


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("report", "light"),
        ("report", "dark"),
        ("trouble", "light"),
        ("joint", "light"),
        ("index", "light"),
        ("index", "dark"),
    ],
)
def test_axe_finds_nothing_serious(show, name: str, scheme: str):
    """axe-core runs outside of the page's policy; closed details are opened, so that what they hold is looked at.

    In the dark it looks at contrasts alone. What is inside of a figure is one image to it, as to a screen reader.
    """
    browser = show(name, scheme=scheme)
    browser.execute_script("for (const found of document.querySelectorAll('details')) found.open = true")
    assert serious(browser, "runOnly: ['color-contrast'], " if scheme == "dark" else "") == []


def serious(browser: webdriver.Chrome, rules: str = "") -> list[str]:
    """What axe finds on the open page that is serious or critical."""
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    results = browser.execute_async_script(
        "const done = arguments[0], context = {include: document, exclude: [['svg[role=img] > *']]};"
        f"axe.run(context, {{{rules}resultTypes: ['violations']}}).then(done, error => done(String(error)))"
    )
    assert isinstance(results, dict), results
    return [
        f"{found['id']}: {found['nodes'][0]['html'][:200]} ({len(found['nodes'])} nodes)"
        for found in results["violations"]
        if found["impact"] in ("serious", "critical")
    ]


def test_axe_would_find_faults(show):
    browser = show("index")
    browser.execute_script("document.querySelector('main').insertAdjacentHTML('beforeend', arguments[0])", FAULTS)
    found = {text.partition(":")[0] for text in serious(browser)}
    assert found == {"color-contrast", "button-name"}


def test_it_prints(show):
    """Pages come out, without what only a screen needs: the list of sections, the filter, closed details."""
    browser = show("report")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    assert len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(printed["data"]))) > 2
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    for selector in ("nav", ".filter", "details:not([open])"):
        assert not any(found.is_displayed() for found in browser.find_elements(By.CSS_SELECTOR, selector))
    shown = browser.find_elements(By.CSS_SELECTOR, ".verdicts > li, #results-table, .sheet svg")
    assert len(shown) > 10
    assert all(found.is_displayed() for found in shown if found.tag_name != "svg")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
