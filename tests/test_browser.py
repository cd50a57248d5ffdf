"""The built book in a real browser: nothing fails to load, draw or fit."""

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.slow

DRAWN = """
    return [...document.images].every(i => i.complete)
        && [...document.querySelectorAll(".math")].every(m => m.querySelector("mjx-container"))
"""
BROKEN = "return [...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
SCREENS = {"desktop": (1280, 900), "phone": (390, 844)}


def pages(html):
    """Every page that the table of contents leads to."""
    return [p for p in html.rglob("*.html") if "_static" not in p.parts]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_pages_load_draw_and_fit(html, site, browser, screen, scheme):
    width, height = SCREENS[screen]
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": screen == "phone"},
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    for page in pages(html):
        name = page.relative_to(html).as_posix()
        browser.get(f"{site}/{name}")
        WebDriverWait(browser, 20).until(lambda b: b.execute_script(DRAWN))
        assert not browser.execute_script(BROKEN), name
        assert browser.execute_script("return document.documentElement.dataset.theme") == scheme
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, name
        log = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
        assert not log, name


def split(browser):
    return browser.execute_script(
        "return parseFloat(document.querySelector('.compare').style.getPropertyValue('--split'))"
    )


@pytest.fixture
def front(site, browser):
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(f"{site}/intro.html")
    return browser.find_element("css selector", ".compare input")


def test_slider_moves_by_key_and_by_mouse(browser, front):
    assert split(browser) == 50
    front.send_keys(Keys.ARROW_RIGHT)
    assert split(browser) == 51
    quarter = front.size["width"] // 4
    ActionChains(browser).move_to_element(front).click_and_hold().move_by_offset(
        quarter, 0
    ).release().perform()
    assert split(browser) == pytest.approx(75, abs=3)
    over = browser.find_element("css selector", ".compare-over")
    assert f"{100 - split(browser):g}%" in over.value_of_css_property("clip-path")


def test_slider_moves_by_touch(browser, front):
    box = browser.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'});"
        "return arguments[0].getBoundingClientRect().toJSON();",
        front,
    )
    for kind, share in (("touchStart", 0.5), ("touchMove", 0.3), ("touchMove", 0.2)):
        point = {"x": box["x"] + share * box["width"], "y": box["y"] + box["height"] / 2}
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert split(browser) == pytest.approx(20, abs=4)


def test_search_finds_a_word(site, browser):
    browser.get(f"{site}/search.html?q=momentum")
    found = WebDriverWait(browser, 20).until(
        lambda b: b.find_elements("css selector", "#search-results li a")
    )
    assert any("recipe.html" in link.get_attribute("href") for link in found)
