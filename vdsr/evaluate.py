"""The protocol behind the paper's tables: luminance, 8 bits, shaved border, PSNR and SSIM."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from math import ceil
from time import perf_counter

import numpy as np
import pandas as pd
import skimage.metrics  # by this name: its functions load scipy.stats when they are first used
import torch

from .checks import first_line, shown
from .data import load_images, luma
from .patches import as_ratio, degrade_image

WINDOW = 11  # side in pixels of SSIM's (Wang et al. 2004)


def evaluate(model, dataset, scale):
    """Score a model on an image set at one scale.

    Ground truth is 8-bit luminance, the input its unrounded bicubic down- and upscaling,
    the output rounded and clipped to 8 bits, and `scale` border pixels are cut off
    (Kim et al. 2016, §5.3, after Huang et al. 2015).

    Parameters
    ----------
    model : torch.nn.Module or None
        Maps (1, 1, H, W) in [0, 1] to the same shape; None scores bicubic itself.
        Runs on the device where it lives, in the type of its weights and in evaluation mode,
        and is then as it was.
    dataset : str, path-like, or images
        As for `vdsr.load_images`: the name of an image set, a folder of your own pictures,
        or images, by name or in a list.
    scale : float
        Upscaling factor, 2 or 2.5, say. Images are cropped to fit it, as `degrade` says. The
        model is used at this very factor, which `vdsr.upscale` does at 2, 3 and 4 alone.

    Returns
    -------
    pandas.DataFrame
        One row an image: dataset, image, scale, psnr in dB, ssim, and the seconds that
        the model took, transfers included. An image that comes back whole has an infinite
        PSNR. Images that were given have the dataset ``"images"``.

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If an image set is unknown, an image of another kind or too small for the scale and
        for SSIM, the scale below 1, or the model fails, or its output is of another shape or
        not finite.
    OSError
        If a file cannot be read, or neither found nor downloaded.
    """
    if not (model is None or isinstance(model, torch.nn.Module)):
        raise TypeError(
            f"model must be a torch.nn.Module, such as run.model or vdsr.load_pretrained(), or "
            f"None for bicubic, got {shown(model)}"
        )
    ratio = as_ratio(scale)
    rows = score(model, prepare(load_images(dataset), scale), scale)
    lost = [row["image"] for row in rows if np.isnan(row["psnr"])]
    if lost:
        raise ValueError(
            f"model must return numbers, got some that are none for image {lost[0]!r}; "
            f"its weights may not be finite: train it again, or load others"
        )
    return pd.DataFrame(rows).assign(
        dataset=str(dataset) if isinstance(dataset, (str, os.PathLike)) else "images",
        scale=ratio.numerator if ratio.denominator == 1 else float(ratio),
    )[["dataset", "image", "scale", "psnr", "ssim", "seconds"]]


def prepare(images, scale):
    """Return an iterator over name, ground truth and interpolated low resolution, 0 to 255.

    Parameters
    ----------
    images : mapping of str to ndarray of uint8
        As from `vdsr.load_images`.
    scale : float

    Raises
    ------
    ValueError
        Before the work, if an image is too small to be scored.
    """
    ratio = as_ratio(scale)
    border, multiple = ceil(ratio), ratio.numerator
    least = ceil((WINDOW + 2 * border) / multiple) * multiple
    for name, image in images.items():
        height, width = image.shape[:2]
        if min(height, width) < least:
            raise ValueError(
                f"image {name!r} must have at least {least} pixels a side to be scored at scale "
                f"{scale}, got {height}×{width}: sides are cropped to multiples of {multiple}, "
                f"{border} pixels are cut off at each border, and SSIM needs {WINDOW}; leave the "
                f"image out, or take a scale with a smaller numerator, such as 2 or 2.5 = 5/2"
            )
    return ((name, *degrade_image(name, luma(image), scale)) for name, image in images.items())


def score(model, pairs, scale):
    """Return a row of image, scale, psnr, ssim and seconds for each of `prepare`'s pairs."""
    border = ceil(as_ratio(scale))
    shave = slice(border, -border)
    rows, planes = [], []
    for name, hr, ilr in pairs:
        start = perf_counter()
        sr = ilr if model is None else super_resolve(model, ilr)
        rows.append({"image": name, "scale": scale, "seconds": perf_counter() - start})
        if not np.isfinite(sr).all():  # infinity would pass for white, and the border for nothing
            sr = np.full_like(sr, np.nan)
        planes.append((hr[shave, shave], sr.round().clip(0, 255)[shave, shave]))
    with ThreadPoolExecutor() as pool:  # after the timing, which it would disturb
        scores = pool.map(lambda pair: similarity(*pair), planes)
        return [
            row | {"psnr": psnr, "ssim": ssim}
            for row, (psnr, ssim) in zip(rows, scores, strict=True)
        ]


