import io
import json
import re
from base64 import b64decode
from math import inf, nan
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from vdsr.study import figures, paper
from vdsr.study.findings import Case, Finding


@pytest.fixture(autouse=True)
def clean():
    with mpl.rc_context():
        figures.use_style()
        yield
    plt.close("all")


def lines(axis):
    return {line.get_label(): line.get_ydata() for line in axis.lines}


def test_depth_curves_draw_the_mean_of_seeds_beside_the_paper():
    rows = [(d, s, 30 + d / 10 + seed) for d in (5, 20) for s in (2, 3) for seed in (0, 1)]
    scores = pd.DataFrame(rows, columns=["depth", "scale", "psnr"])
    figure = figures.depth_curves(scores, paper.table("figure3"))
    assert [a.get_title() for a in figure.axes] == ["×2", "×3"]
    drawn = lines(figure.axes[0])
    assert drawn["ours"] == pytest.approx([31.0, 32.5])
    assert drawn["the paper, Fig. 3"][-1] == 37.06
    assert "(dB)" in figure.axes[0].get_ylabel()


def test_depth_curves_without_a_run_show_the_paper_alone():
    empty = pd.DataFrame(columns=["depth", "scale", "psnr"])
    figure = figures.depth_curves(empty, paper.table("figure3"))
    assert [set(lines(a)) for a in figure.axes] == [{"the paper, Fig. 3"}] * 3


def test_training_curves_draw_loss_and_percent_of_each_network():
    rows = [(7, 1, 0.002, 0.3), (5, 1, 0.004, 0.4), (5, 1, 0.002, 0.2), (5, 2, 0.001, 0.1)]
    rows = pd.DataFrame(rows, columns=["depth", "epoch", "train_loss", "clipped"])
    rows["name"] = rows.depth.map("{} layers".format)
    loss, clipped = figures.training_curves(rows).axes
    assert [*lines(loss)] == ["7 layers", "5 layers"]
    assert lines(loss)["5 layers"] == pytest.approx([0.003, 0.001])
    assert lines(clipped)["5 layers"] == pytest.approx([30, 10])
    assert lines(clipped)["7 layers"] == pytest.approx([30])
    assert "%" in clipped.get_ylabel()


def test_residual_curves_keep_the_two_kinds_apart():
    rows = [(0.1, n, e, p + e) for n, p in (("residual", 30), ("non-residual", 20)) for e in (1, 2)]
    scores = pd.DataFrame(rows, columns=["learning_rate", "network", "epoch", "psnr"])
    for axis in figures.residual_curves(scores).axes:
        assert lines(axis)["residual"] == pytest.approx([31, 32])
        assert lines(axis)["plain"] == pytest.approx([21, 22])
    assert axis.get_ylim() == pytest.approx((29, 32.2))  # the upper three decibels, on the right


def test_scale_curves_draw_gains():
    rows = [("3", 2, 33.0), ("3", 3, 33.5)]
    scores = pd.DataFrame(rows, columns=["train_scales", "test_scale", "psnr"])
    [axis] = figures.scale_curves(scores, {2: 34.0, 3: 30.0}).axes
    assert [-1.0, 3.5] in [list(line.get_ydata()) for line in axis.lines]


def test_field_pictures_share_one_scale():
    fields = {"a": np.eye(5), "b": np.full((5, 5), 1e-9)}
    figure = figures.field_pictures(fields)
    images = [axis.images[0] for axis in figure.axes[:2]]
    assert all(image.get_clim() == (-6, 0) for image in images)
    assert images[0].get_array().max() == 0
    assert images[1].get_array().max() == -6


def test_field_curves_share_one_span():
    rows = [(11, 5, 2, 30.0), (17, 5, 2, 31.0), (11, 5, 3, 20.0), (17, 5, 3, 20.1)]
    scores = pd.DataFrame(rows, columns=["field", "depth", "scale", "psnr"]).assign(seed=0)
    wide, narrow = (axis.get_ylim() for axis in figures.field_curves(scores).axes)
    assert wide[1] - wide[0] == pytest.approx(narrow[1] - narrow[0])
    assert narrow[0] < 20 < 20.1 < narrow[1]


