"""House style, and one function for each kind of figure."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

# The Okabe-Ito colours that stand out from white and from dark grey, whatever one's colour sight,
# and a brown, for seven networks in one figure.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B5A2B"]
LINES = ["-", "--", ":", "-."]  # no colour stands alone
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


def _nothing():
    """Return a figure that says that there is nothing to be drawn yet."""
    figure, axis = plt.subplots(figsize=(3.6, 0.6))
    axis.set_axis_off()
    axis.text(0.5, 0.5, "not run", ha="center", va="center")
    return figure


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


def gain_curves(scores, by):
    """Draw the gain over bicubic against training steps, a line for each setting.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns step, gain (dB), and the one named by `by`.
    by : str
        Column whose values are told apart; several rows of a step are averaged.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axis = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
    axis.axhline(0, color="#777777", linestyle=":", label="bicubic")
    if not scores.empty:
        sns.lineplot(
            scores, x="step", y="gain", hue=by, style=by, markers=True, errorbar=None, ax=axis,
            palette=sns.color_palette(COLOURS, scores[by].nunique()),
        )  # fmt: skip
    axis.set(xlabel="training steps", ylabel="gain over bicubic (dB)")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def clipping_curves(scores):
    """Draw PSNR against training steps, a panel a learning rate, a line a kind of clipping.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns learning_rate, clipping, theta, step, psnr (dB); several rows of a kind are
        averaged. What diverged has no line from there on.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if scores.empty:
        return _nothing()
    names = scores.clipping + ", θ = " + scores.theta.map("{:g}".format)
    scores = scores.assign(kind=names.where(scores.clipping != "none", "none"))
    grid = sns.relplot(
        scores, x="step", y="psnr", hue="kind", style="kind", col="learning_rate",
        kind="line", markers=True, errorbar=None, height=3.2,
        palette=sns.color_palette(COLOURS, scores.kind.nunique()),
    )  # fmt: skip
    grid.set_titles("learning rate {col_name:g}")
    grid.set_axis_labels("training steps", "PSNR (dB)")
    return grid.figure


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
    figure, axis = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    edges = np.logspace(-6, 4, 101)
    for (step, group), colour, line in zip(
        magnitudes.groupby("step"), COLOURS, LINES, strict=False
    ):
        counts, _ = np.histogram(group.ratio, edges)
        share = 100 * counts / len(group)
        axis.stairs(share, edges, color=colour, linestyle=line, label=f"step {step}", lw=1.5)
    axis.axvline(1, color="#777777", linestyle=":", label="the bound θ/γ")
    axis.set(xscale="log", xlabel="gradient, over its bound", ylabel="% of all values")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


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
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), sharey=True, layout="constrained")
    means = scores.groupby(["name", "step"], sort=False)[[work, "psnr"]].mean().reset_index()
    for (name, line), colour, marker in zip(
        means.groupby("name", sort=False), COLOURS, "osD^vP", strict=False
    ):
        for axis, x in zip(axes, ("step", work), strict=True):
            axis.plot(line[x], line.psnr, marker=marker, ms=4, color=colour, label=name)
    for axis, text in zip(axes, ("training steps", label), strict=True):
        axis.set(xlabel=text, xscale="log")
    axes[0].set_ylabel(f"PSNR at ×{scores.scale.iloc[0]:g} (dB)")
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
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
    figure, axis = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
    rates = sorted(scores.learning_rate.unique(), reverse=True)
    for rate, colour, marker in zip(rates, COLOURS, "osD", strict=False):
        line = scores[scores.learning_rate == rate].groupby("step").psnr.mean()
        axis.plot(line, color=colour, marker=marker, ms=4, label=f"rate {rate:g}")
        if lengths is not None:
            points = lengths[lengths.learning_rate == rate]
            axis.plot(points.step, points.psnr, "x", color=colour, ms=10, mew=2)
            for point in points.itertuples():
                axis.annotate(
                    f"the paper's epoch {point.epoch}", (point.step, point.psnr),
                    (6, -10), textcoords="offset points", fontsize="small", color="#777777",
                )  # fmt: skip
    axis.set(xscale="log", xlabel="training steps", ylabel="PSNR (dB)")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


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
    rows = rows.assign(
        kind=rows.clipping + ", θ = " + rows.theta.map("{:g}".format), percent=100 * rows.clipped
    )
    grid = sns.relplot(
        rows, x="step", y="percent", hue="kind", style="kind", col="learning_rate", kind="line",
        markers=True, errorbar=None, height=3.2,
        palette=sns.color_palette(COLOURS, rows.kind.nunique()),
    )  # fmt: skip
    grid.set_titles("learning rate {col_name:g}")
    grid.set_axis_labels("training steps", "clipped (%)")
    return grid.figure


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
    rows = gap.reset_index().melt(["method", "resizer"], var_name="scale", value_name="dB")
    grid = sns.catplot(
        rows, x="dB", y="resizer", hue="scale", col="method", kind="bar",
        palette=COLOURS[: gap.shape[1]], height=3.2,
    )  # fmt: skip
    grid.set_axis_labels("difference in PSNR (dB)", "")
    return grid.figure


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
    figure, axis = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    axis.axhline(0, color="#777777", linestyle=":", label="bicubic")
    for method, colour, marker in zip(
        ("true surroundings", "zero padding"), COLOURS, "os", strict=False
    ):
        gain = table[method] - table["bicubic"]
        axis.plot(gain, marker=marker, ms=4, color=colour, label=method)
    axis.set(xlabel="distance from the border (pixels)", ylabel="gain over bicubic (dB)")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def crops(rows):
    """Draw the crops that `vdsr.crops.compare` gives, with the scores of the whole picture.

    Parameters
    ----------
    rows : pandas.DataFrame

    Returns
    -------
    matplotlib.figure.Figure
    """
    height, width = rows.crop[0].shape[:2]
    across = len(rows) if len(rows) <= 4 else 3
    down = -(-len(rows) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(2.4 * across, down * (0.55 + 2.4 * height / width)),
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for axis in axes.flat[len(rows) :]:
        axis.set_axis_off()
    for axis, row in zip(axes.flat, rows.itertuples(), strict=False):
        axis.imshow(row.crop, interpolation="nearest")
        known = "" if np.isnan(row.psnr) else f"{row.psnr:.2f} dB / {row.ssim:.4f}"
        axis.set_title(f"{row.method}\n{known}", fontsize="small")
        axis.set_axis_off()
    return figure


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
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for row, colour, marker in zip(table.itertuples(), COLOURS, "osD^vP", strict=False):
        axis.plot(row.seconds, row.psnr, marker, color=colour, label=row.method, ms=9)
    where = f"{table.dataset.iloc[0]}, ×{table.scale.iloc[0]:g}"
    axis.set(xscale="log", xlabel="seconds an image (mean)", ylabel=f"PSNR (dB) on {where}")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


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
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.4), layout="constrained")
    for which, (axis, title) in enumerate(zip(axes, ("signal", "gradient"), strict=True)):
        for (name, curves), colour, marker, line in zip(
            magnitudes.items(), COLOURS, "osD^", LINES, strict=False
        ):
            curve = curves[which]
            style = {"marker": marker, "linestyle": line, "color": colour, "ms": 4}
            axis.semilogy(range(1, len(curve) + 1), curve, label=name, **style)
        # What SRCNN's weights leave of a signal would fill forty decades, and the rest be one line.
        label = "root mean square" if which == 0 else ""
        axis.set(title=title, xlabel="layer", ylabel=label, ylim=(1e-4, 1e2))
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def residual_curves(scores, paper=None):
    """Draw PSNR against epochs with and without residual learning, a panel a learning rate.

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
    figure, axes = plt.subplots(
        1, len(rates), figsize=(3.6 * len(rates), 3.4), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, rate in zip(axes[0], rates, strict=True):
        for network, colour, marker in zip(
            ("residual", "non-residual"), COLOURS, "os", strict=False
        ):
            ours = scores[(scores.learning_rate == rate) & (scores.network == network)]
            if not ours.empty:
                sns.lineplot(
                    ours, x="epoch", y="psnr", errorbar="sd", color=colour, marker=marker,
                    label=network, ax=axis, legend=False,
                )  # fmt: skip
            if paper is not None:
                line = paper[(paper.learning_rate == rate) & (paper.network == network)]
                style = PAPER | {"linestyle": "--" if network == "residual" else ":"}
                axis.plot(line.epoch, line.psnr, label=f"paper, {network}", **style)
        axis.set(title=f"learning rate {rate:g}", xlabel="epoch, of 80", ylabel="")
    axes[0, 0].set_ylabel("PSNR (dB)")
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


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
    figure, axis = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
    axis.axhline(0, color="#777777", linestyle=":", label="bicubic")
    if not scores.empty:
        gain = scores.assign(gain=scores.psnr - scores.test_scale.map(bicubic))
        sns.lineplot(
            gain, x="test_scale", y="gain", hue="train_scales", style="train_scales",
            markers=True, errorbar="sd", ax=axis,
            palette=sns.color_palette(COLOURS, gain.train_scales.nunique()),
        )  # fmt: skip
    axis.set(xlabel="scale tested", ylabel="gain over bicubic (dB)")
    axis.legend(title="trained for", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def field_pictures(fields):
    """Draw gradient fields side by side, on a logarithmic scale.

    Parameters
    ----------
    fields : dict of str to ndarray, (S, S)
        Title to field, from `vdsr.study.probes.gradient_field`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = plt.subplots(
        1, len(fields), figsize=(2.6 * len(fields), 2.9), squeeze=False, layout="constrained"
    )
    for axis, (title, field) in zip(axes[0], fields.items(), strict=True):
        radius = len(field) / 2
        picture = axis.imshow(
            np.log10(np.maximum(field, 1e-6)), cmap="cividis", vmin=-6, vmax=0,
            extent=(-radius, radius, radius, -radius),
        )  # fmt: skip
        axis.set_title(title, fontsize="small")
        axis.grid(False)
    axes[0, 0].set_ylabel("pixels from the centre")
    figure.colorbar(picture, ax=axes[0, -1], label="log₁₀ of the gradient")
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
    grid = sns.relplot(
        scores, x="field", y="psnr", hue="depth", style="depth", col="scale", kind="line",
        markers=True, errorbar="sd", err_style="bars", palette=COLOURS[: scores.depth.nunique()],
        height=3.2, facet_kws={"sharey": False},
    )  # fmt: skip
    grid.set_titles("×{col_name:g}")
    grid.set_axis_labels("receptive field (pixels)", "PSNR (dB)")
    limits = [axis.get_ylim() for axis in grid.axes.flat]
    span = max(top - bottom for bottom, top in limits)
    for axis, (bottom, top) in zip(grid.axes.flat, limits, strict=True):  # slopes then compare
        axis.set_ylim((bottom + top - span) / 2, (bottom + top + span) / 2)
    return grid.figure
