"""The pictures and diagrams of the teaching chapters."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from .figures import COLOURS, LINES, WIDTH

# The chapters that teach: notebooks without a study, a preset or a record.
PAGES = "problem", "idea", "recipe", "minimal"


def pictures(images, columns, *, ranges=None):
    """Draw grey pictures in rows, each under its title.

    Parameters
    ----------
    images : dict of str to ndarray, (H, W)
        Title to picture, all of one shape of sides.
    columns : int
    ranges : dict of str to tuple of float, optional
        The values that are black and white, where they are not 0 and 255.

    Returns
    -------
    matplotlib.figure.Figure
    """
    height, width = next(iter(images.values())).shape
    rows = -(-len(images) // columns)
    title = 0.3 + 0.2 * max(name.count("\n") for name in images)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(WIDTH, rows * (WIDTH / columns * height / width + title)),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, image) in zip(axes.flat, images.items(), strict=False):
        low, high = (ranges or {}).get(name, (0, 255))
        axis.imshow(image, vmin=low, vmax=high)
        axis.set_title(name)
    return figure


def power(image):
    """Return the mean power spectrum of a picture's rows.

    Parameters
    ----------
    image : ndarray, (H, W)

    Returns
    -------
    ndarray, (W // 2 + 1,)
        At the frequencies of `numpy.fft.rfftfreq`, through a Hann window.
    """
    window = np.hanning(image.shape[1])
    return np.mean(np.abs(np.fft.rfft(window * image)) ** 2, axis=0) / (window**2).sum()


def spectra(images, nyquist):
    """Draw the power of pictures' rows against frequency, on a logarithmic scale.

    Parameters
    ----------
    images : dict of str to ndarray, (H, W)
        Name to picture, all of one width.
    nyquist : float
        The frequency in periods a pixel that is marked.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.2), layout="constrained")
    for (name, image), colour, style in zip(images.items(), COLOURS, LINES, strict=False):
        # The lowest two are the mean, spread by the window.
        frequencies = np.fft.rfftfreq(image.shape[1])[2:]
        axis.semilogy(frequencies, power(image)[2:], style, color=colour, label=name)
    axis.axvline(nyquist, color=plt.rcParams["text.color"], ls=":", label="Nyquist frequency")
    axis.set(xlabel="frequency (periods per pixel)", ylabel="power", ylim=(0.1, 5e5))
    axis.legend(loc="upper right")
    return figure