def test_side_curves_draw_what_can_be_seen_and_what_is_used():
    rows = [(5, 2, 9.0, 7.0), (5, 4, 9.2, 8.0), (20, 2, 20.0, 15.0), (20, 4, 20.4, 17.0)]
    table = pd.DataFrame(rows, columns=["depth", "scale", "before", "after"])
    [axis] = figures.side_curves(table).axes
    drawn = lines(axis)
    assert [*drawn["all it can see, 2D + 1"]] == [11, 41]
    assert drawn["before training"] == pytest.approx([9.1, 20.2])
    assert [*drawn["after, at ×2"]] == [7, 15]
    assert [*drawn["after, at ×4"]] == [8, 17]
    assert axis.get_ylim() == pytest.approx((6, 21.4))


def test_correction_curves_draw_a_line_a_network():
    rows = [("a", 2, 0.9), ("b", 2, 0.5), ("a", 4, 1.0), ("b", 4, 2.0)]
    table = pd.DataFrame(rows, columns=["name", "scale", "factor"])
    [axis] = figures.correction_curves(table).axes
    drawn = lines(axis)
    assert [*drawn["a"]] == [0.9, 1] and [*drawn["b"]] == [0.5, 2]
    assert {*drawn["just right"]} == {1}


def test_gradient_histogram_counts_percent():
    magnitudes = pd.DataFrame({"step": [0] * 4 + [9] * 2, "ratio": [0.1, 0.1, 10, 10, 2, 2]})
    [axis] = figures.gradient_histogram(magnitudes).axes
    values = [patch.get_data().values for patch in axis.patches]
    assert [v.max() for v in values] == [50, 100]
    assert [v.sum() for v in values] == [100, 100]


def test_race_curves_have_steps_and_work():
    rows = [("a", 10, 1.0, 30.0), ("a", 10, 3.0, 32.0), ("b", 20, 5.0, 33.0)]
    scores = pd.DataFrame(rows, columns=["name", "step", "tflop", "psnr"]).assign(scale=3)
    steps, work = figures.race_curves(scores, "tflop", "work (TFLOP)").axes
    assert steps.get_ylabel() == "PSNR at ×3 (dB)"
    assert work.get_xlabel() == "work (TFLOP)"
    assert lines(steps)["a"] == pytest.approx([31])
    assert [*work.lines[0].get_xdata()] == [2]
    assert [*steps.lines[1].get_xdata()] == [20]


def test_work_curves_have_a_line_for_each_training_and_what_the_paper_prints():
    rows = [("a", 1000.0, 30.0), ("a", 1000.0, 32.0), ("b", 500.0, 33.0)]
    scores = pd.DataFrame(rows, columns=["name", "tflop", "psnr"])
    [axis] = figures.work_curves(scores, {"VDSR": 37.53}).axes
    drawn = lines(axis)
    assert (drawn["a"], drawn["b"]) == ([31], [33])
    assert [*axis.lines[0].get_xdata()] == [1]
    assert axis.get_xlabel() == "work (PFLOP)"
    [text] = axis.texts
    assert (text.get_text().strip(), text.get_position()[1]) == ("VDSR", 37.53)


def test_difference_dots_go_from_the_largest_down():
    [axis] = figures.difference_dots(pd.Series({"b": 0.2, "a": -0.1, "c": nan}), "dB").axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]  # b at the top
    assert [*axis.lines[1].get_xdata()] == [-0.1, 0.2]
    assert axis.get_xlabel() == "dB" and not axis.patches and not len(axis.lines[2].get_xdata())


def test_difference_dots_show_each_seed_and_what_chance_reaches():
    known = pd.Series([0.1, -0.3, 0.3], ["a", "b", "a"])
    [axis] = figures.difference_dots(known, "dB", 0.25).axes
    _, means, seeds = axis.lines
    assert [label.get_text() for label in axis.get_yticklabels()] == ["b", "a"]
    assert [*means.get_xdata()] == [-0.3, 0.2]
    assert [*zip(*seeds.get_data(), strict=True)] == [(0.1, 1), (0.3, 1)]
    [band] = axis.patches
    assert (band.get_x(), band.get_width()) == (-0.25, 0.5)