def super_resolve(model, ilr):
    """Apply a model to a luminance plane (H, W), 0 to 255, and return the same kind.

    It computes in the type of its weights, float32 as a rule, and in evaluation mode, and is then
    as it was.

    Raises
    ------
    ValueError
        If the model fails, or its output is no floating-point tensor as large as the input.
    MemoryError
        If there is not enough for a picture of this size.
    """
    try:
        return _apply(model, ilr)
    except Exception as error:  # of whatever the network consists of
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate" in str(error):
            raise MemoryError(
                f"the model needs more memory than there is for {ilr.shape[1]}×{ilr.shape[0]} "
                f"pixels at once; give vdsr.upscale a smaller tile, or others smaller pictures"
            ) from error
        raise ValueError(
            f"the model fails on a picture of shape (1, 1, {ilr.shape[0]}, {ilr.shape[1]}): "
            f"{first_line(error)}"
        ) from error


def _apply(model, ilr):
    state = next(chain(model.parameters(), model.buffers()), torch.empty(0))
    dtype = state.dtype if state.is_floating_point() else torch.float32
    x = torch.from_numpy(ilr / 255).to(state.device, dtype)[None, None]
    with torch.inference_mode(), ieee_float32(), evaluating(model):
        y = model(x)
        if not isinstance(y, torch.Tensor) or y.shape != x.shape:
            got = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
            raise ValueError(
                f"model must map (1, 1, H, W) to the same shape, but {tuple(x.shape)} gave {got}"
            )
        if not y.is_floating_point():
            raise ValueError(
                f"model must give floating-point numbers, white being 1, not {y.dtype}"
            )
        return y[0, 0].double().cpu().numpy() * 255


@contextmanager
def evaluating(model):
    """Put a model into evaluation mode, and each of its modules back into its own in the end."""
    # What torch.jit.freeze has made has no other mode.
    modes = [(each, each.training) for each in model.modules() if hasattr(each, "training")]
    try:
        if modes:
            model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def ieee_float32():
    """Keep float32 products whole in a block, rounded to neither TF32 nor bfloat16.

    Whatever the caller has chosen, by either of torch's interfaces, holds again after it; torch's
    own ``cudnn.flags`` fails where the newer one was used, and switches ``benchmark`` off.
    """
    backends = torch.backends
    products = (
        backends.cudnn.conv,
        backends.cuda.matmul,
        backends.mkldnn.conv,
        backends.mkldnn.matmul,
    )
    chosen = [(product, product.fp32_precision) for product in products]
    rounding = [each for each in chosen if each[1] not in ("none", "ieee")]
    try:
        for product, _ in rounding:
            product.fp32_precision = "ieee"
        yield
    finally:
        for product, precision in rounding:
            product.fp32_precision = precision


def similarity(hr, sr):
    """Return PSNR in dB and SSIM of two planes (H, W), 0 to 255, as MATLAB code computes them.

    Equal planes have a PSNR of infinity.
    """
    ssim = skimage.metrics.structural_similarity(
        hr, sr, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    with np.errstate(divide="ignore"):
        return skimage.metrics.peak_signal_noise_ratio(hr, sr, data_range=255), ssim
