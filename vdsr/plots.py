"""House style, and one function for each kind of figure."""

import matplotlib.pyplot as plt
import seaborn as sns

# The Okabe-Ito colours that stand out from white and from dark grey, whatever one's colour sight.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
PAPER = {"color": "#777777", "linestyle": "--", "marker": "x"}  # the paper's values, always


def use_style():
    """Set the house style: sharp, transparent ground, greys that read in light and dark."""
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        palette=COLOURS,
        rc={
            "figure.dpi": 144,
            "figure.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.facecolor": "none",
            "axes.spines.top": False,
            "axes.spines.right": False,
            **dict.fromkeys(
                ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"),
                "#777777",
            ),
            "axes.edgecolor": "#999999",
            "grid.color": "#99999955",
            "legend.frameon": False,
        },
    )


def depth_curves(scores, paper=None):
    """Draw PSNR against depth, a panel for each scale.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns depth, scale, psnr (dB); several rows of a depth are seeds, drawn as mean
        and standard deviation.
    paper : pandas.DataFrame, optional
        The paper's values, same columns.

    Returns
    -------
    matplotlib.figure.Figure
    """
    scales = sorted((paper if scores.empty else scores).scale.unique())
    figure, axes = plt.subplots(
        1, len(scales), figsize=(3.6 * len(scales), 3.4), squeeze=False, layout="constrained"
    )
    for axis, scale, colour in zip(axes[0], scales, COLOURS, strict=False):
        if paper is not None:
            line = paper[paper.scale == scale]
            axis.plot(line.depth, line.psnr, label="paper, Fig. 3", **PAPER)
        if not scores.empty:
            sns.lineplot(
                scores[scores.scale == scale], x="depth", y="psnr", errorbar="sd",
                err_style="bars", marker="o", color=colour, label="ours", ax=axis, legend=False,
            )  # fmt: skip
        axis.set(title=f"×{scale:g}", xlabel="depth D (layers)", ylabel="")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend()
    axes[0, 0].set_ylabel("PSNR (dB)")
    return figure


def learning_curves(scores, by, bicubic):
    """Draw PSNR against training steps, a line for each setting.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns step, psnr (dB), and the one named by `by`.
    by : str
        Column whose values are told apart; several rows of a step are averaged.
    bicubic : float
        PSNR in dB of interpolation alone, drawn as a line.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axis = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
    axis.axhline(bicubic, color="#777777", linestyle=":", label="bicubic")
    if not scores.empty:
        sns.lineplot(
            scores, x="step", y="psnr", hue=by, style=by, markers=True, errorbar=None, ax=axis
        )
    axis.set(xlabel="training steps", ylabel="PSNR (dB)")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
