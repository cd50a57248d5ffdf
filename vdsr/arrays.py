"""What `vdsr.upscale` takes for a picture: arrays, and what is nearly one."""

import operator
import os

import numpy as np
import torch
from PIL import Image

from . import pictures
from .checks import first_line, real, whole

_TENSORS = torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32, torch.float64


def unpack(image):
    """Return a picture, or several, as arrays, and what gives results the form that it had.

    Parameters
    ----------
    image
        What `vdsr.upscale` takes.

    Returns
    -------
    pixels : list of ndarray, (H, W) or (H, W, C)
        Floats lie in [0, 1].
    restore : callable
        Makes one result of a list of them.
    """
    if isinstance(image, torch.Tensor):
        return _unpack_tensor(image)
    if isinstance(image, (str, os.PathLike)):
        image = pictures.read(image)
    elif isinstance(image, Image.Image):
        image = pictures.from_pillow(image)
    else:
        image = _as_array(image)
    return [checked(image)], operator.itemgetter(0)


def checked(image):
    """Return an array whose floats lie in [0, 1], or raise what `vdsr.upscale` says."""
    if not (image.dtype.kind == "u" and image.itemsize <= 2) and image.dtype.kind != "f":
        raise TypeError(
            f"pixels must be uint8, uint16 or float in [0, 1], got {image.dtype}{_cast(image)}"
        )
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or not 1 <= channels <= 4 or image.size == 0:
        first = image.ndim == 3 and 1 <= image.shape[0] <= 4 and image.size
        remedy = "; if channels come first, use np.moveaxis(image, 0, 2)" if first else ""
        raise ValueError(f"an image must be (H, W) or (H, W, 1 to 4), got {image.shape}{remedy}")
    if image.dtype.kind == "u":
        return image
    low, high = float(image.min()), float(image.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        count = image.size - np.count_nonzero(np.isfinite(image))
        raise ValueError(
            f"float pixels must be in [0, 1], got {count} that are NaN or infinite; "
            f"np.nan_to_num(image) replaces them"
        )
    # Interpolation goes beyond the values that it is given, bicubic by 9/32 of their range.
    if low < -0.5 or high > 1.5:
        white = 255 if high <= 256 else 65535
        remedy = f"divide them by {white}" if high > 1.5 else "use (image + 1) / 2 if they reach -1"
        raise ValueError(f"float pixels must be in [0, 1], got {low!r} to {high!r}; {remedy} first")
    return image.clip(0, 1) if low < 0 or high > 1 else image


def check_scale(scale):
    """Return a scale as a number, or raise what `vdsr.upscale` says."""
    return real("scale", scale, "a number from 1 to 8", lambda number: 1 <= number <= 8)


def check_tile(tile):
    """Return a tile's side as an int, or raise what `vdsr.upscale` says."""
    return whole("tile", tile, "a whole number of pixels, at least 1", lambda side: side >= 1)


def _as_array(image):
    if isinstance(image, np.ma.MaskedArray) and np.ma.is_masked(image):
        raise TypeError("a masked array's mask would be lost; fill it first: image.filled(0)")
    try:
        array = np.asarray(image)
    except Exception as error:
        raise TypeError(f"{_wanted(image)}: {first_line(error)}") from error
    if array.dtype.kind not in "biufc":
        raise TypeError(_wanted(image))
    # Three or four rows of pixels with channels last look the same as channels first.
    if array.ndim == 3 and array.shape[0] in (3, 4) and array.shape[0] < array.shape[1] and (
        array.shape[2] <= 4
    ):  # fmt: skip
        raise ValueError(
            f"an array of shape {array.shape} may be {array.shape[0]} channels, or as many rows; "
            f"if channels come first, use np.moveaxis(image, 0, 2), and for so low a picture "
            f"a Pillow image or a tensor (C, H, W)"
        )
    return array


def _wanted(image):
    return f"upscale takes an array, a path, a Pillow image or a tensor, got {type(image).__name__}"


def _cast(image):
    if image.dtype.kind == "b":
        return "; use np.uint8(255) * image"
    if image.dtype.kind in "iu":
        return "; use image.astype(np.uint8) if white is 255"
    return ""


def _unpack_tensor(tensor):
    """Do what `unpack` does for a tensor (H, W), (C, H, W) or (N, C, H, W)."""
    if tensor.dtype not in _TENSORS or tensor.layout is not torch.strided or tensor.is_nested:
        raise TypeError(
            f"a tensor must be dense, of uint8, uint16 or float in [0, 1], got {tensor.dtype}, "
            f"{tensor.layout}{', nested' if tensor.is_nested else ''}"
        )
    channels = tensor.shape[-3] if tensor.ndim > 2 else 1
    if tensor.ndim not in (2, 3, 4) or not 1 <= channels <= 4 or tensor.numel() == 0:
        last = tensor.ndim > 2 and 1 <= tensor.shape[-1] <= 4
        remedy = "; use image.movedim(-1, -3) if channels come last" if last else ""
        raise ValueError(
            f"a tensor must be (H, W), (1 to 4, H, W) or (N, 1 to 4, H, W), "
            f"got {tuple(tensor.shape)}{remedy}"
        )
    try:
        plain = tensor.detach().cpu().resolve_neg()
        arrays = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    except RuntimeError as error:  # on the device "meta", say, or inside torch.vmap
        raise TypeError(f"a tensor must have values to be read: {first_line(error)}") from error
    if arrays.ndim > 2:
        arrays = np.moveaxis(arrays, -3, -1)
    several = tensor.ndim == 4

    def restore(results):
        out = np.stack(results) if several else results[0]
        if tensor.ndim > 2:
            out = np.moveaxis(out, -1, -3)
        return torch.from_numpy(np.ascontiguousarray(out)).to(tensor.device, tensor.dtype)

    return [checked(array) for array in (arrays if several else [arrays])], restore
