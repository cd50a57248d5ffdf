"""Picture files, read: whole, or refused in one sentence that names the file and the remedy."""

import logging
import os
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from . import deep
from . import metadata as metadata_
from .checks import file_path, first_line
from .formats import FORMATS, READ, Unsupported

# What decoders remark on damaged files would go to the terminal beside our own sentence.
for _name in ("PIL", "tifffile"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class LossWarning(UserWarning):
    """Something that a picture file holds is not in what is read from it, or written."""


@dataclass
class Picture:
    """A picture file that was read.

    Parameters
    ----------
    path : pathlib.Path
    pixels : ndarray of uint8 or uint16
        Upright, (H, W) or (H, W, C), C as `vdsr.upscale` has it.
    metadata : vdsr.metadata.Metadata
        As in the file, orientation included.
    """

    path: Path
    pixels: np.ndarray
    metadata: metadata_.Metadata


def warn(message):
    """Warn of a loss."""
    warnings.warn(message, LossWarning, stacklevel=2)


def read(path):
    """Return the pixels of a picture file, upright, as an array that `vdsr.upscale` takes.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    ndarray of uint8 or uint16
        (H, W), or (H, W, C) with C = 2 grey and alpha, 3 RGB, 4 RGB and alpha. A palette has
        become RGB, one clear colour alpha.

    Raises
    ------
    OSError
        If there is no such file, or it is damaged, or not a picture in a format of
        `vdsr.formats.READ`.
    ValueError
        If it is in CMYK, say.

    Warns
    -----
    LossWarning
        If the file has more: other frames, more bits, EXIF data that cannot be read.
    """
    return load(path).pixels


def load(path):
    """Return a `Picture` with all that its file holds; raises and warns as `read`."""
    path = file_path("source", path)
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a file; give one picture, and each of a folder by itself")
    frames = 1
    with path.open("rb") as file, _damage(path), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        picture = Image.open(file, formats=READ)
        chunks = _png_chunks(path) if picture.format == "PNG" else []
        with path.open("rb") as again:  # Pillow is at some place in the other
            head = again.read(2**20)
        bits = _bits(picture, head, chunks)
        pixels = _deep(picture, path) if bits > 8 else None
        turn = picture.tag_v2.get(274) if picture.format == "TIFF" else None
        scale_clear_level(picture)
        with _muted():
            picture.load()
        metadata = metadata_.read(picture, head, chunks)
        if turn:  # which Pillow follows itself as it loads a TIFF, and then forgets
            metadata.exif[274] = turn
        upright = picture.format == "TIFF" and pixels is None
        pixels = to_array(picture, path) if pixels is None else pixels
        pixels = turned(pixels, 1 if upright else metadata.orientation)
        with suppress(Exception):  # of which later ones may be damaged
            frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        warn(f"{path.name} has {frames} frames, of which the first alone is read")
    if bits > 8 and pixels.dtype == np.uint8:
        warn(f"{path.name} has {bits} bits a channel, of which 8 are read")
    if metadata.damaged:
        warn(f"{path.name} has damaged {' and '.join(metadata.damaged)}, which are left out")
    elif remarks := [
        t for t in told if Path(t.filename).stem in ("TiffImagePlugin", "PngImagePlugin")
    ]:
        warn(f"{path.name} has damaged metadata: {first_line(remarks[0].message)}")
    return Picture(path, pixels, metadata)


def from_pillow(picture):
    """Return a Pillow image as an array, as its file would be read; raises and warns as `read`."""
    name = f"the Pillow image of mode {picture.mode}"
    with _damage(name), warnings.catch_warnings(), _muted():
        warnings.simplefilter("ignore")
        deeper = any("16" in str(tile[3]) for tile in getattr(picture, "tile", ()))
        scale_clear_level(picture)
        load_pixels(picture)
        orientation = 1
        with suppress(Exception):  # damaged EXIF data
            orientation = picture.getexif().get(274, 1)
        pixels = turned(to_array(picture, name), orientation)
    if deeper and pixels.dtype == np.uint8:
        warn(f"{name} is read at 8 of its 16 bits a channel; a path in its place gives all")
    return pixels


def to_array(picture, name):
    """Return the pixels of a loaded Pillow image, as they lie, as an array that `upscale` takes."""
    transparent = picture.has_transparency_data
    if picture.mode == "1":
        value = picture.info.get("transparency")
        picture = picture.convert("L")
        if value is not None:
            picture.info["transparency"] = 255 if value else 0
    if picture.mode in ("P", "PA", "RGBX", "RGBa", "La"):  # none of which can be interpolated
        grey = picture.mode == "La"
        picture = picture.convert("LA" if grey else "RGBA" if transparent else "RGB")
    elif picture.mode in ("L", "RGB") and transparent:  # one colour is clear
        picture = picture.convert(f"{picture.mode}A")
    if picture.mode == "I" and picture.format == "PPM":
        return np.asarray(picture).clip(0, 65535).astype(np.uint16)
    if picture.mode not in ("L", "LA", "RGB", "RGBA") and not picture.mode.startswith("I;16"):
        raise Unsupported(
            f"{name} has pixels of mode {picture.mode}, which cannot be enlarged; "
            f"save it as RGB or as grey first"
        )
    pixels = np.asarray(picture)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    if picture.mode.startswith("I;16") and transparent:
        clear = pixels == picture.info["transparency"]
        pixels = np.stack([pixels, np.where(clear, 0, 65535).astype(np.uint16)], axis=2)
    return pixels


def turned(pixels, orientation):
    """Return pixels that lie as an EXIF orientation, 1 to 8, says, upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def load_pixels(picture):
    """Load a Pillow image that may have been opened by its path.

    Of a grey TIFF without compression Pillow maps the file into memory then. If it lies on a
    side, Pillow 13 takes its height for its width there, and scrambles its pixels.
    """
    name = getattr(picture, "filename", None)
    if not name:
        picture.load()
        return
    picture.filename = ""  # without which nothing is mapped
    try:
        picture.load()
    finally:
        picture.filename = name


def scale_clear_level(picture):
    """Bring the clear level of a grey PNG of 2 or 4 bits, not yet loaded, to 0 to 255.

    Pillow does so with the pixels alone.
    """
    for *_, how in getattr(picture, "tile", ()):
        if how in ("L;2", "L;4") and isinstance(picture.info.get("transparency"), int):
            picture.info["transparency"] *= 255 // (2 ** int(how[-1]) - 1)


@contextmanager
def _damage(name):
    """Turn whatever decoders raise, of which no list is complete, into one OSError."""
    try:
        yield
    except Unsupported:
        raise
    except UnidentifiedImageError:
        known = ", ".join(dict.fromkeys(kind.name for kind in FORMATS))
        raise OSError(
            f"{name} is not a picture in a format that is read ({known}), or damaged or unusual"
        ) from None
    except Image.DecompressionBombError:
        most = 2 * Image.MAX_IMAGE_PIXELS
        raise OSError(f"{name} has more than {most:,} pixels; cut it into parts first") from None
    except MemoryError:
        raise OSError(f"{name} is too large for the memory of this machine") from None
    except Exception as error:
        raise OSError(f"{name} is damaged: {first_line(error)}") from error


@contextmanager
def _muted():
    """Keep from the terminal what libtiff prints past Python about a damaged file."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no terminal
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _png_chunks(path):
    """Return name and content of a PNG's chunks before its pixels."""
    chunks = []
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            chunks.append((head[4:], file.read(int.from_bytes(head[:4], "big"))))
            file.seek(4, 1)
    return chunks


def _bits(picture, head, chunks):
    """Return how many bits a channel of an opened picture has."""
    if picture.format == "PNG":
        return dict(chunks)[b"IHDR"][8]
    if picture.format == "TIFF":
        return max(picture.tag_v2.get(258, (1,)))
    if picture.format == "PPM" and isinstance(picture.tile[0][3], tuple):
        white = picture.tile[0][3][-1]
        return white.bit_length() if isinstance(white, int) else 8
    if picture.format == "JPEG2000" and (start := head.find(b"\xff\x4f\xff\x51")) >= 0:
        return (head[start + 42] & 0x7F) + 1
    if picture.format == "AVIF" and (start := head.find(b"av1C")) >= 0:
        return {0: 8, 2: 10}.get(head[start + 6] >> 5 & 3, 12)
    return 8


def _deep(picture, path):
    """Return pixels that Pillow would make 8 bits of, or None if it is to read them."""
    with path.open("rb") as file:
        if picture.format == "PNG":
            return deep.read_png(file)
        return deep.read_tiff(file, picture.size) if picture.format == "TIFF" else None
