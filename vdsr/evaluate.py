"""The protocol behind the paper's tables: luminance, 8 bits, shaved border, PSNR and SSIM."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil
from time import perf_counter

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
        Runs on the device where it lives, in float32.
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
    """Apply a model in float32 to a luminance plane (H, W), 0 to 255, and return the same kind."""
    device = next(model.parameters()).device
    x = torch.from_numpy(ilr / 255).to(device, torch.float32)[None, None]
    with torch.inference_mode(), ieee_float32():
        return model(x)[0, 0].double().cpu().numpy() * 255


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
    """Return PSNR in dB and SSIM of two planes (H, W), 0 to 255, as MATLAB code computes them."""
    ssim = structural_similarity(
        hr, sr, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return peak_signal_noise_ratio(hr, sr, data_range=255), ssim
