"""The page Try it in a real browser: it enlarges pictures as the package does."""

from io import BytesIO

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from selenium.webdriver.support.ui import WebDriverWait

from vdsr import imresize, load_images, upscale

pytestmark = pytest.mark.slow

PHOTO = load_images("samples-test")["astronaut"]


@pytest.fixture(scope="module")
def page(html, site):
    """The page's address."""
    if not (html / "_static" / "tryit").exists():
        pytest.skip("the book has no ONNX Runtime Web: make book fetches it where npm is installed")
    return f"{site}/tryit.html"


@pytest.fixture
def tryit(page, browser):
    """A browser that has the page open."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    if browser.current_url != page:  # or its workers would start again
        browser.get(page)
    set_factor(browser, 2)
    wait(browser, lambda: find(browser, "form").is_displayed())
    return browser


def wait(browser, condition):
    """Wait until something is so, for long: the machine may be busy."""
    return WebDriverWait(browser, 600).until(lambda _: condition())


def find(browser, selector):
    return browser.find_element("css selector", f"#tryit {selector}")


def set_factor(browser, factor):
    browser.execute_script(
        "arguments[0].value = arguments[1]", find(browser, "[type=number]"), factor
    )


def choose(browser, path):
    find(browser, "[type=file]").send_keys(str(path))


def drop(browser, content, name, kind):
    script = """
        const data = new DataTransfer();
        data.items.add(new File([arguments[0]], arguments[1], {type: arguments[2]}));
        document.querySelector("h1").dispatchEvent(
            new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
    """
    browser.execute_script(script, content, name, kind)


def end(browser):
    """Wait for the end of the work, and return what the page says."""
    text, progress = find(browser, ".tryit-status"), find(browser, ".tryit-progress")
    wait(browser, lambda: text.text and not progress.is_displayed())
    return text.text


def save(browser, folder, name):
    """Save the result as a reader does, and return it."""
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
    )
    find(browser, ".tryit-after button").click()
    wait(browser, (folder / name).exists)
    with Image.open(folder / name) as image:
        return np.asarray(image)


def picture(kind):
    """A cut from a photograph, whose result at ×2 is more than one tile."""
    rgb = PHOTO[70:94, 150:285]
    if kind == "grey":
        return np.rot90(rgb[..., 1])  # tiles below one another
    if kind == "RGBA":  # from clear to opaque, where there is a hole; and colours hidden in both
        alpha = np.tile(np.linspace(-80, 500, rgb.shape[1]).clip(0, 255).astype(np.uint8), (24, 1))
        y, x = np.ogrid[:24, : rgb.shape[1]]
        alpha[(y - 12) ** 2 + (x - 100) ** 2 < 80] = 0
        return np.dstack([rgb, alpha])
    return rgb


@pytest.mark.parametrize("factor", [1, 1.3, 2, 2.5])
@pytest.mark.parametrize("kind", ["RGB", "grey", "RGBA"])
def test_result_is_that_of_the_package(tryit, tmp_path, kind, factor):
    image = picture(kind)
    Image.fromarray(image).save(tmp_path / "photo.png")
    set_factor(tryit, factor)
    choose(tryit, tmp_path / "photo.png")
    height, width = (int(np.ceil(n * factor)) for n in image.shape[:2])
    said = end(tryit)
    assert f"from {image.shape[1]}×{image.shape[0]} pixels to {width}×{height} pixels" in said
    assert "by WebAssembly on" in said
    saved = save(tryit, tmp_path, f"photo-x{factor}.png").astype(float)
    wanted = upscale(image, factor, precision="float32").astype(float)
    if kind == "grey":
        assert np.ptp(saved, axis=2).max() == 0
        saved = saved[..., 0]
    assert saved.shape == wanted.shape
    if kind == "RGBA":
        assert np.abs(saved[..., 3] - wanted[..., 3]).max() <= 1
        saved, wanted = (p[(saved[..., 3] > 0) & (wanted[..., 3] > 0)] for p in (saved, wanted))
        assert len(saved) > 1000
    else:
        bicubic = imresize(image, factor).clip(0, 255)
        assert factor == 1 or np.abs(wanted - bicubic).max() > 10  # the network does something
    assert np.abs(saved - wanted).max() <= 1


@pytest.mark.parametrize("name", ["grey.jpg", "colour.jpg", "colour.png", "colour.bmp", "grey.gif"])
def test_grey_stored_as_colour_is_told_from_grey(tryit, tmp_path, name):
    grey = picture("grey")[:60]
    colour = np.dstack(3 * [grey])
    # Otherwise nothing would be told apart: the network makes another thing of either.
    assert (
        np.abs(
            upscale(grey, 2, precision="float32").astype(float)
            - upscale(colour, 2, precision="float32")[..., 0]
        ).max()
        > 2
    )
    exif = Image.Exif()
    exif[270] = "x" * 3000  # a JPEG's first part, to be skipped
    options = {"exif": exif, "quality": 95} if name.endswith("jpg") else {}
    Image.fromarray(colour if "colour" in name else grey).save(tmp_path / name, **options)
    choose(tryit, tmp_path / name)
    end(tryit)
    saved = save(tryit, tmp_path, f"{name[:-4]}-x2.png").astype(float)
    wanted = upscale(tmp_path / name, 2, precision="float32").astype(float)
    wanted = np.dstack(3 * [wanted]) if wanted.ndim == 2 else wanted
    assert np.abs(saved - wanted).max() <= 1


def test_a_gpu_gives_the_same(launch, page, tmp_path):
    browser = launch("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
    # The page takes no GPU that is only imitated on the processor, and here no other is wanted.
    script = "Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', {value: false})"
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    browser.get(page)
    has_gpu = "navigator.gpu.requestAdapter().then((a) => arguments[0](a !== null))"
    if not browser.execute_async_script(has_gpu):
        pytest.skip("this Chromium has no WebGPU, imitated or not")
    image = PHOTO[100:106, 200:208]
    Image.fromarray(image).save(tmp_path / "photo.png")
    choose(browser, tmp_path / "photo.png")
    assert end(browser).endswith("by WebGPU.")
    saved = save(browser, tmp_path, "photo-x2.png").astype(float)
    assert np.abs(saved - upscale(image, 2, precision="float32")).max() <= 1


RESIZE = """
    const [pixels, height, width, scale, box, done] = arguments;
    import("./_static/tryit/enlarge.js").then(({axisWeights, interpolate, toPixels}) => {
        const rows = axisWeights(height, scale, box[0], box[1]);
        const columns = axisWeights(width, scale, box[2], box[3]);
        const source = [];
        for (let y = rows.start; y < rows.end; y++)
            for (let x = columns.start; x < columns.end; x++)
                source.push(...pixels.slice(4 * (y * width + x), 4 * (y * width + x) + 4));
        const planes = interpolate(source, {grey: false, alpha: false}, rows, columns);
        done([...toPixels(planes)]);
    }).catch((error) => done(String(error)));
"""


@pytest.mark.parametrize("scale", [0.5, 0.62, 0.97, 1, 1.1, 4 / 3, 2, 2.5, 3, 3.99, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 5), (24, 31)])
def test_bicubic_is_that_of_the_package(tryit, size, scale):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 4), np.uint8)
    pixels[..., 3] = 255
    wanted = imresize(pixels, scale).clip(0, 255)
    height, width = wanted.shape[:2]
    for y0, y1, x0, x1 in [(0, height, 0, width), (height // 2, height, width // 3, width)]:
        found = tryit.execute_async_script(
            RESIZE, pixels.ravel().tolist(), *size, scale, [y0, y1, x0, x1]
        )
        found = np.reshape(found, (y1 - y0, x1 - x0, 4))
        assert np.abs(found - wanted[y0:y1, x0:x1]).max() <= 0.5 + 1e-6


def test_what_is_not_a_picture_gets_a_sentence(tryit, tmp_path):
    drop(tryit, "Buy milk.", "notes.txt", "text/plain")
    assert end(tryit).startswith("notes.txt is not a picture that this browser can read.")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0 and then nothing")
    choose(tryit, tmp_path / "photo.jpg")
    assert end(tryit).startswith("photo.jpg is not a picture that this browser can read.")
    assert not find(tryit, ".tryit-after button").is_displayed()
    assert not find(tryit, ".compare").is_displayed()


def test_a_factor_out_of_range_begins_nothing(tryit):
    for factor in ("0.5", "5", ""):
        set_factor(tryit, factor)
        drop(tryit, "Buy milk.", f"dropped at {factor}.txt", "text/plain")
        assert not find(tryit, ".tryit-progress").is_displayed()
        assert "dropped at" not in find(tryit, ".tryit-status").text
    find(tryit, "[data-scale='3']").click()
    assert find(tryit, "[type=number]").get_attribute("value") == "3"


def test_the_saved_file_has_the_name_of_the_factor_it_was_made_by(tryit, tmp_path):
    Image.fromarray(PHOTO[60:64, 200:204]).save(tmp_path / "eye.png")
    choose(tryit, tmp_path / "eye.png")
    end(tryit)
    set_factor(tryit, 7)
    assert save(tryit, tmp_path, "eye-x2.png").shape == (8, 8, 3)


def test_a_clear_picture_after_an_opaque_one_lets_the_ground_through(tryit, tmp_path):
    Image.new("RGB", (90, 60)).save(tmp_path / "opaque.png")
    Image.new("RGBA", (90, 60), (200, 100, 50, 51)).save(tmp_path / "clear.png")
    set_factor(tryit, 1)
    for name in ("opaque.png", "clear.png"):
        choose(tryit, tmp_path / name)
        end(tryit)
    view = find(tryit, ".tryit-view")
    tryit.execute_script("arguments[0].scrollIntoView({block: 'center'})", view)
    with Image.open(BytesIO(view.screenshot_as_png)) as shot:
        seen = np.asarray(shot.convert("RGB")).astype(float)[4:30, 4:40]
    over = [0.2 * np.array([200, 100, 50]) + 0.8 * ground for ground in (0xBB, 0xEE)]
    assert np.min([np.abs(seen - c).max(2) for c in over], axis=0).max() <= 2


def test_a_picture_too_wide_for_a_canvas_spoils_none_after_it(tryit, tmp_path):
    Image.new("RGB", (40_000, 1)).save(tmp_path / "wide.png")
    Image.fromarray(PHOTO[60:64, 200:204]).save(tmp_path / "eye.png")
    choose(tryit, tmp_path / "wide.png")
    assert end(tryit).startswith("This browser cannot hold a picture of 80000×2 pixels.")
    assert not find(tryit, ".compare").is_displayed()
    choose(tryit, tmp_path / "eye.png")
    assert end(tryit).startswith("eye.png: from 4×4 pixels to 8×8 pixels")


def test_stopped_while_it_reads_the_page_speaks_of_no_picture(tryit, tmp_path):
    Image.fromarray(PHOTO[60:64, 200:204]).save(tmp_path / "eye.png")
    tryit.execute_script(
        "window.kept = createImageBitmap; window.createImageBitmap = () => new Promise(() => {})"
    )
    choose(tryit, tmp_path / "eye.png")
    find(tryit, ".tryit-progress button").click()
    tryit.execute_script("window.createImageBitmap = window.kept")
    assert end(tryit) == "Stopped."


def test_work_can_be_stopped_and_begun_anew(tryit, tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "large.png")
    Image.fromarray(PHOTO[60:90, 200:230]).save(tmp_path / "small.png")
    choose(tryit, tmp_path / "large.png")
    wait(tryit, lambda: "tiles" in find(tryit, ".tryit-progress").text)
    find(tryit, ".tryit-progress button").click()
    assert end(tryit).startswith("Stopped.")
    assert not find(tryit, ".tryit-after button").is_displayed()
    choose(tryit, tmp_path / "large.png")
    wait(tryit, lambda: "tiles" in find(tryit, ".tryit-progress").text)
    choose(tryit, tmp_path / "small.png")  # another picture takes the place of the first
    assert end(tryit).startswith("small.png: from 30×30 pixels to 60×60 pixels")
    assert (
        np.abs(
            save(tryit, tmp_path, "small-x2.png")
            - upscale(PHOTO[60:90, 200:230], 2, precision="float32").astype(float)
        ).max()
        <= 1
    )


def test_the_books_pictures_and_the_slider(tryit):
    set_factor(tryit, 1)
    find(tryit, "[data-sample]").click()
    assert "144×144 pixels" in end(tryit)
    assert find(tryit, ".compare").is_displayed()
    slider = find(tryit, "[type=range]")
    left, right = find(tryit, ".tryit-view canvas + canvas"), find(tryit, ".tryit-view canvas")
    for value in (20, 70):
        tryit.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            slider, value,
        )  # fmt: skip
        edge = f"{144 * value / 100:g}px"
        assert left.value_of_css_property("clip-path") == f"inset(0px calc(100% - {edge}) 0px 0px)"
        assert right.value_of_css_property("clip-path") == f"inset(0px 0px 0px {edge})"
    width, height = slider.size["width"], slider.size["height"]
    assert (width, height) == (144, 144)


def test_twelve_megapixels_leave_the_page_alive(tryit, tmp_path):
    ramp = np.add.outer(np.arange(3000), np.arange(4000)) % 256
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "camera.png")
    choose(tryit, tmp_path / "camera.png")
    wait(tryit, lambda: "done" in find(tryit, ".tryit-progress").text)
    assert "of 768 tiles" in find(tryit, ".tryit-progress").text
    find(tryit, ".tryit-progress button").click()
    assert end(tryit).startswith("Stopped.")
    find(tryit, "[data-scale='4']").click()
    assert "would have 192 megapixels" in end(tryit)
    assert "a factor of at most 2.3," in end(tryit)
    drop(tryit, "Buy milk.", "notes.txt", "text/plain")
    assert "is not a picture" in end(tryit)


def test_from_disk_it_names_the_command_that_serves_it(tryit, html):
    tryit.get((html / "tryit.html").as_uri())
    notice = find(tryit, ".tryit-notice").text
    assert "python -m http.server --directory _build/html" in notice
    assert "http://localhost:8000/tryit.html" in notice
    assert not find(tryit, "form").is_displayed()


def test_this_page_alone_loads_the_runtime(html):
    for page in html.rglob("*.html"):
        if page.name != "tryit.html":
            soup = BeautifulSoup(page.read_text(), "html.parser")
            loaded = [t.get("src") or t.get("href") for t in soup.select("script[src], link[href]")]
            assert not [url for url in loaded if "tryit/" in url], page


def test_without_its_runtime_it_says_what_it_lacks(build_book, tmp_path):
    html = build_book(tmp_path, toc="format: jb-book\nroot: tryit\n", runtime=False)
    soup = BeautifulSoup((html / "tryit.html").read_text(), "html.parser")
    assert "built without ONNX Runtime Web" in soup.select_one(".admonition.warning").text
    assert not soup.select("#tryit")
    assert not (html / "_static" / "tryit").exists()