def test_clock_lays_the_papers_points_on_our_curves():
    rows = [(0.1, 10, 35.0), (0.1, 10, 36.0), (0.1, 100, 37.0), (0.01, 10, 34.0)]
    scores = pd.DataFrame(rows, columns=["learning_rate", "step", "psnr"])
    lengths = pd.DataFrame({"learning_rate": [0.1], "epoch": [1], "psnr": [36.4], "step": [40.0]})
    [axis] = figures.clock(scores, lengths).axes
    assert [*lines(axis)["rate 0.1"]] == [35.5, 37]
    assert [*lines(axis)["rate 0.01"]] == [34]
    [point] = [line for line in axis.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert (*point.get_xdata(), *point.get_ydata()) == (40, 36.4)
    assert point.get_color() == figures.COLOURS[0]  # its rate's
    assert not len(lines(axis)["the paper after epoch 1"])  # in the legend alone


def clipping_rows():
    rows = [
        (0.1, "adjustable", 3e-5, 10, 0.5, 0.5), (0.1, "adjustable", 3e-5, 10, 2.5, 0.7),
        (0.1, "none", 3e-5, 10, 3.0, np.nan), (0.1, "norm", 0.4, 10, -29.0, 1.0),
        (0.01, "norm", 4.0, 10, 2.0, np.nan),
    ]  # fmt: skip
    columns = ["learning_rate", "clipping", "theta", "step", "gain", "clipped"]
    return pd.DataFrame(rows, columns=columns)


def test_clipping_curves_name_each_bound_but_that_of_no_clipping():
    figure = figures.clipping_curves(clipping_rows())
    assert [axis.get_title() for axis in figure.axes] == ["learning rate 0.1", "learning rate 0.01"]
    names = [text.get_text() for text in figure.legends[0].texts]
    assert {*names} == {"each value, ±θ/γ", "no clipping", "norm, 0.4", "norm, 4", "bicubic"}
    drawn = [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert [1.5] in drawn
    assert [3.0] in drawn
    assert {axis.get_ylim()[0] for axis in figure.axes} == {-1}  # what fell lower leaves it


def test_no_legend_entry_without_its_line():
    lost = clipping_rows().assign(gain=lambda rows: rows.gain.where(rows.clipping != "none"))
    names = [text.get_text() for text in figures.clipping_curves(lost).legends[0].texts]
    assert names == ["each value, ±θ/γ", "norm, 0.4", "bicubic", "norm, 4"]


def test_settings_are_named_by_what_is_unusual():
    rows = pd.DataFrame(
        {"loss": ["patch", "sum", "sum"], "clipping": ["adjustable", "adjustable", "norm"],
         "theta": [1e-4, 3e-5, 0.4], "init": ["fan_out", "fan_in", "fan_out"],
         "last_scale": [0.1, 0.1, 1]}
    )  # fmt: skip
    assert [*figures.setting_names(rows)] == [
        "mean over patches, θ = 10⁻⁴",
        "sum, θ = 3·10⁻⁵, fan-in",
        "sum, θ = 0.4, clips the norm, last layer × 1",
    ]
    assert figures.setting_names(rows[:0]).empty


def test_clipped_shares_are_percent_of_what_was_measured():
    figure = figures.clipped_shares(clipping_rows())
    [axis] = figure.axes  # nothing was measured at 0.01
    assert axis.get_ylabel() == "clipped (%)"
    drawn = [list(line.get_ydata()) for line in axis.lines]
    assert [pytest.approx(60)] in drawn
    assert [100] in drawn


def test_resizer_bars():
    index = pd.MultiIndex.from_product([["interpolation", "network"], ["a", "b"]])
    gap = pd.DataFrame({2: [0.1, -0.2, 1, 2], 3: [0, 0, 0, 0.5]}, index=index)
    gap.index.names = ["method", "resizer"]
    left, right = figures.resizer_bars(gap).axes
    assert {round(bar.get_width(), 2) for bar in left.patches} >= {0.1, -0.2}
    assert {round(bar.get_width(), 2) for bar in right.patches} >= {1, 2, 0.5}


def test_border_curves_are_gains():
    rows = [(0, "bicubic", 30), (0, "zero padding", 31), (0, "true surroundings", 32.5)]
    profile = pd.DataFrame(rows, columns=["distance", "method", "psnr"])
    drawn = lines(figures.border_curves(profile).axes[0])
    assert drawn["zero padding"] == [1]
    assert drawn["true surroundings"] == [2.5]


def test_gain_curves_average_what_is_alike():
    rows = [("a", 10, 1.0, 5), ("a", 10, 2.0, 5), ("b", 10, -1.0, 20), ("b", 20, -12.0, 20)]
    rows = pd.DataFrame(rows, columns=["kind", "step", "gain", "depth"])
    first, second = figures.gain_curves(rows, "kind").axes
    assert (first.get_title(), second.get_title()) == ("5 layers", "20 layers")
    assert [1.5] in [list(line.get_ydata()) for line in first.lines]
    assert [-1.0, -12.0] in [list(line.get_ydata()) for line in second.lines]
    assert second.get_ylim()[0] == -1 < first.get_ylim()[0]
    whole, near = figures.gain_curves(rows[rows.depth == 20], "kind").axes
    assert lines(whole)["b"].tolist() == lines(near)["b"].tolist()
    assert near.get_ylim() == pytest.approx((-1.4, -0.98))


def test_start_curves_show_the_first_steps_and_the_best_ends():
    rows = [("a", 20, -12.0), ("a", 3280, 3.0), ("a", 3280, 3.2), ("b", 20, 0.5), ("b", 3280, 2.8)]
    rows = pd.DataFrame(rows, columns=["start", "step", "gain"])
    whole, near = figures.start_curves(rows).axes
    assert (whole.get_xscale(), near.get_xscale()) == ("log", "linear")
    assert lines(whole)["a"].tolist() == lines(near)["a"].tolist() == [-12, 3.1]
    assert whole.get_ylim()[0] < -12
    assert near.get_ylim() == pytest.approx((2.6, 3.15))
    assert [tick.get_text() for tick in whole.get_xticklabels()][-1] == "2,000"


def test_layer_curves():
    magnitudes = {"a": (np.array([1.0, 2.0]), np.array([3.0, 4.0]))}
    signal, gradient = figures.layer_curves(magnitudes).axes
    assert [*lines(signal)["a"]] == [1, 2]
    assert [*lines(gradient)["a"]] == [3, 4]
    assert signal.get_yscale() == "log"


def pixels(address):
    return np.asarray(Image.open(io.BytesIO(b64decode(address.split(",")[1]))))


def test_a_gallery_holds_the_crops_as_they_are_with_their_scores():
    crop = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    rows = [
        ("ours <b>", crop, 30.123, 0.91234),
        ("map", crop, 29.0, nan),
        ("truth", crop, nan, nan),
    ]
    page = figures.gallery(pd.DataFrame(rows, columns=["method", "crop", "psnr", "ssim"]))
    soup = BeautifulSoup(page, "html.parser")
    assert [p.get_text() for p in soup.select("p")] == [
        "ours <b>: 30.12 dB, SSIM 0.9123", "map: 29.00 dB", "truth"
    ]  # fmt: skip
    assert [img["alt"] for img in soup.select("img")] == ["ours <b>", "map", "truth"]
    assert np.array_equal(pixels(soup.select_one("img")["src"]), crop)


def test_frames_hold_the_strip_and_what_each_is_called():
    strip = np.arange(24, dtype=np.uint8).reshape(6, 4)
    soup = BeautifulSoup(figures.frames("step", strip, ["a", "b", 'c "d"']), "html.parser")
    assert json.loads(soup.div["data-labels"]) == ["a", "b", 'c "d"']
    assert soup.div["data-name"] == "step"
    assert soup.img["style"] == "aspect-ratio: 4 / 2"
    assert soup.img["alt"] == 'c "d"'
    assert np.array_equal(pixels(soup.img["src"]), strip)


def claim(*cases, preset="paper", theirs=""):
    return Finding("it", "It is so", "§1", "page", cases, preset, theirs)


def words(axis):
    return [text.get_text() for text in axis.texts]


def test_claims_without_a_run_show_the_paper_alone():
    figure = figures.claims([claim(Case("a", nan, 0.5), Case("b", nan, 2.5)), claim(theirs="4 h")])
    [axis] = figure.axes
    [crosses] = [line for line in axis.lines if line.get_label() == "the paper"]
    assert [*crosses.get_xdata()] == [0.5, 2.5]
    assert words(axis) == ["It is so", "not run", "It is so", "the paper: 4 h", "not run"]
    assert not axis.containers
    assert [text.get_text() for text in figure.legends[0].texts] == ["the paper"]


def test_claims_show_ours_with_its_interval():
    cases = Case("a", 1.0, 0.5, 0.2), Case("b", inf, 0.5, 0.0), Case("c", nan, 0.5)
    [axis] = figures.claims([claim(*cases)]).axes
    [bars] = axis.containers
    [interval] = bars.lines[2][0].get_segments()
    assert [*bars.lines[0].get_xdata()] == [1.0]
    assert [*interval[:, 0]] == pytest.approx([0.8, 1.2])
    assert words(axis) == ["It is so", "1 where the other diverged, not run"]
    assert axis.texts[-1].get_position()[1] > bars.lines[0].get_ydata()[0] + 0.1  # below the marks
    assert axis.get_xlim() == (-12, 12)
    [axis] = figures.claims([claim(Case("a", -15.0, 0.5))]).axes
    assert axis.get_xlim() == (-18, 18)


@pytest.fixture
def figure():
    figure, axes = plt.subplots(1, 2)
    axes[0].plot([1, 2], gid="play-line")
    axes[1].imshow(np.eye(3))
    axes[1].set_title("a < b")
    return figure


def test_inline_figures_take_the_pages_colour(figure):
    svg = figures.inline(figure, 'seen as "b"')
    root = ElementTree.fromstring(svg)  # well-formed
    assert root.get("aria-label") == 'seen as "b"'
    assert root.get("role") == "img"
    texts = [e for e in root.iter() if e.tag.endswith("text")]
    assert "a < b" in [e.text for e in texts]
    assert all("fill: currentColor" in e.get("style") for e in texts)
    assert plt.rcParams["text.color"] not in svg
    assert "<style" not in svg  # it would hold for the whole page
    assert not plt.get_fignums()


def test_inline_figures_are_the_same_each_time_and_share_no_ids(figure):
    svgs = []
    for alt in ("one", "one", "two"):
        again, axis = plt.subplots()
        axis.plot([1, 2], "o", gid="play-line" if alt == "one" else None)
        svgs.append(figures.inline(again, alt))
    assert svgs[0] == svgs[1]
    ids = [re.findall(r'id="([^"]*)"', svg) for svg in svgs]
    assert "play-line" in ids[0]
    assert not {*ids[0]} & {*ids[2]}
    used = {*re.findall(r'(?:url\(|href=")#([\w.-]+)', svgs[0])}
    assert {*ids[0]} == used | {"play-line"}


def test_a_number_that_was_not_run_says_so(monkeypatch):
    import myst_nb

    glued = {}
    monkeypatch.setattr(myst_nb, "glue", lambda name, value, display: glued.update({name: value}))
    figures.quote(a=1.2345, b=nan, c="three")
    assert glued == {"a": "1.23", "b": "(not run)", "c": "three"}


def test_speed_points():
    table = pd.DataFrame({"method": ["a"], "psnr": [30], "seconds": [0.5]})
    [axis] = figures.speed_points(table.assign(dataset="Set5", scale=2)).axes
    assert axis.get_ylabel() == "PSNR (dB) on Set5, ×2"
    assert (*axis.lines[0].get_xdata(), *axis.lines[0].get_ydata()) == (0.5, 30)
    assert axis.xaxis.get_major_formatter()(2.0) == "2"  # and not 2×10⁰
    assert {0.1, 0.2, 0.5, 1, 2, 5} <= {
        *axis.xaxis.get_major_locator().tick_values(0.05, 6).round(9)
    }
    assert axis.xaxis.get_minor_formatter()(0.3) == ""  # ten labels a decade would overlap


NOTHING = pd.DataFrame(
    columns=["learning_rate", "network", "epoch", "psnr", "depth", "scale", "train_scales",
             "test_scale", "step", "gain", "clipping", "theta", "clipped", "field", "kind", "name",
             "tflop", "method", "seconds", "dataset", "train_loss", "before", "after"]
)  # fmt: skip


@pytest.mark.parametrize(
    "draw",
    [
        figures.depth_curves, figures.residual_curves, figures.clock, figures.clipping_curves,
        figures.clipped_shares, figures.field_curves, figures.speed_points,
        figures.training_curves, figures.side_curves, figures.start_curves,
        figures.correction_curves,
        lambda rows: figures.race_curves(rows, "tflop", "work"),
        lambda rows: figures.work_curves(rows, {"VDSR": 37.53}),
        lambda rows: figures.difference_dots(rows.psnr, "dB"),
    ],
)  # fmt: skip
def test_a_page_says_what_is_not_run(draw):
    [axis] = draw(NOTHING).axes
    assert [text.get_text() for text in axis.texts] == ["not run"]


def test_bicubic_is_drawn_before_anything_is_run():
    for figure in (figures.scale_curves(NOTHING, {2: 33.66}), figures.gain_curves(NOTHING, "kind")):
        [axis] = figure.axes
        assert {*lines(axis)} == {"bicubic"}


def test_residual_curves_without_a_run_show_the_paper_alone():
    figure = figures.residual_curves(NOTHING, paper.table("table1"))
    assert [{*lines(axis)} for axis in figure.axes] == [
        {"the paper, residual", "the paper, plain"}
    ] * 6
