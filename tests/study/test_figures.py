import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from vdsr import paper, plots


@pytest.fixture(autouse=True)
def clean():
    with mpl.rc_context():
        plots.use_style()
        yield
    plt.close("all")


def lines(axis):
    return {line.get_label(): line.get_ydata() for line in axis.lines}


def test_depth_curves_draw_the_mean_of_seeds_beside_the_paper():
    rows = [(d, s, 30 + d / 10 + seed) for d in (5, 20) for s in (2, 3) for seed in (0, 1)]
    scores = pd.DataFrame(rows, columns=["depth", "scale", "psnr"])
    figure = plots.depth_curves(scores, paper.table("figure3"))
    assert [a.get_title() for a in figure.axes] == ["×2", "×3"]
    drawn = lines(figure.axes[0])
    assert drawn["ours"] == pytest.approx([31.0, 32.5])
    assert drawn["paper, Fig. 3"][-1] == 37.06
    assert "(dB)" in figure.axes[0].get_ylabel()


def test_depth_curves_without_a_run_show_the_paper_alone():
    empty = pd.DataFrame(columns=["depth", "scale", "psnr"])
    figure = plots.depth_curves(empty, paper.table("figure3"))
    assert [set(lines(a)) for a in figure.axes] == [{"paper, Fig. 3"}] * 3


def test_residual_curves_keep_the_two_kinds_apart():
    rows = [(0.1, n, e, p + e) for n, p in (("residual", 30), ("non-residual", 20)) for e in (1, 2)]
    scores = pd.DataFrame(rows, columns=["learning_rate", "network", "epoch", "psnr"])
    [axis] = plots.residual_curves(scores).axes
    assert lines(axis)["residual"] == pytest.approx([31, 32])
    assert lines(axis)["non-residual"] == pytest.approx([21, 22])


def test_scale_curves_draw_gains():
    rows = [("3", 2, 33.0), ("3", 3, 33.5)]
    scores = pd.DataFrame(rows, columns=["train_scales", "test_scale", "psnr"])
    [axis] = plots.scale_curves(scores, {2: 34.0, 3: 30.0}).axes
    assert [-1.0, 3.5] in [list(line.get_ydata()) for line in axis.lines]


def test_field_pictures_share_one_scale():
    fields = {"a": np.eye(5), "b": np.full((5, 5), 1e-9)}
    figure = plots.field_pictures(fields)
    images = [axis.images[0] for axis in figure.axes[:2]]
    assert all(image.get_clim() == (-6, 0) for image in images)
    assert images[0].get_array().max() == 0
    assert images[1].get_array().max() == -6


def test_field_curves_share_one_span():
    rows = [(11, 5, 2, 30.0), (17, 5, 2, 31.0), (11, 5, 3, 20.0), (17, 5, 3, 20.1)]
    scores = pd.DataFrame(rows, columns=["field", "depth", "scale", "psnr"]).assign(seed=0)
    wide, narrow = (axis.get_ylim() for axis in plots.field_curves(scores).axes)
    assert wide[1] - wide[0] == pytest.approx(narrow[1] - narrow[0])
    assert narrow[0] < 20 < 20.1 < narrow[1]


def test_gradient_histogram_counts_percent():
    magnitudes = pd.DataFrame({"step": [0] * 4 + [9] * 2, "ratio": [0.1, 0.1, 10, 10, 2, 2]})
    [axis] = plots.gradient_histogram(magnitudes).axes
    values = [patch.get_data().values for patch in axis.patches]
    assert [v.max() for v in values] == [50, 100]
    assert [v.sum() for v in values] == [100, 100]


def test_race_curves_have_steps_and_seconds():
    rows = [("a", 10, 1.0, 30.0), ("a", 10, 3.0, 32.0), ("b", 20, 5.0, 33.0)]
    scores = pd.DataFrame(rows, columns=["name", "step", "seconds", "psnr"]).assign(scale=3)
    steps, seconds = plots.race_curves(scores).axes
    assert steps.get_ylabel() == "PSNR at ×3 (dB)"
    assert lines(steps)["a"] == pytest.approx([31])
    assert [*seconds.lines[0].get_xdata()] == [2]
    assert [*steps.lines[1].get_xdata()] == [20]


def test_border_curves_are_gains():
    rows = [(0, "bicubic", 30), (0, "zero padding", 31), (0, "true surroundings", 32.5)]
    profile = pd.DataFrame(rows, columns=["distance", "method", "psnr"])
    drawn = lines(plots.border_curves(profile).axes[0])
    assert drawn["zero padding"] == [1]
    assert drawn["true surroundings"] == [2.5]


def test_budget_curves_draw_the_papers_value_even_alone():
    empty = pd.DataFrame(columns=["name", "step", "psnr"])
    [axis] = plots.budget_curves(empty, 36.9).axes
    assert [*lines(axis)["paper, 36.90 dB"]] == [36.9, 36.9]


def test_crops_are_titled_with_their_scores():
    crop = np.zeros((4, 6, 3), np.uint8)
    rows = [("ground truth", crop, np.nan, np.nan), ("ours", crop, 30.123, 0.91234)]
    figure = plots.crops(pd.DataFrame(rows, columns=["method", "crop", "psnr", "ssim"]))
    assert [a.get_title() for a in figure.axes] == ["ground truth\n", "ours\n30.12 dB / 0.9123"]


def test_speed_points():
    table = pd.DataFrame({"method": ["a"], "psnr": [30], "seconds": [0.5]})
    [axis] = plots.speed_points(table.assign(dataset="Set5", scale=2)).axes
    assert axis.get_ylabel() == "PSNR (dB) on Set5, ×2"
    assert (*axis.lines[0].get_xdata(), *axis.lines[0].get_ydata()) == (0.5, 30)
