"""Pictures in, larger pictures out: any scale, any common pixel type, bounded memory."""

import os
import struct
from functools import cache
from io import BytesIO
from math import ceil
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from skimage.color import rgb2ycbcr
from tqdm import tqdm

from .evaluate import super_resolve
from .files import load_checkpoint
from .imresize import axis_weights
from .model import VDSR, receptive_field

PRETRAINED = Path(__file__).with_name("pretrained.safetensors")


def load_pretrained():
    """Return the network that comes with the package.

    Its config, training data, commit and scores are the metadata of its file, `PRETRAINED`, and
    `vdsr.files.load_checkpoint` reads them.

    Returns
    -------
    VDSR
        Trained for ×2, ×3 and ×4; on the CPU, in evaluation mode.
    """
    tensors, metadata = load_checkpoint(PRETRAINED)
    config = metadata["config"]
    names = "depth", "width", "residual", "dilation", "bias"
    model = VDSR(**{name: config[name] for name in names if name in config})
    model.load_state_dict(tensors)
    return model.eval()


@cache
def _default_model():
    return load_pretrained().to("cuda" if torch.cuda.is_available() else "cpu")


def upscale(image, scale, *, model=None, tile=512, progress=False):
    """Return a picture enlarged: its luminance by a network, the rest by bicubic interpolation.

    Parameters
    ----------
    image : ndarray or path-like
        Pixels of type uint8, uint16 or float in [0, 1], of shape (H, W), or (H, W, C) with
        C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. A file is turned upright as its
        EXIF orientation says.
    scale : float
        Factor from 1 to 8, 2 or 2.5, say.
    model : VDSR, optional
        The network, on any device; by default `load_pretrained`'s, on a GPU if there is one.
    tile : int
        Side in pixels of the squares of the result that are computed one after the other;
        it bounds the memory and changes nothing else.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    ndarray
        Of the type and number of channels of the input, ``ceil(scale * H)`` pixels high and
        ``ceil(scale * W)`` wide.

    Raises
    ------
    TypeError
        For another pixel type.
    ValueError
        For another shape, floats outside [0, 1], a scale outside [1, 8] or a `tile` below 1.
    OSError
        If a file cannot be read.
    """
    if isinstance(image, (str, os.PathLike)):
        image = read(image)
    image = np.asarray(image)
    top = _check(image, scale, tile)
    model = _default_model() if model is None else model.eval()
    halo = receptive_field(model) // 2
    planes = image[:, :, None] if image.ndim == 2 else image
    rows, columns = (axis_weights(n, ceil(n * scale), float(scale)) for n in image.shape[:2])
    out = np.empty((rows.shape[0], columns.shape[0], planes.shape[2]), image.dtype)
    tiles = [(y, x) for y in range(0, out.shape[0], tile) for x in range(0, out.shape[1], tile)]
    for y, x in tqdm(tiles, desc="Upscaling", unit="tile", disable=not progress):
        # The surroundings that the network sees are computed with a tile, and then cut off.
        y0, x0 = max(y - halo, 0), max(x - halo, 0)
        sr = _window(planes, rows[y0 : y + tile + halo], columns[x0 : x + tile + halo]) / top
        if planes.shape[2] < 3:
            luma = sr[..., 0] * 255
            sr[..., 0] += (super_resolve(model, luma) - luma) / 255
        else:
            luma = rgb2ycbcr(sr[..., :3])[..., 0]
            sr[..., :3] = with_luma(sr[..., :3], super_resolve(model, luma) - luma)
        sr = top * sr[y - y0 :, x - x0 :][:tile, :tile].clip(0, 1)
        out[y : y + tile, x : x + tile] = sr.round() if image.dtype.kind == "u" else sr
    return out[..., 0] if image.ndim == 2 else out


def read(path):
    """Return the pixels of a picture file, upright, as an array that `upscale` takes.

    Parameters
    ----------
    path : path-like
        At 8 bits a channel, or 16 if grey.

    Raises
    ------
    OSError
        If there is no such file, or it is not a picture.
    ValueError
        If it is in CMYK, say.
    """
    return _pixels(_open(path))


def with_luma(rgb, change):
    """Return RGB in [0, 1] (H, W, 3) whose Y of MATLAB's YCbCr, 16 to 235, has changed."""
    # YCbCr is linear, so that a change of Y (of range 219) alone is one of R, G and B alike.
    return rgb + change[..., None] / 219


