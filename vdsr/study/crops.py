"""Crops side by side: what the methods make of a picture, and what it was."""

from math import ceil

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image

from ..data import load_images, luma
from ..evaluate import score, super_resolve
from ..files import replacing
from ..imresize import axis_weights
from ..patches import degrade
from ..upscale import window, with_luma

# What the book shows: image set, image, scale, and crop (left, top, width, height).
FIGURES = {
    "bridge": ("B100", "148026", 3, (40, 120, 160, 120)),
    "bison": ("B100", "38092", 3, (240, 40, 160, 120)),
    "facade": ("Urban100", "img_012", 3, (300, 300, 160, 120)),
}
LARGEST = 32  # grey levels of error that are drawn in the brightest colour
SLIDER = "Set5", "butterfly", 3, (60, 40, 160, 110)
SAMPLE = dict.fromkeys(FIGURES, ("samples-test", "astronaut", 3, (160, 30, 160, 120)))


def compare(image, scale, networks, box):
    """Return the same crop of a picture as each method restores it, with its scores.

    Parameters
    ----------
    image : ndarray of uint8, (H, W, 3) or (H, W)
        Ground truth.
    scale : float
    networks : dict of str to torch.nn.Module or None
        By name; None is bicubic interpolation.
    box : tuple of int
        Left, top, width and height of the crop in pixels.

    Returns
    -------
    pandas.DataFrame
        A row a method, ground truth first: method, crop (ndarray of uint8, (h, w, 3)), and psnr
        in dB and ssim of the whole picture's luminance.
    """
    left, top, width, height = box
    crop = np.s_[top : top + height, left : left + width]
    rgb = image if image.ndim == 3 else np.stack([image] * 3, axis=2)
    colours = np.stack([degrade(c / 255, scale)[1] for c in np.moveaxis(rgb, 2, 0)], axis=2)
    # Grey is luminance from 0 to 255, but Y of a colour is from 16 to 235.
    span = 219 / 255 if image.ndim == 2 else 1
    rows = [{"method": "ground truth", "crop": rgb[crop], "psnr": np.nan, "ssim": np.nan}]
    for name, _, ilr, sr, scores in _restored(image, scale, networks):
        picture = with_luma(colours, (sr - ilr) * span)
        pixels = (picture[crop].clip(0, 1) * 255).round().astype(np.uint8)
        rows.append(
            {"method": name, "crop": pixels, "psnr": scores["psnr"], "ssim": scores["ssim"]}
        )
    return pd.DataFrame(rows)


