"""MATLAB's bicubic ``imresize``, the resampling behind every number in the field.

One image axis is resized by one sparse matrix, so an image takes two products:
``rows @ image @ columns.T``.
"""

from functools import lru_cache
from math import ceil

import numpy as np
from scipy.sparse import csr_array

from .checks import numbers, real, shown, whole


def imresize(image, scale=None, *, shape=None):
    """Resize an image as MATLAB's ``imresize(image, ..., 'bicubic')`` does.

    Shrinking widens the kernel by ``1 / scale`` against aliasing; pixels beyond the
    border are mirrored. Values are neither rounded nor clipped. One that is not finite
    spreads to the pixels of the result that it is part of, and no farther.

    Parameters
    ----------
    image : array_like, (H, W) or (H, W, C)
        Any real type and range.
    scale : float, or tuple of int
        Factor for both axes; the result measures ``ceil(scale * H)`` by ``ceil(scale * W)``.
        As in MATLAB the product is that of two doubles: 100 pixels times 1.1 are
        110.00000000000001, and become 111. ``Fraction(11, 10)`` makes them 110, and so does
        `shape`. Two numbers are taken as `shape`, as MATLAB does.
    shape : tuple of int, optional
        Height and width of the result, instead of `scale`.

    Returns
    -------
    ndarray of float64
        The resized image, with the number of axes of `image`.

    Raises
    ------
    TypeError
        If `image` is no array of real numbers, or `scale` no number.
    ValueError
        If not exactly one of `scale` and `shape` is given, or one of them or the image
        is empty or of a wrong form, or the result would be larger than any memory.
    """
    must = "a non-empty array of real numbers, (H, W) or (H, W, C)"
    given, image = image, numbers("image", image, must).astype(np.float64)
    if image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f"image must be {must}, got {shown(given)}")
    if (scale is None) == (shape is None):
        raise ValueError(
            f"imresize needs either scale= or shape=, and not both, "
            f"got {shown(scale)} and {shown(shape)}"
        )
    height, width = image.shape[:2]
    if shape is not None or isinstance(scale, (tuple, list)) or np.ndim(scale) == 1:
        name, two = ("shape", shape) if scale is None else ("scale", scale)
        try:
            out_height, out_width = (whole(name, n, "", lambda n: n > 0) for n in two)
        except (TypeError, ValueError):
            raise ValueError(
                f"{name} must be two positive integers (height, width), got {shown(two)}"
            ) from None
        _check_size(name, two, (height, width), (out_height, out_width))
        sizes = (out_height, out_height / height), (out_width, out_width / width)
    else:
        number = real("scale", scale, "a positive number, such as 2 or 0.5", lambda n: n > 0)
        _check_size("scale", scale, (height, width), (height * number, width * number))
        sizes = [(ceil(n * number), float(number)) for n in (height, width)]
    rows, columns = (axis_weights(n, *size) for n, size in zip((height, width), sizes, strict=True))
    if image.ndim == 2:
        return (columns @ (rows @ image).T).T.copy()
    return apply_weights(image, rows, columns)


def apply_weights(planes, rows, columns):
    """Return planes (H, W, C) as the matrices of `axis_weights` for both axes resize them."""
    return np.stack([(columns @ (rows @ c).T).T for c in np.moveaxis(planes, 2, 0)], axis=2)


def _check_size(name, value, before, after):
    """Refuse what would fill the memory: such an argument is a slip."""
    shrinks = any(new * 2**16 < old for old, new in zip(before, after, strict=True))
    if shrinks or max(after) > 2**24 or after[0] * after[1] > 2**31:
        raise ValueError(
            f"{name} must give a result of at most 2**24 pixels a side and 2**31 in all, and "
            f"shrink by at most 2**16, got {shown(value)} for {before[0]}×{before[1]} pixels"
        )


def _cubic(x):
    """Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


@lru_cache(maxsize=64)
def axis_weights(n_in, n_out, scale):
    """Return the sparse (n_out, n_in) matrix that resizes one axis, made once."""
    return _axis_weights(n_in, n_out, scale)


def _axis_weights(n_in, n_out, scale):
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
    matrix = csr_array((weight.ravel(), (row, index.ravel())), shape=(n_out, n_in))
    matrix.eliminate_zeros()  # or a pixel that is not a number would spread through them
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False  # the next caller gets the same matrix
    return matrix
