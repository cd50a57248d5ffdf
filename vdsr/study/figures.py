"""House style, how a figure comes into a page, and one function for each kind of figure."""

import base64
import io
import json
import re
from html import escape
from itertools import cycle
from math import isfinite, isnan
from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image

from .findings import diverged

# The Okabe-Ito colours that stand out from white and from dark grey, whatever one's colour sight,
# and a brown, for seven networks in one figure.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B5A2B"]
LINES = ["-", "--", ":", "-."]  # no colour stands alone
MARKERS = "osD^vP*X"
TEXT = "#777777"  # reads in light and dark; in a page it becomes the colour of the text around it
PAPER = {"color": TEXT, "linestyle": "--", "marker": "x"}  # the paper's values, always
WIDTH = 5.0  # inches, of every figure: text is then of one size, and can be read on a phone


def use_style():
    """Set the house style: sharp, transparent ground, text of one size."""
    large = "font.size", "axes.labelsize", "axes.titlesize", "legend.fontsize"
    small = "xtick.labelsize", "ytick.labelsize"
    text = "text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"
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
            **dict.fromkeys(large, 11),
            **dict.fromkeys(small, 10.5),
            **dict.fromkeys(text, TEXT),
            "axes.edgecolor": "#999999",
            "grid.color": "#99999955",
            "legend.frameon": False,
            "svg.fonttype": "none",
            "image.interpolation": "none",
            "image.cmap": "gray",
        },
    )


def inline(figure, alt):
    """Return a figure as SVG that stands in a page, its text in the page's own colour.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Drawn in the house style, and closed afterwards.
    alt : str
        What a sighted reader sees.

    Returns
    -------
    str
        One ``<svg>`` element. What has the house style's text colour takes that of the text
        around it, and with it the page's contrast, in light and in dark.
    """
    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": alt}):  # the same names each time, others in each figure
        figure.savefig(buffer, metadata=dict.fromkeys(("Date", "Creator")), format="svg")
    plt.close(figure)
    svg = buffer.getvalue().replace(plt.rcParams["text.color"], "currentColor")
    svg = svg.replace("xlink:href", "href")  # which needs no namespace
    size = re.search(r'viewBox="[^"]*"', svg)[0]
    body = re.search(r"<g.*</g>", svg, re.DOTALL)[0]
    definitions = "".join(re.findall(r"<defs>\s*<clipPath.*?</defs>", svg, re.DOTALL))
    body += "" if definitions in body else definitions
    # Names that nothing refers to would stand twice in a page that has two figures.
    used = {*re.findall(r'(?:url\(|href=")#([\w.-]+)', body)}
    body = re.sub(
        r' id="([^"]*)"', lambda m: m[0] if m[1] in used or m[1].startswith("play-") else "", body
    )
    body = re.sub(r"font-family: [^;]*", "font-family: inherit", body)
    return f'<svg class="drawn" role="img" aria-label="{escape(alt)}" {size}>{body}</svg>'


def show(name, drawn, alt):
    """Show a figure in a notebook, and name it for the page's ``glue:figure``.

    Parameters
    ----------
    name : str
    drawn : matplotlib.figure.Figure or str
        A string is HTML, from `gallery` or `frames`.
    alt : str
        What a sighted reader sees.
    """
    from IPython.display import HTML  # these two are needed in notebooks alone
    from myst_nb import glue

    alt = " ".join(alt.split())
    if isinstance(drawn, Figure):
        page = inline(drawn, alt)
    else:
        page = f'<div class="drawn" role="group" aria-label="{escape(alt)}">{drawn}</div>'
    glue(name, HTML(page))


def quote(**numbers):
    """Name numbers for the page's ``glue:text``.

    Parameters
    ----------
    **numbers : str or float
        By name, as text, or a number of decibels that gets two decimals; what is not a number
        is said not to have been run.
    """
    from myst_nb import glue

    for name, number in numbers.items():
        if not isinstance(number, str):
            number = "(not run)" if isnan(number) else f"{number:.2f}"
        glue(name, number, display=False)


def _nothing():
    """Return a figure that says that there is nothing to be drawn yet."""
    figure, axis = plt.subplots(figsize=(WIDTH, 0.6))
    axis.set_axis_off()
    axis.text(0.5, 0.5, "not run", ha="center", va="center")
    return figure


