"""A folder of your own pictures, and each of its files as ground truth: 8-bit, grey or RGB."""

import numpy as np
from PIL import Image, ImageOps

from .pictures import load_pixels, scale_clear_level

# By suffix and by content. Pillow starts no other program for any of these formats.
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def pictures(folder):
    """Return the picture files directly in a folder, sorted by name, hidden ones left out.

    Raises
    ------
    ValueError
        If there is none.
    """
    files = [f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and f.name[0] != "."]
    files = sorted((f for f in files if f.is_file()), key=lambda f: f.name)
    if not files:
        raise ValueError(
            f"dataset must be a folder with pictures directly in it, files that end in "
            f"{', '.join(SUFFIXES)}, got {str(folder)!r}, which has none"
        )
    return files


def read(path):
    """Return the pixels of a picture file, turned upright as its EXIF data say.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    ndarray of uint8, (H, W) or (H, W, 3)

    Raises
    ------
    ValueError
        If it has more than 8 bits a channel, transparency, several frames, or is CMYK, say.
    OSError
        If it cannot be read.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            pixels, wrong = from_pillow(file)
    except Exception as error:  # a decoder may raise anything when a byte is wrong
        raise OSError(
            f"cannot read {path}: {error}; replace the file, or take it out of the folder"
        ) from error
    if wrong:
        raise ValueError(
            f"{path} must be an opaque 8-bit grey or RGB picture, got one with {wrong}; save it "
            f"as such, or take it out of the folder"
        )
    return pixels


def from_pillow(image):
    """Return what `read` does for a Pillow image, or None, and what keeps it from that."""
    wrong = _wrong(image)
    if wrong:
        return None, wrong
    scale_clear_level(image)
    load_pixels(image)
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
        return None, "transparency"
    return np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")), ""


def _wrong(file):
    """Return what keeps an image from being ground truth, or an empty text."""
    frames = getattr(file, "n_frames", 1)
    if frames > 1 and file.format != "MPO":  # a telephone's JPEG, whose others are previews
        return f"{frames} frames"
    # Pillow makes 16-bit colour 8-bit, and says so here alone.
    for _, _, _, how in getattr(file, "tile", ()):
        if ";16" in str(how) or (file.format == "PPM" and isinstance(how, tuple) and how[1] > 255):
            return "more than 8 bits a channel"
    if file.mode[0] in "IF":
        return "more than 8 bits a channel"
    if file.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        return f"colours of kind {file.mode}"
    return ""
