"""MATLAB's bicubic ``imresize``, the resampling behind every number in the field.

One image axis is resized by one sparse matrix, so an image takes two products:
``rows @ image @ columns.T``.
"""

from functools import lru_cache
from math import ceil

import numpy as np
from scipy.sparse import csr_array


def imresize(image, scale=None, *, shape=None):
    """Resize an image as MATLAB's ``imresize(image, ..., 'bicubic')`` does.

    Shrinking widens the kernel by ``1 / scale`` against aliasing; pixels beyond the
    border are mirrored. Values are neither rounded nor clipped.

    Parameters
    ----------
    image : array_like, (H, W) or (H, W, C)
        Any numeric type and range.
    scale : float, optional
        Factor for both axes; the result measures ``ceil(scale * H)`` by ``ceil(scale * W)``.
    shape : tuple of int, optional
        Height and width of the result, instead of `scale`.

    Returns
    -------
    ndarray of float64
        The resized image, with the number of axes of `image`.

    Raises
    ------
    ValueError
        If not exactly one of `scale` and `shape` is given, or one of them or the image
        is empty or of a wrong form.
    """
    image = np.asarray(image, dtype=np.float64)
    if image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f"imresize needs a non-empty (H, W) or (H, W, C) image, got {image.shape}")
    if (scale is None) == (shape is None):
        raise ValueError("imresize needs either scale= or shape=, and not both")
    if shape is None:
        if not (np.isfinite(scale) and scale > 0):
            raise ValueError(f"scale must be a positive number, got {scale!r}")
        sizes = [(ceil(n * scale), float(scale)) for n in image.shape[:2]]
    else:
        if len(shape) != 2 or min(shape) < 1 or any(n != int(n) for n in shape):
            raise ValueError(f"shape must be two positive integers (height, width), got {shape!r}")
        sizes = [(int(out), out / n) for n, out in zip(image.shape[:2], shape, strict=True)]
    rows, columns = (axis_weights(n, *size) for n, size in zip(image.shape[:2], sizes, strict=True))
    if image.ndim == 2:
        return (columns @ (rows @ image).T).T.copy()
    return np.stack([(columns @ (rows @ c).T).T for c in np.moveaxis(image, 2, 0)], axis=2)


def _cubic(x):
    """Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


@lru_cache(maxsize=64)
def axis_weights(n_in, n_out, scale):
    """Return the sparse (n_out, n_in) matrix that resizes one axis."""
    shrink = min(scale, 1.0)  # < 1 stretches the kernel over 1 / scale as many pixels
    width = 4 / shrink
    taps = ceil(width) + 2
    centre = (np.arange(n_out) + 0.5) / scale - 0.5  # output pixels in input coordinates
    first = np.floor(centre - width / 2).astype(int)
    index = first[:, None] + np.arange(taps)
    weight = _cubic(shrink * (centre[:, None] - index))
    weight /= weight.sum(axis=1, keepdims=True)
    index %= 2 * n_in  # mirror: 0 1 ... n-1 n-1 ... 1 0, repeated
    index = np.where(index < n_in, index, 2 * n_in - 1 - index)
    row = np.repeat(np.arange(n_out), taps)
    # Building from coordinates adds up the taps that mirroring sends to one pixel.
    return csr_array((weight.ravel(), (row, index.ravel())), shape=(n_out, n_in))