def _panels(count, height, **shared):
    """Return a figure of panels one below the other, and the list of these."""
    figure, axes = plt.subplots(
        count, 1, figsize=(WIDTH, 0.9 + height * count), squeeze=False, layout="constrained",
        **shared,
    )  # fmt: skip
    return figure, [*axes[:, 0]]


def _legend(figure):
    """Put one legend above all panels: each name once, in as many columns as there is room for."""
    handles = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    columns = max(1, min(len(handles), 60 // (max(map(len, handles), default=1) + 6)))
    figure.legend(
        handles.values(), handles, loc="outside upper center", ncols=columns,
        columnspacing=1, handletextpad=0.5,
    )  # fmt: skip
    return figure


def _curve(axis, rows, x, y, **style):
    """Draw the mean of the rows at each x, and their standard deviation where there are several."""
    known = rows.dropna(subset=y).groupby(x)[y]
    mean, sd = known.mean(), known.std()
    if len(mean):
        axis.plot(mean, **{"ms": 5, "lw": 1.5} | style)
    if sd.notna().any():
        axis.errorbar(mean.index, mean, sd, fmt="none", ecolor=style["color"], capsize=3)


def _styles(names):
    """Return a colour, a marker and a line for each name."""
    kinds = zip(cycle(COLOURS), cycle(MARKERS), cycle(LINES), strict=False)
    return {
        name: {"color": colour, "marker": marker, "linestyle": line, "label": name}
        for name, (colour, marker, line) in zip(names, kinds, strict=False)
    }


def _by_rate(rows, y, label, **shared):
    """Draw a quantity against steps: a panel a learning rate, a line a kind of clipping."""
    rows = rows.assign(kind=[*map(clipping_name, rows.clipping, rows.theta)])
    styles = _styles(rows.kind.unique())
    rates = sorted(rows.learning_rate.unique(), reverse=True)
    figure, axes = _panels(len(rates), 2.1, sharex=True, **shared)
    for axis, rate in zip(axes, rates, strict=True):
        for kind, line in rows[rows.learning_rate == rate].groupby("kind", sort=False):
            _curve(axis, line, "step", y, **styles[kind])
        axis.set(title=f"learning rate {rate:g}", ylabel=label)
    axes[-1].set_xlabel("training steps")
    return figure, axes


def clipping_name(clipping, theta):
    """Return what a reader calls a kind of clipping."""
    return {
        "adjustable": "each value, ±θ/γ",
        "value": f"each value, ±{theta:g}",
        "norm": f"norm, {theta:g}",
        "none": "no clipping",
    }[clipping]


def scientific(number):
    """Return a small number as it is printed, such as 3·10⁻⁵; one of 0.01 or more as it is."""
    if number >= 0.01:
        return f"{number:g}"
    digits, exponent = f"{number:e}".split("e")
    digits = "" if float(digits) == 1 else f"{float(digits):g}·"
    return f"{digits}10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def setting_names(rows):
    """Return what a reader calls each row's settings: loss and θ, and whatever is unusual.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns loss, clipping, theta, init, last_scale.

    Returns
    -------
    pandas.Series of str
    """
    loss = {"patch": "mean over patches", "sum": "sum", "pixel": "mean over pixels"}
    init = {"fan_in": "fan-in", "fan_out": "fan-out", "normal": "σ = 0.001"}
    usual = {column: {*rows[column].mode()} for column in ("clipping", "init", "last_scale")}
    names = []
    for row in rows.itertuples():
        unusual = {
            "clipping": "clips the norm" if row.clipping == "norm" else row.clipping,
            "init": init[row.init],
            "last_scale": f"last layer × {row.last_scale:g}",
        }
        parts = [
            text for column, text in unusual.items() if getattr(row, column) not in usual[column]
        ]
        names.append(", ".join([loss[row.loss], f"θ = {scientific(row.theta)}", *parts]))
    return pd.Series(names, rows.index, dtype=object)


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
    shown = scores if paper is None or len(scores) else paper
    if shown.empty:
        return _nothing()
    scales = sorted(shown.scale.unique())
    figure, axes = _panels(len(scales), 1.9, sharex=True)
    for axis, scale in zip(axes, scales, strict=True):
        if paper is not None:
            line = paper[paper.scale == scale]
            axis.plot(line.depth, line.psnr, label="the paper, Fig. 3", **PAPER)
        _curve(axis, scores[scores.scale == scale], "depth", "psnr",
               color=COLOURS[0], marker="o", label="ours")  # fmt: skip
        axis.set(title=f"×{scale:g}", ylabel="PSNR (dB)")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel("depth D (layers)")
    return _legend(figure)


def training_curves(rows):
    """Draw the training loss and the share of clipped values by epoch, a line for each network.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns name, epoch, train_loss, clipped (a share); several rows of a name and epoch
        are averaged.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if rows.empty:
        return _nothing()
    means = rows.assign(clipped=100 * rows.clipped).groupby(["name", "epoch"], sort=False)
    means = means[["train_loss", "clipped"]].mean().reset_index()
    styles = _styles(means["name"].unique())
    figure, axes = _panels(2, 2.4, sharex=True)
    quantities = ("train_loss", "training loss"), ("clipped", "clipped values (%)")
    for axis, (column, label) in zip(axes, quantities, strict=True):
        for name, line in means.groupby("name", sort=False):
            _curve(axis, line, "epoch", column, **styles[name])
        axis.set_ylabel(label)
    axes[-1].set_xlabel("epoch")
    return _legend(figure)


def gain_curves(scores, by):
    """Draw the gain over bicubic against training steps, a line for each setting.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns step, gain (dB), depth, and the one named by `by`; a panel a depth.
    by : str
        Column whose values are told apart; several rows of a step are averaged. The axis ends 1 dB
        below bicubic, whatever falls further. Of a single depth, a second panel shows what is
        within 0.4 dB of the best.

    Returns
    -------
    matplotlib.figure.Figure
    """
    depths = [*dict.fromkeys(scores.depth)] or [None]
    near = int(
        len(depths) == 1 and scores.gain.notna().any()
    )  # one depth has room for its best lines
    figure, axes = _panels(len(depths) + near, 2.6)
    styles = _styles(scores[by].unique())
    for axis, depth in zip(axes, depths + near * depths, strict=True):
        axis.axhline(0, color=TEXT, linestyle=":", label="bicubic")
        for name, line in scores[scores.depth == depth].groupby(by, sort=False):
            _curve(axis, line.groupby("step").gain.mean().reset_index(), "step", "gain",
                   **styles[name])  # fmt: skip
        bottom = max(axis.get_ylim()[0], -1)  # what fails may fall far below
        axis.set(ylabel="gain (dB)", title=f"{depth} layers" if len(depths) > 1 else "",
                 ylim=(bottom, None))  # fmt: skip
    if near:
        top = scores.groupby([by, "step"]).gain.mean().max()
        axes[-1].set(title="the same, enlarged", ylim=(top - 0.4, top + 0.02))
    axes[-1].set_xlabel("training steps")
    return _legend(figure)


def start_curves(scores):
    """Draw the gain over bicubic from the first steps on, for each way to start.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns start (a name), step, and gain (dB); several rows of a step are seeds, drawn as
        mean and standard deviation.

    Returns
    -------
    matplotlib.figure.Figure
        First with the steps on a logarithmic axis; then, on a linear one, what is within 0.5 dB
        of the best.
    """
    if scores.empty:
        return _nothing()
    figure, axes = _panels(2, 2.7)
    styles = _styles(scores.start.unique())
    for axis in axes:
        axis.axhline(0, color=TEXT, linestyle=":", label="bicubic")
        for name, line in scores.groupby("start", sort=False):
            _curve(axis, line, "step", "gain", **styles[name])
        axis.set(ylabel="gain (dB)", xlabel="training steps")
    top = scores.groupby(["start", "step"]).gain.mean().max()
    axes[1].set(title="the same, enlarged", ylim=(top - 0.5, top + 0.05))
    places = [step for step in (20, 50, 100, 200, 500, 1000, 2000) if step <= scores.step.max()]
    axes[0].set_xscale("log")
    axes[0].set_xticks(places, [f"{step:,}" for step in places])
    axes[0].minorticks_off()
    return _legend(figure)


def clipping_curves(scores):
    """Draw the gain over bicubic against training steps, a panel a learning rate.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns learning_rate, clipping, theta, step, gain (dB); a line a kind of clipping, several
        rows of a kind averaged. What diverged has no line from there on. The axis ends 1 dB below
        bicubic, whatever falls further.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if scores.empty:
        return _nothing()
    by = ["learning_rate", "clipping", "theta", "step"]
    means = scores.groupby(by, sort=False).gain.mean().reset_index()
    figure, axes = _by_rate(means, "gain", "gain (dB)", sharey=True)
    for axis in axes:
        axis.axhline(0, color=TEXT, linestyle=":", label="bicubic")
    axes[0].set_ylim(max(axes[0].get_ylim()[0], -1), None)  # what fails may fall far below
    return _legend(figure)


def gradient_histogram(magnitudes):
    """Draw how large gradients are beside the bound that clips them, a line for each step.

    Parameters
    ----------
    magnitudes : pandas.DataFrame
        From `vdsr.study.probes.gradient_magnitudes`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, [axis] = _panels(1, 2.6)
    edges = np.logspace(-6, 4, 101)
    for (step, group), colour, line in zip(
        magnitudes.groupby("step"), COLOURS, LINES, strict=False
    ):
        counts, _ = np.histogram(group.ratio, edges)
        share = 100 * counts / len(group)
        axis.stairs(share, edges, color=colour, linestyle=line, label=f"step {step}", lw=1.5)
    axis.axvline(1, color=TEXT, linestyle=":", label="the bound θ/γ")
    axis.set(xscale="log", xlabel="gradient, over its bound", ylabel="% of all values")
    return _legend(figure)


def race_curves(scores, work, label):
    """Draw PSNR against training steps and against work, a line for each network.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns name, step, the one of `work`, psnr (dB), scale, all of one; several rows of a
        name and step are averaged.
    work : str
        A column, such as ``"tflop"``.
    label : str
        What it is called on the axis.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if scores.empty:
        return _nothing()
    means = scores.groupby(["name", "step"], sort=False)[[work, "psnr"]].mean().reset_index()
    styles = _styles(means.name.unique())
    figure, axes = _panels(2, 2.4, sharey=True)
    for name, line in means.groupby("name", sort=False):
        for axis, x in zip(axes, ("step", work), strict=True):
            axis.plot(line[x], line.psnr, ms=5, lw=1.5, **styles[name])
    for axis, text in zip(axes, ("training steps", label), strict=True):
        psnr = f"PSNR at ×{scores.scale.iloc[0]:g} (dB)"
        axis.set(xlabel=text, ylabel=psnr, xscale="log")
    return _legend(figure)


def work_curves(scores, levels):
    """Draw PSNR against work, a line for each training.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns name, tflop, psnr (dB), all of one image set and scale; several rows of a name
        and work are averaged.
    levels : dict of str to float
        What is drawn as a line across, in dB, by what it is called.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if scores.empty:
        return _nothing()
    figure, [axis] = _panels(1, 3.4)
    names = scores["name"].unique()
    for name, style in zip(names, _styles(names).values(), strict=True):
        line = scores[scores["name"] == name].groupby("tflop").psnr.mean()
        axis.plot(line.index / 1000, line, ms=5, lw=1.5, **style)
    for name, level in levels.items():
        axis.axhline(level, color=TEXT, linestyle=":", lw=1)
        axis.text(1, level, f" {name}", transform=axis.get_yaxis_transform(), va="center")
    axis.set(xscale="log", xlabel="work (PFLOP)", ylabel="PSNR (dB)")
    return _legend(figure)


def difference_dots(differences, label, bar=float("nan")):
    """Draw some differences in PSNR as dots, the largest at the top.

    Parameters
    ----------
    differences : pandas.Series
        In dB, by name. Several of a name are seeds: each is a small dot, and their mean a large
        one.
    label : str
        What they are, on the axis.
    bar : float
        What chance reaches, shaded to both sides of zero; not a number where it is not known.

    Returns
    -------
    matplotlib.figure.Figure
    """
    known = differences.dropna()
    means = known.groupby(level=0).mean().sort_values()
    if means.empty:
        return _nothing()
    figure, [axis] = _panels(1, 0.26 * len(means))
    axis.axvline(0, color=TEXT, linestyle=":", lw=1)
    if not isnan(bar):
        axis.axvspan(-bar, bar, color=TEXT, alpha=0.15, lw=0)
    axis.plot(means, range(len(means)), "o", color=COLOURS[0], ms=6)
    seeds = known[known.groupby(level=0).transform("size") > 1]
    axis.plot(seeds, means.index.get_indexer(seeds.index), "o", color=COLOURS[1], ms=3)
    axis.set_yticks(range(len(means)), means.index)
    axis.set(xlabel=label, ylim=(-0.7, len(means) - 0.3))
    return figure


def clock(scores, lengths=None):
    """Draw PSNR against steps at constant learning rates, and where the paper's points lie.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns learning_rate, step, psnr (dB); several rows of a kind are averaged.
    lengths : pandas.DataFrame, optional
        From `vdsr.study.studies.epoch_lengths`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if scores.empty:
        return _nothing()
    figure, [axis] = _panels(1, 3)
    marks = {1: "x", 10: "+"}
    rates = sorted(scores.learning_rate.unique(), reverse=True)
    for rate, style in zip(rates, _styles(rates).values(), strict=True):
        line = scores[scores.learning_rate == rate].groupby("step").psnr.mean()
        axis.plot(line, ms=5, lw=1.5, **style | {"label": f"rate {rate:g}"})
        if lengths is not None:
            for epoch, points in lengths[lengths.learning_rate == rate].groupby("epoch"):
                mark = {"marker": marks[epoch], "color": style["color"], "ms": 12, "mew": 2}
                axis.plot(points.step, points.psnr, linestyle="", **mark)
    for epoch in () if lengths is None else sorted({*lengths.epoch}):
        label = f"the paper after epoch {epoch}"
        axis.plot([], [], marks[epoch], color=TEXT, ms=12, mew=2, label=label)  # for the legend
    axis.set(xscale="log", xlabel="training steps", ylabel="PSNR (dB)")
    return _legend(figure)


def clipped_shares(scores):
    """Draw the share of clipped gradient values through the training, a panel a learning rate.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns learning_rate, clipping, theta, step, clipped (a share); several rows of a kind
        are averaged.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = scores[scores.clipped.notna() & (scores.clipping != "none")]
    if rows.empty:
        return _nothing()
    by = ["learning_rate", "clipping", "theta", "step"]
    means = rows.groupby(by, sort=False).clipped.mean().mul(100).reset_index()
    return _legend(_by_rate(means, "clipped", "clipped (%)")[0])


def resizer_bars(gap):
    """Draw how far other libraries' bicubic is from MATLAB's in PSNR.

    Parameters
    ----------
    gap : pandas.DataFrame
        Differences in dB: rows method × resizer, a column a scale.

    Returns
    -------
    matplotlib.figure.Figure
    """
    methods = gap.index.get_level_values("method").unique()
    rows = len(gap) / len(methods)
    figure, axes = _panels(len(methods), 0.6 + 0.32 * rows, sharex=True)
    height = 0.8 / gap.shape[1]
    for axis, method in zip(axes, methods, strict=True):
        table = gap.xs(method, level="method")
        for i, (scale, colour) in enumerate(zip(table.columns, COLOURS, strict=False)):
            places = np.arange(len(table)) + (i - (gap.shape[1] - 1) / 2) * height
            axis.barh(places, table[scale], height, color=colour, label=f"×{scale:g}")
        axis.set_yticks(range(len(table)), table.index)
        axis.invert_yaxis()
        axis.grid(False, axis="y")
        axis.set_title(method)
    axes[-1].set_xlabel("difference in PSNR (dB)")
    return _legend(figure)


def border_curves(profile):
    """Draw the gain over bicubic against the distance from the border.

    Parameters
    ----------
    profile : pandas.DataFrame
        From `vdsr.study.probes.border_profile`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    table = profile.pivot(index="distance", columns="method", values="psnr")
    figure, [axis] = _panels(1, 2.6)
    axis.axhline(0, color=TEXT, linestyle=":", label="bicubic")
    methods = [name for name in profile.method.unique() if name != "bicubic"]
    for method, style in _styles(methods).items():
        axis.plot(table[method] - table["bicubic"], ms=5, lw=1.5, **style)
    axis.set(xlabel="distance from the border (pixels)", ylabel="gain over bicubic (dB)")
    return _legend(figure)


def speed_points(table):
    """Draw PSNR against seconds an image, as the paper's Figure 1 does.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns method, psnr (dB), seconds, dataset, scale, all of one image set at one scale.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if table.empty:
        return _nothing()
    figure, [axis] = _panels(1, 2.6)
    # Of two points at one place both can be seen if they are hollow.
    hollow = {"linestyle": "none", "markerfacecolor": "none", "markeredgewidth": 2}
    for row, style in zip(table.itertuples(), _styles(table.method).values(), strict=True):
        axis.plot(row.seconds, row.psnr, ms=9, **style | hollow)
    where = f"{table.dataset.iloc[0]}, ×{table.scale.iloc[0]:g}"
    axis.set(xscale="log", xlabel="seconds an image (mean)", ylabel=f"PSNR (dB) on {where}")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    return _legend(figure)


def layer_curves(magnitudes):
    """Draw the size of signal and gradient from layer to layer, on a logarithmic scale.

    Parameters
    ----------
    magnitudes : dict of str to tuple of ndarray, (D,)
        Name to signal and gradient, from `vdsr.study.probes.layer_magnitudes`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = _panels(2, 2.2, sharex=True)
    for which, (axis, title) in enumerate(zip(axes, ("signal", "gradient"), strict=True)):
        for name, style in _styles(magnitudes).items():
            curve = magnitudes[name][which]
            axis.semilogy(range(1, len(curve) + 1), curve, ms=5, lw=1.5, **style)
        # What SRCNN's weights leave of a signal would fill forty decades, and the rest be one line.
        axis.set(title=title, ylabel="root mean square", ylim=(1e-3, 2))
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel("layer")
    return _legend(figure)


def residual_curves(scores, paper=None):
    """Draw PSNR against epochs with and without residual learning, a row a learning rate.

    On the left is all of it, on the right the upper three decibels, in which trainings end.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns learning_rate, network, epoch, psnr (dB); several rows of a kind are seeds,
        drawn as mean and standard deviation.
    paper : pandas.DataFrame, optional
        The paper's values, same columns.

    Returns
    -------
    matplotlib.figure.Figure
    """
    shown = scores if paper is None or len(scores) else paper
    if shown.empty:
        return _nothing()
    rates = sorted(shown.learning_rate.unique(), reverse=True)
    top = max(table.psnr.max() for table in (scores, paper) if table is not None and len(table))
    figure, axes = plt.subplots(
        len(rates), 2, figsize=(WIDTH, 0.9 + 2.1 * len(rates)), squeeze=False, sharex=True,
        layout="constrained",
    )  # fmt: skip
    for (whole, upper), rate in zip(axes, rates, strict=True):
        for network, word in (("residual", "residual"), ("non-residual", "plain")):
            style = _styles(("residual", "plain"))[word]
            ours = scores[(scores.learning_rate == rate) & (scores.network == network)]
            for axis in (whole, upper):
                _curve(axis, ours, "epoch", "psnr", **style)
                if paper is not None:
                    line = paper[(paper.learning_rate == rate) & (paper.network == network)]
                    dash = PAPER | {"linestyle": "--" if word == "residual" else ":"}
                    axis.plot(line.epoch, line.psnr, label=f"the paper, {word}", **dash)
        whole.set(title=f"learning rate {rate:g}", ylabel="PSNR (dB)")
        upper.set(title=f"at {rate:g}, upper 3 dB", ylim=(top - 3, top + 0.2))
    for axis in axes[-1]:
        axis.set_xlabel("epoch, of 80")
    return _legend(figure)


def scale_curves(scores, bicubic):
    """Draw the gain over bicubic against the scale tested, a line for each set trained for.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns train_scales, test_scale, psnr (dB); several rows of a kind are seeds, drawn
        as mean and standard deviation.
    bicubic : dict of float to float
        PSNR in dB of interpolation, by scale.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, [axis] = _panels(1, 3.4)
    axis.axhline(0, color=TEXT, linestyle=":", label="bicubic")
    gain = scores.assign(gain=scores.psnr - scores.test_scale.map(bicubic))
    names = "for ×" + gain.train_scales.str.replace(",", ", ×")
    styles = _styles(names.unique())
    for name, line in gain.groupby(names, sort=False):
        _curve(axis, line, "test_scale", "gain", **styles[name])
    axis.set(xlabel="scale tested", ylabel="gain over bicubic (dB)")
    return _legend(figure)


def correction_curves(table):
    """Draw how strong a network's corrections should be against the scale, a line a network.

    Parameters
    ----------
    table : pandas.DataFrame
        From `vdsr.study.corrections.by_network`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if table.empty:
        return _nothing()
    figure, [axis] = _panels(1, 3.6)
    axis.axhline(1, color=TEXT, linestyle=":", label="just right")
    styles = _styles(table.name.unique())
    for name, line in table.groupby("name", sort=False):
        _curve(axis, line, "scale", "factor", **styles[name])
    axis.set(
        xlabel="scale tested",
        ylabel="best strength of the correction\n(as a multiple of what it is)",
    )
    return _legend(figure)


def field_pictures(fields):
    """Draw gradient fields, two side by side, on a logarithmic scale.

    Parameters
    ----------
    fields : dict of str to ndarray, (S, S)
        Title to field, from `vdsr.study.probes.gradient_field`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = -(-len(fields) // 2)
    figure, axes = plt.subplots(
        rows, 2, figsize=(WIDTH, 0.8 + 2.4 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(fields) :]:
        axis.set_axis_off()
    for axis, (title, field) in zip(axes.flat, fields.items(), strict=False):
        radius = len(field) / 2
        picture = axis.imshow(
            np.log10(np.maximum(field, 1e-6)), cmap="cividis", vmin=-6, vmax=0,
            extent=(-radius, radius, radius, -radius),
        )  # fmt: skip
        axis.set_title(title)
        axis.grid(False)
    figure.colorbar(
        picture, ax=axes, location="bottom", aspect=40, label="log₁₀ of the gradient, over its peak"
    )
    return figure


def field_curves(scores):
    """Draw PSNR against the side of the receptive field: a panel a scale, a line a depth.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns field (pixels), depth, scale, psnr (dB); several rows of a kind are seeds,
        drawn as mean and standard deviation.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if scores.empty:
        return _nothing()
    scales = sorted(scores.scale.unique())
    styles = _styles(sorted(scores.depth.unique()))
    figure, axes = _panels(len(scales), 1.9, sharex=True)
    for axis, scale in zip(axes, scales, strict=True):
        for depth, line in scores[scores.scale == scale].groupby("depth"):
            _curve(axis, line, "field", "psnr",
                   **styles[depth] | {"label": f"{depth} layers"})  # fmt: skip
        axis.set(title=f"×{scale:g}", ylabel="PSNR (dB)")
    axes[-1].set_xlabel("receptive field (pixels)")
    limits = [axis.get_ylim() for axis in axes]
    span = max(top - bottom for bottom, top in limits)
    for axis, (bottom, top) in zip(axes, limits, strict=True):  # slopes then compare
        axis.set_ylim((bottom + top - span) / 2, (bottom + top + span) / 2)
    return _legend(figure)


def side_curves(table):
    """Draw the side of the effective field against depth, before training and after it.

    Parameters
    ----------
    table : pandas.DataFrame
        From `vdsr.study.fields.by_depth`. Before its training, a network's line is the mean over
        the scales of its input.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if table.empty:
        return _nothing()
    scales = sorted(table.scale.unique())
    before, *after = _styles(["before training", *(f"after, at ×{s:g}" for s in scales)]).values()
    figure, [axis] = _panels(1, 3.4)
    depths = np.array(sorted(table.depth.unique()))
    axis.plot(depths, 2 * depths + 1, color=TEXT, linestyle=":", label="all it can see, 2D + 1")
    means = table.groupby(["depth", "scale"])[["before", "after"]].mean()
    _curve(axis, means.groupby("depth").before.mean().reset_index(), "depth", "before", **before)
    for scale, style in zip(scales, after, strict=True):
        _curve(axis, means.xs(scale, level="scale").reset_index(), "depth", "after", **style)
    axis.xaxis.get_major_locator().set_params(integer=True)
    bottom, top = means.after.min() - 1, means.before.max() + 1  # the line of 2D + 1 goes beyond
    axis.set(xlabel="depth D (layers)", ylabel="side (pixels)", ylim=(bottom, top))
    return _legend(figure)


def claims(findings):
    """Draw the paper's effects and ours on one axis, two lines of marks for each claim.

    Parameters
    ----------
    findings : sequence of vdsr.study.findings.Finding
        Of runs of the paper's length; what is not run says so.

    Returns
    -------
    matplotlib.figure.Figure
        A mark a comparison, ours with the interval that chance leaves it. The axis is linear up
        to 1 dB and logarithmic beyond.
    """
    texts = [wrap(finding.claim, 58) for finding in findings]
    words = [_without_marks(finding) for finding in findings]
    known = [[case for case in f.cases if isfinite(case.ours)] for f in findings]
    # In inches; what has no mark stands below the marks, if there are any.
    below = [0.17 if some and marks else 0 for some, marks in zip(words, known, strict=True)]
    heights = [0.4 + 0.18 * len(text) + more for text, more in zip(texts, below, strict=True)]
    figure, axis = plt.subplots(figsize=(WIDTH, 0.9 + sum(heights)), layout="constrained")
    top = 0.0
    for finding, text, height, more, some, marks in zip(
        findings, texts, heights, below, words, known, strict=True
    ):
        axis.axhline(top, color="#99999955", lw=0.8)
        axis.text(0.01, top + 0.04, "\n".join(text), transform=axis.get_yaxis_transform(),
                  va="top", fontsize=10, linespacing=1.1)  # fmt: skip
        upper, lower = top + height - more - 0.3, top + height - more - 0.12
        gaps = [case.paper for case in finding.cases if not isnan(case.paper)]
        axis.plot(gaps, [upper] * len(gaps), label="the paper" if gaps else None,
                  **PAPER | {"linestyle": "none"})  # fmt: skip
        if not gaps and finding.theirs:
            axis.text(0.01, upper, f"the paper: {finding.theirs}", fontsize=10, va="center",
                      style="italic", transform=axis.get_yaxis_transform())  # fmt: skip
        for case in marks:
            interval = 0 if isnan(case.bar) else case.bar
            axis.errorbar(case.ours, lower, xerr=interval, fmt="o", ms=4, capsize=3,
                          color=COLOURS[0], label="ours, and what chance does to it")  # fmt: skip
        place = {"transform": axis.get_yaxis_transform(), "ha": "right", "va": "center"}
        axis.text(0.99, lower + more, ", ".join(some), fontsize=10, **place)
        top += height
    axis.axvline(0, color="#999999", lw=1.2)
    axis.set_xscale("symlog", linthresh=1)
    ticks = -10, -3, -1, 0, 1, 3, 10
    drawn = [gap for f in findings for c in f.cases for gap in (c.ours, c.paper) if isfinite(gap)]
    reach = 1.2 * max(map(abs, [10, *drawn]))
    axis.set(xlim=(-reach, reach), ylim=(top, 0), yticks=[], xlabel="difference in PSNR (dB)")
    axis.set_xticks(ticks, [f"{tick:+d}" if tick else "0" for tick in ticks])
    axis.minorticks_off()
    axis.spines["left"].set_visible(False)
    return _legend(figure)


def _without_marks(finding):
    """Return what is to be said of comparisons that have no place on an axis."""
    missing = not (finding.cases and all(case.known for case in finding.cases))
    return diverged([case.ours for case in finding.cases]) + ["not run"] * missing


def gallery(rows):
    """Return crops as HTML: one below the other on a phone, two side by side elsewhere.

    Parameters
    ----------
    rows : pandas.DataFrame
        From `vdsr.study.crops`: method, crop (ndarray of uint8, (h, w, 3)), psnr and ssim of the
        whole picture, not a number where there is none.

    Returns
    -------
    str
    """
    cells = []
    for row in rows.itertuples():
        known = "" if isnan(row.psnr) else f": {row.psnr:.2f} dB"
        known += "" if not known or isnan(row.ssim) else f", SSIM {row.ssim:.4f}"
        height, width = row.crop.shape[:2]
        cells.append(
            f'<div><img class="pixels" src="{_png(row.crop)}" alt="{escape(row.method)}" '
            f'width="{width}" height="{height}"><p>{escape(row.method)}{known}</p></div>'
        )
    return f'<div class="gallery">{"".join(cells)}</div>'


def frames(name, strip, labels):
    """Return pictures as HTML through which a reader moves by a slider; the last is shown first.

    Parameters
    ----------
    name : str
        What the slider moves.
    strip : ndarray of uint8, (N * H, W) or (N * H, W, 3)
        The pictures, one below the other.
    labels : sequence of str
        What each is called.

    Returns
    -------
    str
        The slider is added by the page; the figure's class must be ``play-frames``.
    """
    height, width = len(strip) // len(labels), strip.shape[1]
    names = escape(json.dumps([*labels], ensure_ascii=False))
    return (
        f'<div class="frames" data-name="{escape(name)}" data-labels="{names}">'
        f'<img class="pixels" src="{_png(strip)}" alt="{escape(labels[-1])}" '
        f'style="aspect-ratio: {width} / {height}"></div>'
    )


def _png(pixels):
    """Return a picture as an address that holds it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