def network_diagram(ilr, residual, sr):
    """Draw VDSR as boxes and arrows, with pictures at its input, its residual and its output.

    Parameters
    ----------
    ilr, residual, sr : ndarray, (S, S)
        In grey levels; a residual of 0 is drawn in the middle grey.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.5))
    figure.subplots_adjust(0, 0, 1, 1)
    axis.set(xlim=(0, 56), ylim=(0, 35), aspect="equal")
    axis.set_axis_off()
    text = plt.rcParams["text.color"]

    def picture(image, x, y, low, high):
        axis.imshow(image, extent=(x, x + 9, y, y + 9), vmin=low, vmax=high, zorder=2)

    def arrow(start, end):
        style = {"arrowstyle": "-|>", "color": text, "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", end, start, arrowprops=style)

    def box(x, number, colour, kind):
        style = {"facecolor": colour + "40", "edgecolor": colour, "linewidth": 1.5}
        axis.add_patch(Rectangle((x, 4.5), 5, 10, **style))
        axis.text(x + 2.5, 9.5, kind, ha="center", va="center", rotation=90)
        axis.text(x + 2.5, 3.6, number, ha="center", va="top")

    picture(ilr, 0.5, 20.5, 0, 255)
    picture(residual, 38, 5, -64, 64)
    picture(sr, 46.5, 20.5, 0, 255)
    label = {"ha": "center", "linespacing": 1.1}
    axis.text(5, 30.2, "input x", va="bottom", **label)
    axis.text(49.5, 30.2, "output x + f(x)", va="bottom", **label)
    axis.text(42.5, 3.9, "residual f(x)", va="top", **label)
    axis.text(25, 25.8, "x goes round, unchanged", va="bottom", **label)
    axis.text(5.5, 15.2, "64 filters each, 1 in the last", va="bottom", linespacing=1.1)
    axis.text(19.6, 9.5, "⋯", va="center", fontsize=18, **label)
    for x, number in ((5.5, "1"), (12, "2"), (22.5, "19")):
        box(x, number, COLOURS[0], "3×3, ReLU")
    box(29.5, "20", COLOURS[1], "3×3")
    axis.plot([2.5, 2.5], [20.5, 9.5], color=text, lw=1)
    for start, end in ((2.5, 5.5), (10.5, 12), (17, 18.4), (20.8, 22.5), (27.5, 29.5), (34.5, 38)):
        arrow((start, 9.5), (end, 9.5))
    arrow((9.5, 25), (41.3, 25))
    arrow((42.5, 14), (42.5, 23.8))
    arrow((43.7, 25), (46.5, 25))
    axis.plot(42.5, 25, "o", ms=17, mfc="none", mec=text, mew=1)
    axis.text(42.5, 24.9, "+", va="center", fontsize=15, **label)
    return figure


def field_diagram():
    """Draw which pixels, layer by layer down to the input, one output pixel depends on.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 2.7))
    figure.subplots_adjust(0, 0, 1, 1)
    axis.set(xlim=(0, 56), ylim=(0, 27), aspect="equal")
    axis.set_axis_off()
    text, side = plt.rcParams["text.color"], 3.2
    names = "input x", "after layer 1", "after layer 2", "after layer 3"
    for layer, name in enumerate(names):
        y, reach = 1 + 7.2 * layer, 3 - layer  # pixels to either side of the middle
        for i in range(-4, 5):
            x = 26 + side * i
            seen = abs(i) <= reach
            face = COLOURS[0] + ("80" if seen else "00")
            axis.add_patch(Rectangle((x, y), side, side, fc=face, ec=text, lw=0.8))
            if seen and layer:
                for edge, below in ((x, x - side), (x + side, x + 2 * side)):
                    axis.plot([edge, below], [y, y - 7.2 + side], color=text, lw=0.6)
        count = 2 * reach + 1
        axis.text(12, y + side / 2, name, ha="right", va="center")
        axis.text(45, y + side / 2, f"{count} pixel{'s' * (count > 1)}", va="center")
    return figure


