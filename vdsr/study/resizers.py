"""What other libraries call bicubic: resizing that is not MATLAB's, for comparison only."""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.transform import resize

from ..data import luma
from ..evaluate import score
from ..imresize import imresize
from ..patches import degrade


def _pillow(image, shape):
    """Anti-aliased, rounded to 8 bits each time."""
    picture = Image.fromarray(image.round().clip(0, 255).astype(np.uint8))
    return np.asarray(picture.resize(shape[::-1], Image.Resampling.BICUBIC), dtype=float)


def _pillow_float(image, shape):
    picture = Image.fromarray(image.astype(np.float32))
    return np.asarray(picture.resize(shape[::-1], Image.Resampling.BICUBIC), dtype=float)


def _torch(image, shape, antialias=False):
    x = torch.from_numpy(image)[None, None]
    return F.interpolate(x, shape, mode="bicubic", antialias=antialias)[0, 0].numpy()


def _torch_antialias(image, shape):
    return _torch(image, shape, antialias=True)


def _opencv(image, shape):
    import cv2  # of the notebooks' extra; nothing else needs it

    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _skimage(image, shape):
    smaller = shape[0] < image.shape[0]
    return resize(image, shape, order=3, anti_aliasing=smaller, preserve_range=True)


RESIZERS = {
    "MATLAB's (as here)": lambda image, shape: imresize(image, shape=shape),
    "Pillow (8 bits)": _pillow,
    "Pillow (float)": _pillow_float,
    "torch (antialias)": _torch_antialias,
    "torch (default)": _torch,
    "OpenCV": _opencv,
    "scikit-image": _skimage,
}


def compare(model, images, scales):
    """Score interpolation and a network on images that each library has shrunk and enlarged.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (1, 1, H, W) in [0, 1] to the same shape.
    images : mapping of str to ndarray of uint8
    scales : sequence of int

    Returns
    -------
    pandas.DataFrame
        A row a resizer × scale × method, "interpolation" or "network": those, and the mean
        psnr in dB.
    """
    rows = []
    for name, resizer in RESIZERS.items():
        for scale in scales:
            pairs = []
            for image, pixels in images.items():
                hr, _ = degrade(luma(pixels), scale)
                small = tuple(n // scale for n in hr.shape)
                pairs.append((image, hr, resizer(resizer(hr, small), hr.shape)))
            for method, network in (("interpolation", None), ("network", model)):
                psnr = np.mean([row["psnr"] for row in score(network, pairs, scale)])
                rows.append({"resizer": name, "scale": scale, "method": method, "psnr": psnr})
    return pd.DataFrame(rows)