def errors(image, scale, networks, box):
    """Return where the methods err in the same crop of a picture.

    Parameters
    ----------
    image, scale, networks, box
        As in `compare`.

    Returns
    -------
    pandas.DataFrame
        As `compare`, without the ground truth: each crop is the magnitude of the luminance's
        error in `error_colours`.
    """
    left, top, width, height = box
    crop = np.s_[top : top + height, left : left + width]
    rows = [
        {"method": name, "crop": error_colours(sr[crop] - hr[crop]), "psnr": scores["psnr"],
         "ssim": np.nan}
        for name, hr, _, sr, scores in _restored(image, scale, networks)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _restored(image, scale, networks):
    """Yield of each method its name, the true, interpolated and restored luminance, and scores."""
    hr, ilr = degrade(luma(image), scale)
    for name, model in networks.items():
        sr = ilr if model is None else super_resolve(model, ilr)
        [scores] = score(None, [(name, hr, sr)], scale)
        yield name, hr, ilr, sr, scores


def error_colours(difference):
    """Return errors in grey levels, (H, W), as colours: black is none, pale `LARGEST` or more."""
    colours = mpl.colormaps["magma"](np.abs(difference) / LARGEST)
    return (255 * colours[..., :3]).round().astype(np.uint8)


def scales(image, numbers, model, box):
    """Return the same crop of a picture as one network restores it from several scales.

    Parameters
    ----------
    image : ndarray of uint8
    numbers : sequence of float
        The scales.
    model : torch.nn.Module
    box : tuple of int

    Returns
    -------
    pandas.DataFrame
        As `compare`, a row a scale.
    """
    rows = [compare(image, scale, {f"×{scale:g}": model}, box)[1:] for scale in numbers]
    return pd.concat(rows, ignore_index=True)


def failure(scores, run, method):
    """Return where a network gains least over bicubic interpolation.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `vdsr.study.table3.recorded`.
    run, method : str
        Of the network.

    Returns
    -------
    pandas.Series
        dataset, image, scale, and gain in dB.
    """
    scores = scores[((scores.run == run) & (scores.method == method)) | (scores.run == "bicubic")]
    cells = scores.set_index(["dataset", "image", "scale", "method"]).psnr.unstack("method")
    gain = (cells[method] - cells["bicubic"]).rename("gain").dropna()
    return gain.sort_values().reset_index().iloc[0]


def worst_crop(image, scale, model, side=64):
    """Return the box in which a network's error exceeds interpolation's the most.

    Parameters
    ----------
    image : ndarray of uint8
        Ground truth.
    scale : float
    model : torch.nn.Module
    side : int
        Of the square, in pixels.

    Returns
    -------
    tuple of int
        Left, top, width and height.
    """
    hr, ilr = degrade(luma(image), scale)
    excess = (super_resolve(model, ilr) - hr) ** 2 - (ilr - hr) ** 2
    sums = np.pad(excess.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    boxes = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(boxes.argmax(), boxes.shape)
    return int(left), int(top), side, side


def enlargements(image, larger, scale, side=48):
    """Return the middle of a picture enlarged by interpolation and by the network.

    Parameters
    ----------
    image, larger : ndarray
        What `vdsr.upscale` was given, and what it returned.
    scale : float
    side : int
        Of the square of `image` that is shown, in pixels, at most.

    Returns
    -------
    pandas.DataFrame
        As `compare`, without scores. What is transparent is shown before white.
    """
    sides = zip(image.shape, larger.shape[:2], strict=False)
    matrices = [axis_weights(n, m, float(scale)) for n, m in sides]
    shown = [min(ceil(side * scale), n) for n in larger.shape[:2]]
    starts = [(n - m) // 2 for n, m in zip(larger.shape, shown, strict=False)]
    middle = tuple(slice(start, start + n) for start, n in zip(starts, shown, strict=True))
    bicubic = window(_on_white(image), *(m[part] for m, part in zip(matrices, middle, strict=True)))
    rows = []
    for name, crop in (("bicubic", bicubic), ("VDSR", _on_white(larger[middle]))):
        crop = (crop.clip(0, 1) * 255).round().astype(np.uint8)
        crop = np.repeat(crop, 3, axis=2) if crop.shape[2] == 1 else crop
        rows.append({"method": name, "crop": crop, "psnr": np.nan, "ssim": np.nan})
    return pd.DataFrame(rows)


def _on_white(image):
    """Return what is seen of a picture before white: (H, W, 1 or 3) in [0, 1]."""
    image = image / (np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1)
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] in (1, 3):
        return image
    return image[..., :-1] * image[..., -1:] + 1 - image[..., -1:]


def write_slider(folder, model):
    """Write the two pictures between which the book's front page slides.

    Parameters
    ----------
    folder : pathlib.Path
    model : torch.nn.Module
    """
    dataset, image, scale, box = SLIDER
    rows = compare(load_images(dataset)[image], scale, {"bicubic": None, "vdsr": model}, box)
    for row in rows[1:].itertuples():
        # Each pixel is made a square of 4×4, lest a browser smooth what is to be compared.
        larger = np.kron(row.crop, np.ones((4, 4, 1), np.uint8))
        with replacing(folder / f"{row.method}.png") as path:
            Image.fromarray(larger).save(path, "PNG", optimize=True)