def field_picture(picture, depth, other):
    """Draw the fields of one output pixel over a picture, a square for each number of layers.

    Parameters
    ----------
    picture : ndarray, (S, S)
        In grey levels, S odd; the pixel is the one in the middle.
    depth : int
        Layers of 3×3 to be drawn; the page moves through them by their ids, ``play-field-7``.
    other : dict of str to int
        Name and side of another network's field, drawn dashed.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axis = plt.subplots(figsize=(WIDTH, WIDTH / 1.45))
    figure.subplots_adjust(0, 0, 1, 1)
    half = len(picture) / 2
    axis.imshow(picture, extent=(-half, half, -half, half), vmin=0, vmax=255)
    axis.set(xlim=(-half * 1.45, half * 1.45), ylim=(-half, half))
    axis.set_axis_off()

    def square(side, **style):
        corner = (-side / 2, -side / 2)
        return axis.add_patch(Rectangle(corner, side, side, fill=False, **style))

    for layers in range(depth + 1):
        side = 2 * layers + 1
        last = layers == depth
        square(side, ec=COLOURS[4], lw=2.5 if last else 0.7).set_gid(f"play-field-{layers}")
    label = axis.text(half + 1, depth - 2, f"{depth} layers:\n{side}×{side}", va="center")
    label.set_gid("play-label")  # to be hidden where the reader chooses the layer
    for name, side in other.items():
        square(side, ec=COLOURS[5], lw=2.5, ls="--")
        axis.text(half + 1, -side / 2, f"{name}:\n{side}×{side}", va="center")
    return figure


def shrinking_kernel(kernel, taps, frequencies, left):
    """Draw the kernel of an enlargement and of a shrinking by 3, and what that leaves.

    Parameters
    ----------
    kernel : callable
        Weight as a function of the distance in pixels.
    taps : ndarray
        Distances of the pixels that are averaged.
    frequencies, left : ndarray
        In periods a pixel, and the share of each that is left.

    Returns
    -------
    matplotlib.figure.Figure
    """
    t, (blue, orange) = np.linspace(-7, 7, 701), COLOURS[:2]
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(WIDTH, 4.6), layout="constrained")
    top.plot(t, kernel(t), color=blue, label="enlarging")
    top.plot(t, kernel(t / 3) / 3, color=orange, ls="--", label="shrinking by 3")
    top.plot(taps, kernel(taps / 3) / 3, "o", color=orange, ms=4)
    top.set(xlabel="distance t (pixels)", ylabel="weight k")
    bottom.axhline(1, color=blue, label="every third pixel")
    bottom.plot(frequencies, left, color=orange, ls="--", label="shrinking by 3")
    text = plt.rcParams["text.color"]
    bottom.axvline(1 / 6, color=text, ls=":", label="Nyquist frequency, 1/6")
    bottom.set(xlabel="frequency f (periods per pixel)", ylabel="share that is left")
    bottom.set_ylim(0, 1.15)
    for axis in (top, bottom):
        axis.legend(loc="center right")
    return figure


def step_lengths(gradients, steps, corners):
    """Draw the step against the gradient under several kinds of clipping.

    Parameters
    ----------
    gradients : ndarray
        From 1e-6 to 100.
    steps : dict of str to ndarray
        Name of a kind to the steps.
    corners : sequence
        Of each kind, where the page's sliders find its bend: "none", "theta", or the logarithm
        of a bound that does not move (``book/_static/figures.js``).

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 4.2), layout="constrained")
    axis.fill_between([1e-6, 1e2], 1e-9, 1, facecolor="none", gid="play-frame_-6_2_-9_0")
    for (name, step), style, colour, corner in zip(
        steps.items(), (":", "-", "--", "-."), COLOURS, corners, strict=False
    ):
        gid = f"play-line_{corner}"
        axis.loglog(gradients, step, style, color=colour, label=name, lw=2.5, gid=gid)
    axis.set(xlabel="gradient |g|", ylabel="step |Δw|", ylim=(1e-9, 1), xlim=(1e-6, 1e2))
    axis.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=2, columnspacing=1)
    return figure


def progress(gains, scales, clipped, steps):
    """Draw the gain over bicubic, and the share of clipped values, over a short training.

    Parameters
    ----------
    gains : dict of int to sequence of float
        Step to the gain in dB of each test picture.
    scales : sequence of int
        Of each test picture.
    clipped : dict of int to float
        Step to the share.
    steps : int
        In all; the learning rate is divided after each quarter.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(WIDTH, 4.6), sharex=True, layout="constrained"
    )
    top.axhline(0, color=plt.rcParams["text.color"], ls=":", label="bicubic")
    for scale, style, colour in zip((2, 3, 4), ("-o", "--s", "-.^"), COLOURS, strict=False):
        places = [i for i, s in enumerate(scales) if s == scale]
        mean = [np.mean([gain[i] for i in places]) for gain in gains.values()]
        top.plot([*gains], mean, style, color=colour, ms=4, label=f"×{scale}")
    top.set(ylabel="gain over bicubic (dB)", ylim=(-1, 1))
    top.legend(ncols=4, loc="lower right", columnspacing=1)
    bottom.plot([*clipped], [100 * share for share in clipped.values()], color=COLOURS[0])
    bottom.set(xlabel="step", ylabel="clipped values (%)", ylim=(-3, 100))
    for axis in (top, bottom):
        for quarter in (1, 2, 3):
            axis.axvline(quarter * steps / 4, color=COLOURS[5], lw=0.8, ls=":")
    return figure