def upscale_file(source, target, scale, *, model=None, progress=False):
    """Enlarge a picture file into another, keeping its colour profile and EXIF data.

    Parameters
    ----------
    source, target : path-like
        Files in formats that Pillow knows, at 8 bits a channel, or 16 if grey. The target's
        suffix says its format. It appears whole or not at all. The tags of a TIFF are
        lost, but for the colour profile.
    scale, model, progress
        As in `upscale`.

    Raises
    ------
    ValueError
        If the target's format is unknown or cannot hold such a picture, before any work;
        for a bad scale.
    OSError
        If a file cannot be read or written.
    """
    picture, target = _open(source), Path(target)
    pixels = _pixels(picture)
    kind = Image.registered_extensions().get(target.suffix.lower())
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} to write {target.name} to")
    # The picture is upright now, and says so.
    exif = picture.getexif()
    exif.pop(ExifTags.Base.Orientation, None)
    kept = {"icc_profile": picture.info.get("icc_profile"), "exif": exif.tobytes()}
    if kind == "JPEG":
        kept["quality"] = 95
    _check(pixels, scale)
    height, width = (ceil(n * scale) for n in pixels.shape[:2])
    try:
        for shape in ((1, width), (height, 1)):  # formats have their largest sides and depths
            trial, file = np.zeros((*shape, *pixels.shape[2:]), pixels.dtype), BytesIO()
            Image.fromarray(trial).save(file, kind, **kept)
            written = _pixels(Image.open(file))
            if written.shape[:2] != shape or written.itemsize < trial.itemsize:
                raise ValueError(f"not {width}×{height} pixels of {8 * trial.itemsize} bits")
            if _has_alpha(trial) and not _has_alpha(written):
                raise ValueError("no transparency")
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"{target.name} cannot hold a picture like {source}: {error}") from None
    part = target.with_name(f".{target.name}.part")
    try:
        part.touch()  # before the work, should the folder be read-only
        larger = Image.fromarray(upscale(pixels, scale, model=model, progress=progress))
        larger.save(part, kind, **kept)
        with Image.open(part) as written:
            if written.size != larger.size:  # an icon's sizes are few
                raise ValueError(f"{target.name} cannot hold {width}×{height} pixels")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _check(image, scale, tile=1):
    """Return the value of white in an image, or raise what `upscale` says."""
    if image.dtype not in (np.uint8, np.uint16) and image.dtype.kind != "f":
        raise TypeError(f"pixels must be uint8, uint16 or float in [0, 1], got {image.dtype}")
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or not 1 <= channels <= 4 or image.size == 0:
        raise ValueError(f"an image must be (H, W) or (H, W, 1 to 4), got {image.shape}")
    if not 1 <= scale <= 8:
        raise ValueError(f"scale must be from 1 to 8, got {scale!r}")
    if tile < 1:
        raise ValueError(f"tile must be at least 1 pixel, got {tile!r}")
    if image.dtype.kind == "u":
        return np.iinfo(image.dtype).max
    if not (image.min() >= 0 and image.max() <= 1):  # not so with NaN, either
        raise ValueError(
            f"float pixels must be in [0, 1], got {image.min():g} to {image.max():g}; "
            f"divide them by their white first"
        )
    return 1.0


def _has_alpha(image):
    return image.ndim == 3 and image.shape[2] in (2, 4)


def _window(planes, rows, columns):
    """Return the part of an enlarged (H, W, C) image that some rows of its two matrices give."""
    y, x = (slice(m.indices.min(), m.indices.max() + 1) for m in (rows, columns))
    rows, columns = rows[:, y], columns[:, x]
    window = planes[y, x].astype(np.float64)
    return np.stack([(columns @ (rows @ c).T).T for c in np.moveaxis(window, 2, 0)], axis=2)


def _open(path):
    try:
        picture = ImageOps.exif_transpose(Image.open(path))
        picture.getexif()  # which fails if anything of it is damaged
        return picture
    except UnidentifiedImageError:
        raise OSError(f"{path} is not a picture in a format that Pillow knows") from None
    except Image.DecompressionBombError as error:
        raise OSError(f"{path} is too large for Pillow: {error}") from None
    except (SyntaxError, struct.error):
        raise OSError(f"{path} has damaged EXIF data; save it without them first") from None


def _pixels(picture):
    """Return a Pillow image as an array that `upscale` takes."""
    if picture.mode in ("1", "P", "PA"):  # a palette cannot be interpolated
        transparent = "transparency" in picture.info or picture.mode == "PA"
        picture = picture.convert("L" if picture.mode == "1" else "RGBA" if transparent else "RGB")
    if picture.mode in ("L", "RGB") and "transparency" in picture.info:  # one colour is clear
        picture = picture.convert(f"{picture.mode}A")
    if picture.mode not in ("L", "LA", "RGB", "RGBA") and not picture.mode.startswith("I;16"):
        raise ValueError(f"a {picture.mode} picture is not supported; save it as RGB first")
    pixels = np.asarray(picture)
    return pixels.astype(pixels.dtype.newbyteorder("="))
