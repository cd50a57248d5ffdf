"""Every page of the built book: its figures can be read, heard and seen on any screen."""

import re

import pytest
from bs4 import BeautifulSoup
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.slow

WIDTHS = 390, 768, 1280

# What is drawn, wherever it stands.
DRAWN = "svg.drawn, div.drawn, .compare, .cell_output img, article > section img"

CONTRAST = """
    const light = (colour) => {
        const part = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
    };
    const ground = light(getComputedStyle(document.body).backgroundColor);
    const texts = document.querySelectorAll(
        "svg.drawn text, .gallery p, .play label, .play output, figcaption, figcaption p");
    return [...texts].map((text) => {
        const style = getComputedStyle(text);
        const ink = light(text.ownerSVGElement ? style.fill : style.color);
        const ratio = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
        return [ratio, text.textContent.trim()];
    }).filter(([ratio]) => ratio < 4.5);
"""
# Text that leaves its figure.
OUTSIDE = """
    return [...document.querySelectorAll("svg.drawn")].flatMap((svg) => {
        const frame = svg.getBoundingClientRect();
        return [...svg.querySelectorAll("text")].filter((text) => {
            const box = text.getBoundingClientRect();
            return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1
                || box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
        }).map((text) => text.textContent.trim());
    });
"""
# Formulas that leave their box, and whatever leaves the column and cannot be scrolled to.
WIDE = """
    const right = (element) => element.getBoundingClientRect().right;
    const formulas = [...document.querySelectorAll("div.math mjx-container")].filter((box) =>
        [...box.querySelectorAll("mjx-mtd, mjx-math")].some((m) => right(m) > right(box) + 1));
    const column = document.querySelector("article.bd-article");
    const scrolls = (element) => {
        for (let e = element; e !== column; e = e.parentElement)
            if (["auto", "scroll", "hidden"].includes(getComputedStyle(e).overflowX)) return true;
        return false;
    };
    const kinds = "p, li, pre, table, figure, img, svg.drawn, div.drawn, dl, .admonition";
    const others = [...column.querySelectorAll(kinds)].filter((e) =>
        e.offsetParent !== null && right(e) > right(column) + 1 && !scrolls(e));
    return [...formulas, ...others].map((e) => e.tagName + " " + e.textContent.slice(0, 60));
"""
# What has to be scrolled sideways to be seen whole.
SCROLLED = """
    const boxes = [...document.querySelectorAll("article.bd-article *")].filter((e) =>
        e.scrollWidth > e.clientWidth + 1 && e.clientWidth && e.offsetParent !== null
        && ["auto", "scroll"].includes(getComputedStyle(e).overflowX));
    return boxes.map((e) => `${e.tagName} ${e.scrollWidth - e.clientWidth} `
        + e.textContent.trim().slice(0, 60));
"""
SMALLEST = """
    return [...document.querySelectorAll("svg.drawn text")].map((text) => {
        const svg = text.ownerSVGElement;
        const zoom = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
        return [parseFloat(getComputedStyle(text).fontSize) * zoom, text.textContent.trim()];
    }).filter(([size]) => size < 9);
"""
READY = """
    return [...document.images].every((i) => i.complete)
        && [...document.querySelectorAll(".math")].every((m) => m.querySelector("mjx-container"));
"""


def chapters(html):
    """The pages that are read, by name."""
    pages = [p for p in html.rglob("*.html") if "_static" not in p.parts]
    names = [p.relative_to(html).as_posix() for p in pages]
    return sorted({*names} - {"index.html", "search.html", "genindex.html"})


def test_each_figure_has_a_number_a_caption_and_words_for_it(html):
    for name in chapters(html):
        soup = BeautifulSoup((html / name).read_text(), "html.parser")
        for program in soup.select("article .tryit"):  # the page Try it, with its pictures
            program.decompose()
        for drawn in soup.select(DRAWN):
            figure = drawn.find_parent("figure")
            assert figure, f"{name}: a figure without a caption, {str(drawn)[:200]}"
        for figure in soup.select("article figure"):
            number = figure.select_one(".caption-number")
            assert number and re.match(r"Fig\. \d+\.\d+|Fig\. \d+", number.get_text()), name
            caption = figure.select_one(".caption-text").get_text()
            assert len(caption.split()) >= 12, (name, caption)
            for drawn in figure.select("svg.drawn, div.drawn"):
                assert drawn["role"] in ("img", "group")
                assert len(drawn["aria-label"].split()) >= 15, (name, drawn["aria-label"])
            assert all(img["alt"].strip() for img in figure.select("img")), name
        ids = [tag["id"] for tag in soup.select("article [id]")]
        assert len(ids) == len(set(ids)), name


def look(browser, site, name, width, scheme="light"):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700},
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    browser.get(f"{site}/{name}")
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(READY))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_figures_has_contrast(html, browser, site, scheme):
    for name in chapters(html):
        look(browser, site, name, 1280, scheme)
        assert not browser.execute_script(CONTRAST), name


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_its_column(html, browser, site, width):
    for name in chapters(html):
        look(browser, site, name, width)
        assert not browser.execute_script(WIDE), name
        assert not browser.execute_script(OUTSIDE), name
        assert not browser.execute_script(SMALLEST), name
        if width == max(WIDTHS):
            assert not browser.execute_script(SCROLLED), name


def test_crops_are_large(browser, site):
    look(browser, site, "notebooks/pictures.html", 1280)
    sides = browser.execute_script(
        "return [...document.querySelectorAll('.gallery img')].map(i => i.clientWidth)"
    )
    assert len(sides) >= 20
    assert min(sides) >= 320


def test_training_is_watched_by_keys(browser, site):
    look(browser, site, "notebooks/pictures.html", 1280)
    slider = browser.find_element("css selector", ".play-frames input")
    picture = browser.find_element("css selector", ".play-frames img")
    assert picture.value_of_css_property("object-position") == "0px 100%"
    slider.send_keys(Keys.HOME)
    assert slider.get_attribute("aria-valuetext").startswith("step 0: ")
    assert picture.value_of_css_property("object-position") == "0px 0%"
    assert picture.get_attribute("alt").startswith("step 0: ")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert slider.get_attribute("aria-valuetext").startswith("step 1: ")
