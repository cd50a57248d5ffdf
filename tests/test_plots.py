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
