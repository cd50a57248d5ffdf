import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from vdsr.study import figures, paper


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
    assert drawn["paper, Fig. 3"][-1] == 37.06
    assert "(dB)" in figure.axes[0].get_ylabel()


def test_depth_curves_without_a_run_show_the_paper_alone():
    empty = pd.DataFrame(columns=["depth", "scale", "psnr"])
    figure = figures.depth_curves(empty, paper.table("figure3"))
    assert [set(lines(a)) for a in figure.axes] == [{"paper, Fig. 3"}] * 3


def test_residual_curves_keep_the_two_kinds_apart():
    rows = [(0.1, n, e, p + e) for n, p in (("residual", 30), ("non-residual", 20)) for e in (1, 2)]
    scores = pd.DataFrame(rows, columns=["learning_rate", "network", "epoch", "psnr"])
    [axis] = figures.residual_curves(scores).axes
    assert lines(axis)["residual"] == pytest.approx([31, 32])
    assert lines(axis)["non-residual"] == pytest.approx([21, 22])


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
    assert [text.get_text() for text in axis.texts] == ["the paper's epoch 1"]


def clipping_rows():
    rows = [
        (0.1, "adjustable", 3e-5, 10, 30.0, 0.5), (0.1, "adjustable", 3e-5, 10, 32.0, 0.7),
        (0.1, "none", 3e-5, 10, 33.0, np.nan), (0.1, "norm", 0.4, 10, 29.0, 1.0),
        (0.01, "norm", 4.0, 10, 28.0, np.nan),
    ]  # fmt: skip
    columns = ["learning_rate", "clipping", "theta", "step", "psnr", "clipped"]
    return pd.DataFrame(rows, columns=columns)


def test_clipping_curves_name_each_bound_but_that_of_no_clipping():
    figure = figures.clipping_curves(clipping_rows())
    assert [axis.get_title() for axis in figure.axes] == ["learning rate 0.01", "learning rate 0.1"]
    names = [text.get_text() for text in figure.legends[0].texts]
    assert {"adjustable, θ = 3e-05", "none", "norm, θ = 0.4", "norm, θ = 4"} <= {*names}
    drawn = [list(line.get_ydata()) for line in figure.axes[1].lines]
    assert [31.0] in drawn
    assert [33.0] in drawn


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
    rows = [("a", 10, 1.0), ("a", 10, 2.0), ("b", 10, -1.0)]
    [axis] = figures.gain_curves(pd.DataFrame(rows, columns=["kind", "step", "gain"]), "kind").axes
    drawn = [list(line.get_ydata()) for line in axis.lines]
    assert [1.5] in drawn
    assert [-1.0] in drawn


def test_layer_curves():
    magnitudes = {"a": (np.array([1.0, 2.0]), np.array([3.0, 4.0]))}
    signal, gradient = figures.layer_curves(magnitudes).axes
    assert [*lines(signal)["a"]] == [1, 2]
    assert [*lines(gradient)["a"]] == [3, 4]
    assert signal.get_yscale() == "log"


def test_crops_are_titled_with_their_scores():
    crop = np.zeros((4, 6, 3), np.uint8)
    rows = [("ground truth", crop, np.nan, np.nan), ("ours", crop, 30.123, 0.91234)]
    figure = figures.crops(pd.DataFrame(rows, columns=["method", "crop", "psnr", "ssim"]))
    assert [a.get_title() for a in figure.axes] == ["ground truth\n", "ours\n30.12 dB / 0.9123"]


def test_speed_points():
    table = pd.DataFrame({"method": ["a"], "psnr": [30], "seconds": [0.5]})
    [axis] = figures.speed_points(table.assign(dataset="Set5", scale=2)).axes
    assert axis.get_ylabel() == "PSNR (dB) on Set5, ×2"
    assert (*axis.lines[0].get_xdata(), *axis.lines[0].get_ydata()) == (0.5, 30)


NOTHING = pd.DataFrame(
    columns=["learning_rate", "network", "epoch", "psnr", "depth", "scale", "train_scales",
             "test_scale", "step", "gain", "clipping", "theta", "clipped", "field", "kind", "name",
             "tflop", "method", "seconds", "dataset"]
)  # fmt: skip


@pytest.mark.parametrize(
    "draw",
    [
        figures.depth_curves, figures.residual_curves, figures.clock, figures.clipping_curves,
        figures.clipped_shares, figures.field_curves, figures.speed_points,
        lambda rows: figures.race_curves(rows, "tflop", "work"),
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
        {"paper, residual", "paper, non-residual"}
    ] * 3
