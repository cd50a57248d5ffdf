"""The teaching chapters: their shape, their figures, their numbers, and the code on the page."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from selenium.webdriver.common.keys import Keys

import vdsr
from vdsr.study import lessons, paper

ROOT = Path(__file__).parents[2]
chapter = pytest.mark.parametrize("name", lessons.PAGES)


def read(name, folder="notebooks"):
    return nbformat.read(ROOT / folder / f"{name}.ipynb", as_version=4)


def text(name):
    return "\n\n".join(c.source for c in read(name).cells if c.cell_type == "markdown")


def code(name, folded=False):
    """The code cells that a reader sees, or those that are folded away."""
    cells = [c for c in read(name).cells if c.cell_type == "code"]
    tags = {"hide-input", "remove-cell"}
    return [c.source for c in cells if bool(tags & {*c.metadata.get("tags", [])}) == folded]


@chapter
def test_a_chapter_has_the_shape_of_a_chapter(name):
    page = text(name)
    assert re.match(r"# .+\n\n\*[^*]+\?\*\n", page)  # its question
    assert re.search(r":::\{admonition\} What you will learn\n(- .+\n(  .+\n)*){3,4}:::", page)
    assert re.search(r":::\{admonition\} Key points\n(- .+\n(  .+\n)*){3}:::", page)
    for number in (1, 2):
        assert re.search(
            rf"\{{admonition\}} Exercise {number}\n[^:]+(:(?!::)[^:]+)*:::\n\n"
            r":::\{admonition\} Solution\n:class: dropdown\n",
            page,
        ), number
    assert "## Where to read on" in page


@chapter
def test_open_code_is_short(name):
    for cell in code(name):
        assert len(cell.splitlines()) <= 25
        assert max(map(len, cell.splitlines())) <= 88, cell  # what the page has room for


@chapter
def test_each_figure_is_drawn_captioned_and_referred_to_by_one_name(name):
    page = text(name)
    captioned = re.findall(r":::\{glue:figure\} (\S+)\n:name: fig-(\S+)\n", page)
    drawn = re.findall(r'figures\.show\(\n?\s*"([\w-]+)"', "\n".join(code(name, folded=True)))
    assert captioned == [(figure, figure) for figure in drawn]
    assert drawn


@chapter
def test_each_number_named_in_the_text_is_computed(name):
    named = {*re.findall(r"\{glue:text\}`(\w+)`", text(name))}
    computed = re.findall(
        r"figures\.quote\(([^\n]*|\n.*?\n)\)$", "\n".join(code(name, True)), re.M | re.S
    )
    assert named == {*re.findall(r"\b(\w+)=(?:f\"|str)", "\n".join(computed))}


# Numbers that the prose states: where, how they are written, and how they come about.
GAIN = paper.table("table3").pivot_table("psnr", ["dataset", "scale"], "method")
LEAD = GAIN["VDSR"] - GAIN.drop(columns=["VDSR", "bicubic"]).max(axis=1)
SET5 = GAIN.loc["Set5", 3]
SRCNN = sum(p.numel() for p in vdsr.SRCNN().parameters() if p.ndim == 4)
NUMBERS = [
    ("problem", f"by {LEAD.min():.2f} to {LEAD.max():.2f} dB"),
    ("problem", f"from {SET5.bicubic:.2f} dB to {SET5.VDSR:.2f} dB"),
    ("problem", f"{SET5.VDSR:.2f} - {SET5.bicubic:.2f})/20"),
    ("problem", "keep {:.0f}, {:.0f}, {:.0f} and {:.0f} %".format(
        *(100 * 10 ** (-gain / 20) for gain in (0.1, 0.5, 1, 3)))),
    ("problem", f"is {120**2:,} numbers; at $s = 3$ the small one has {40**2:,}"),
    ("problem", f"So {120**2 - 40**2:,} of {120**2:,} directions"),
    ("idea", f"with {SRCNN:,} weights in all"),
    ("idea", f"more than eighteen times SRCNN's {SRCNN:,}"),
    ("idea", f"{2 * 576 + 4 * 9 * 64**2:,} in all"),
    ("idea", f"{41**2:,} weights for each pair of channels; twenty layers of 3×3 have {9 * 20}"),
    ("idea", rf"\sqrt{{20 \cdot 2/3}} = {(20 * 2 / 3) ** 0.5:.1f}$"),
    ("idea", f"Six pixels are {6 / (20 * 2 / 3) ** 0.5:.1f} of these"),
    ("recipe", f"a factor of {1.25**19:.0f} for $a = 1.25$"),
    ("recipe", rf"2\,(1 + \mu) = {2 * 1.9:.1f}"),
    ("recipe", f"{9 * 64 + 18 * 9 * 64**2 + 9 * 64:,} weights are taken"),
    ("recipe", rf"\approx {9960 * 64 * 41**2 * 664704 * 6 / 1e15:.1f} \cdot 10^{{15}}"),
    ("minimal", f"the {41**2:,} pixels of a patch"),
    ("minimal", f"which see {2 * 6 + 1}×{2 * 6 + 1} pixels"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "words"), NUMBERS)
def test_numbers_in_the_prose_are_right(name, words):
    assert words in " ".join(text(name).split())


def test_what_is_said_of_rounded_numbers():
    assert 18 < (2 * 576 + 4 * 9 * 64**2) / SRCNN < 19
    assert round(0.8**-19) in (69, 70)  # "one seventieth"
    needed = 80 * 9960 * 64 * 41**2 * 664704 * 6 / (4 * 3600)
    assert needed == pytest.approx(3 * 8e12, rel=0.1)  # three times a Titan Z, 8 TFLOP/s


@pytest.fixture(scope="module")
def page_code():
    """What the open cells of the minimal chapter define; its training is left out."""
    names = {}
    for cell in code("minimal"):
        if "patches([" not in cell and "gains(" not in cell and "curve" not in cell:
            exec(cell, names)
    return names


def test_minimal_does_not_open_the_package():
    assert not any("vdsr" in line for cell in code("minimal") for line in cell.splitlines()
                   if "import" in line)  # fmt: skip


def test_network_and_loop_are_some_fifteen_lines():
    network, loop = (
        next(c for c in code("minimal") if s in c) for s in ("class VDSR", "def train")
    )
    assert all(14 <= len(part.split("\n\n\n")[0].splitlines()) <= 18 for part in (network, loop))


def test_the_pages_network_is_the_packages(page_code):
    torch.manual_seed(0)
    ours, theirs = page_code["VDSR"](depth=5, width=8), vdsr.VDSR(depth=5, width=8)
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(2, 1, 9, 9)
    torch.testing.assert_close(ours(x), theirs(x))
    assert [p.shape for p in page_code["VDSR"]().parameters()] == [
        p.shape for p in vdsr.VDSR().parameters()
    ]
    assert ours.layers[2].weight.std().item() == pytest.approx((2 / 72) ** 0.5, rel=0.1)


def test_the_pages_loop_is_clipped_momentum_descent(page_code):
    """Against PyTorch's own optimiser and clipping, on one batch that is all there is."""
    torch.manual_seed(0)
    pairs = torch.rand(2, 1, 1, 9, 9).expand(2, 4, 1, 9, 9)
    ours, theirs = (page_code["VDSR"](depth=3, width=4) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    shares = [share for _, share in page_code["train"](ours, pairs, 4, theta=1e-3, batch=2)]
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    for rate in (0.1, 0.01, 0.001, 0.0001):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        ((pairs[1, :2] - theirs(pairs[0, :2])).square().sum() / 4).backward()
        torch.nn.utils.clip_grad_value_(theirs.parameters(), 1e-3 / rate)
        optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert shares[0] > shares[-1] > 0


def test_the_recorded_minute_beats_interpolation():
    outputs = [o for c in read("minimal", "results/notebooks").cells for o in c.get("outputs", [])]
    gains = re.findall(r"gain ([+-][\d.]+) dB", "".join(o.get("text", "") for o in outputs))
    assert len(gains) == 6
    assert min(map(float, gains)) > 0


def test_power_of_a_wave_is_at_its_frequency():
    rows = np.arange(3)[:, None] + np.arange(120)
    spectrum = lessons.power(10 * np.sin(2 * np.pi * rows / 6))
    assert np.fft.rfftfreq(120)[spectrum.argmax()] == pytest.approx(1 / 6)
    assert spectrum[:15].max() < 1e-3 * spectrum.max()


def test_spectra_mark_the_nyquist_frequency():
    [axis] = lessons.spectra({"a": np.eye(40), "b": np.ones((40, 40))}, 0.25).axes
    assert [line.get_label() for line in axis.lines] == ["a", "b", "Nyquist frequency"]
    assert [*axis.lines[-1].get_xdata()] == [0.25, 0.25]
    assert axis.lines[0].get_linestyle() != axis.lines[1].get_linestyle()


def test_recorded_claims_of_the_idea_hold():
    """What the prose says in words of the numbers that its cells print."""
    outputs = [o for c in read("idea", "results/notebooks").cells for o in c.get("outputs", [])]
    printed = "".join(o.get("text", "") for o in outputs)
    shares = [float(s) for s in re.findall(r"([\d.]+)% of the mean square", printed)]
    assert len(shares) == 6 and max(shares) < 1  # less than a hundredth
    cosines = re.findall(r"((?:residual|plain)(?:, noise)?) +cosine (-?[\d.]+)", printed)
    cosines = {kind: float(value) for kind, value in cosines}
    assert len(cosines) == 4
    assert min(cosines.pop(kind) for kind in ("plain", "plain, noise", "residual, noise")) > 0.9
    assert abs(cosines["residual"]) < 0.2
    assert " ".join(map(str, range(3, 42, 2))) in printed


def points(path):
    """Return the corners of a path, an (N, 2) array: x from the left, y from the top."""
    return np.array([v for v in path.split() if v not in "ML"], float).reshape(-1, 2)


def played(browser, line):
    """Return the corners of one of the lines that the page's script has drawn."""
    path = f"[id^='play-line_{line}'] path"
    return points(browser.find_element("css selector", path).get_attribute("d"))


@pytest.mark.slow
@pytest.mark.parametrize("served", [True, False], ids=["served", "from a file"])
def test_clipping_figure_is_moved_by_keys(browser, site, html, served):
    """Seen at where each line bends, and at where it ends."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(f"{site if served else html.as_uri()}/notebooks/recipe.html")
    gamma, theta = browser.find_elements("css selector", ".play-clipping input")
    before = {line: played(browser, line)[1:] for line in ("theta", "-4", "-3.3")}
    level = {line: ends[-1, 1] for line, ends in before.items()}
    assert level["theta"] < level["-3.3"] < level["-4"]  # highest first
    for _ in range(10):  # γ from 0.1 to 0.01
        gamma.send_keys(Keys.ARROW_LEFT)
    assert gamma.get_attribute("aria-valuetext") == "0.01"
    after = {line: played(browser, line)[1:] for line in before}
    right, down = after["theta"][0, 0] - before["theta"][0, 0], after["-4"][0, 1] - level["-4"]
    assert right > 10 and down > 10  # a decade of each axis
    # The paper's rule stays where it was, and bends later; the others bend where they did.
    assert after["theta"] == pytest.approx(before["theta"] + [[right, 0], [0, 0]])
    for line in ("-4", "-3.3"):
        assert after[line] == pytest.approx(before[line] + [0, down])
    for _ in range(10):  # θ from 0.0001 to 0.001
        theta.send_keys(Keys.ARROW_RIGHT)
    moved = after["theta"] + [[right, -down], [0, -down]]
    assert played(browser, "theta")[1:] == pytest.approx(moved)
    assert played(browser, "-4")[1:] == pytest.approx(after["-4"])


@pytest.mark.slow
def test_the_figure_drawn_and_the_figure_played_with_begin_alike(browser, site):
    """The script draws over what Python drew; at the start both must say the same."""
    recorded = read("recipe", "results/notebooks")
    svg = next(
        o.data["text/html"] for c in recorded.cells for o in c.get("outputs", [])
        if "play-frame" in o.get("data", {}).get("text/html", "")
    )  # fmt: skip
    browser.get(f"{site}/notebooks/recipe.html")
    for line in ("none", "theta", "-4", "-3.3"):
        drawn = points(re.search(rf'id="play-line_{line}[^"]*">\s*<path d="([^"]*)"', svg)[1])
        again = np.interp(drawn[:, 0], *played(browser, line).T)
        assert again == pytest.approx(drawn[:, 1], abs=0.5), line


@pytest.mark.slow
def test_field_grows_by_keys(browser, site):
    browser.get(f"{site}/notebooks/idea.html")
    slider = browser.find_element("css selector", ".play-field input")
    slider.send_keys(Keys.HOME)
    assert slider.get_attribute("aria-valuetext") == "0: 1×1 pixels"
    for _ in range(6):
        slider.send_keys(Keys.ARROW_RIGHT)
    assert slider.get_attribute("aria-valuetext") == "6: 13×13 pixels"
    shown = browser.execute_script(
        "return [...document.querySelectorAll('[id^=play-field] path')]"
        ".filter(p => p.style.visibility !== 'hidden').length"
    )
    assert shown == 7
