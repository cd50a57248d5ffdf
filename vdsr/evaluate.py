"""The protocol behind the paper's tables: luminance, 8 bits, shaved border, PSNR and SSIM."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from .data import load_images, luma
from .patches import degrade


def evaluate(model, dataset, scale):
    """Score a model on an image set at one scale.

    Ground truth is 8-bit luminance, the input its unrounded bicubic down- and upscaling,
    the output rounded and clipped to 8 bits, and `scale` border pixels are cut off
    (Kim et al. 2016, §5.3, after Huang et al. 2015).

    Parameters
    ----------
    model : torch.nn.Module or None
        Maps (1, 1, H, W) in [0, 1] to the same shape; None scores bicubic itself.
        Runs on the device where it lives, in its own type, and is left in its mode.
    dataset : str or mapping of str to ndarray of uint8
        A name for `vdsr.load_images`, or images.
    scale : float
        Upscaling factor, 2 or 2.5, say.

    Returns
    -------
    pandas.DataFrame
        One row an image: dataset, image, scale, psnr in dB, ssim, and the seconds that
        the model took, transfers included.
    """
    name, images = (
        ("images", dataset) if isinstance(dataset, Mapping) else (dataset, load_images(dataset))
    )
    rows = score(model, prepare(images, scale), scale)
    return pd.DataFrame(rows).assign(dataset=name)[
        ["dataset", "image", "scale", "psnr", "ssim", "seconds"]
    ]


def prepare(images, scale):
    """Yield name, ground truth and interpolated low resolution, 0 to 255, of each image."""
    for name, image in images.items():
        yield name, *degrade(luma(image), scale)


def score(model, pairs, scale):
    """Return a row of image, scale, psnr, ssim and seconds for each of `prepare`'s pairs."""
    shave = slice(ceil(scale), -ceil(scale))
    rows, planes = [], []
    for name, hr, ilr in pairs:
        start = perf_counter()
        sr = ilr if model is None else super_resolve(model, ilr)
        rows.append({"image": name, "scale": scale, "seconds": perf_counter() - start})
        planes.append((hr[shave, shave], sr.round().clip(0, 255)[shave, shave]))
    with ThreadPoolExecutor() as pool:  # after the timing, which it would disturb
        scores = pool.map(lambda pair: similarity(*pair), planes)
        return [
            row | {"psnr": psnr, "ssim": ssim}
            for row, (psnr, ssim) in zip(rows, scores, strict=True)
        ]


def super_resolve(model, ilr):
    """Apply a model to a luminance plane (H, W), 0 to 255, and return the same kind.

    It is computed in the model's own type, in evaluation mode, and the model is left as it was.
    """
    like = next(model.parameters(), torch.empty(0))
    dtype = like.dtype if like.is_floating_point() else torch.float32
    x = torch.from_numpy(ilr / 255).to(like.device, dtype)[None, None]
    with torch.inference_mode(), ieee_float32(), evaluation_mode(model):
        out = model(x)
    if getattr(out, "shape", None) != x.shape:
        got = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise ValueError(f"a model must map (1, 1, H, W) to the same, {tuple(x.shape)} gave {got}")
    return out[0, 0].double().cpu().numpy() * 255


@contextmanager
def evaluation_mode(model):
    """Put a model in evaluation mode, and each of its modules back in its own in the end."""
    training = [module for module in model.modules() if module.training]
    try:
        if training:
            model.eval()
        yield
    finally:
        for module in training:
            module.training = True


def ieee_float32():
    """Return a context in which cuDNN keeps float32 products whole, not rounded to TF32."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def similarity(hr, sr):
    """Return PSNR in dB and SSIM of two planes (H, W), 0 to 255, as MATLAB code computes them."""
    ssim = structural_similarity(
        hr, sr, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return peak_signal_noise_ratio(hr, sr, data_range=255), ssim


def border_profile(model, images, scale, width=24):
    """Score a network ring by ring inside a border that was not one until it was cut.

    The middle of each image is cut out, and super-resolved once with zero padding at the cut,
    and once with the surroundings that were cut away.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (1, 1, H, W) in [0, 1] to the same shape.
    images : mapping of str to ndarray of uint8
    scale : float
    width : int
        How many rings of one pixel to look at.

    Returns
    -------
    pandas.DataFrame
        Columns distance (pixels from the border), method, psnr (dB, of all images' pixels).
    """
    names = ["bicubic", "zero padding", "true surroundings"]
    counts = np.zeros(width + 1)
    totals = np.zeros((len(names), width + 1))
    for _, hr, ilr in prepare(images, scale):
        cut = tuple(slice(n // 4, -(n // 4)) for n in hr.shape)
        results = ilr[cut], super_resolve(model, ilr[cut]), super_resolve(model, ilr)[cut]
        sides = [np.minimum(np.arange(n), np.arange(n)[::-1]) for n in hr[cut].shape]
        distance = np.minimum.outer(*sides).clip(max=width).ravel()
        counts += np.bincount(distance, minlength=width + 1)
        for total, sr in zip(totals, results, strict=True):
            error = (sr.round().clip(0, 255) - hr[cut]) ** 2
            total += np.bincount(distance, error.ravel(), minlength=width + 1)
    psnr = 10 * np.log10(255**2 * counts / totals)[:, :width]
    return (
        pd.DataFrame(psnr.T, columns=names)
        .rename_axis("distance")
        .melt(var_name="method", value_name="psnr", ignore_index=False)
        .reset_index()
    )
