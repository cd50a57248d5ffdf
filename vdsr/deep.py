"""Pictures of 16 bits a channel in colour or with transparency, which Pillow makes 8 of."""

import struct
from io import BytesIO

import numpy as np
from PIL import Image

from .formats import Unsupported


def read_png(file):
    """Return the pixels of a PNG of 16 bits a channel.

    Parameters
    ----------
    file : binary file

    Returns
    -------
    ndarray of uint16
        (H, W) or (H, W, C); one clear colour has become a channel.
    """
    import imagecodecs  # here, because a study on a machine without it needs no pictures

    return imagecodecs.png_decode(file.read())


def read_tiff(file, size):
    """Return the pixels of a TIFF of 9 to 16 bits a channel, or None if Pillow is to read it.

    Parameters
    ----------
    file : binary file
    size : tuple of int
        Width and height, as Pillow found them, in either order.

    Returns
    -------
    ndarray of uint16
        (H, W) or (H, W, C), not yet turned upright.
    """
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        bits = page.bitspersample
        known = page.sampleformat == 1 and isinstance(bits, int) and page.photometric in (0, 1, 2)
        if not (known and 8 < bits <= 16):
            return None
        colours = 3 if page.photometric == 2 else 1
        shape = page.imagelength, page.imagewidth
        if sorted(shape) != sorted(size) or page.imagedepth != 1:
            raise ValueError("its sizes contradict each other")
        if page.samplesperpixel - colours not in (0, 1):
            raise Unsupported(f"it has {page.samplesperpixel} channels; save it as RGB first")
        pixels = page.asarray()
        if page.planarconfig == 2 and pixels.ndim == 3:
            pixels = np.moveaxis(pixels, 0, 2)
        pixels = pixels.reshape(*shape, -1).astype(np.uint16)
        if pixels.shape[2] > colours and page.extrasamples not in ((1,), (2,)):
            pixels = pixels[..., :colours]  # the other is of no stated meaning
        extra = page.extrasamples
    white = 2**bits - 1
    if white != 65535:
        pixels = np.round(pixels * (65535 / white)).astype(np.uint16)
    if page.photometric == 0:
        pixels[..., 0] = 65535 - pixels[..., 0]
    if pixels.shape[2] > colours and extra == (1,):  # colours that are multiplied by alpha
        alpha = np.maximum(pixels[..., colours:], 1)
        straight = np.round(pixels[..., :colours] * (65535 / alpha)).clip(0, 65535)
        pixels[..., :colours] = straight.astype(np.uint16)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def write_png(pixels, file, **options):
    """Write 16-bit pixels (H, W, 2 to 4) as a PNG, with the options of Pillow's encoder."""
    import imagecodecs

    # Pillow writes all else about a picture of one pixel; its chunks go around these pixels.
    stub = BytesIO()
    _as_bytes(pixels[:1, :1])[0].crop((0, 0, 1, 1)).save(stub, "PNG", **options)
    deep = imagecodecs.png_encode(np.ascontiguousarray(pixels))
    others = [c for c in png_chunks(stub.getvalue()) if c[4:8] not in (b"IHDR", b"IDAT", b"IEND")]
    start = 8 + 25  # the signature and the first chunk
    file.write(deep[:start])
    for chunk in others:
        file.write(chunk)
    file.write(memoryview(deep)[start:])


def write_tiff(pixels, file, **options):
    """Write 16-bit pixels (H, W, 3 or 4) as a TIFF, with the options of Pillow's encoder.

    Parameters
    ----------
    pixels : ndarray of uint16
    file : binary file, at its start
    """
    # Uncompressed, twice as many pixels of 8 bits are the same bytes, so that Pillow writes them,
    # and two tags of the file are corrected.
    picture, width = _as_bytes(pixels.astype("<u2", copy=False))
    picture.save(file, "TIFF", **options)
    file.seek(4)
    [start] = struct.unpack("<L", file.read(4))
    file.seek(start)
    [count] = struct.unpack("<H", file.read(2))
    entries = {}
    for _ in range(count):
        place = file.tell()
        tag, _, number, _ = struct.unpack("<HHLL", file.read(12))
        entries[tag] = place, number
    place, _ = entries[256]
    file.seek(place)
    file.write(struct.pack("<HHLL", 256, 4, 1, width))
    place, number = entries[258]
    file.seek(place + 8)
    if number > 2:
        [place] = struct.unpack("<L", file.read(4))
        file.seek(place)
    file.write(struct.pack(f"<{number}H", *[16] * number))


def _as_bytes(pixels):
    """Return a Pillow image of twice the width whose bytes are 16-bit pixels, and their width."""
    height, width, channels = pixels.shape
    halves = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, 2 * width, channels)
    return Image.fromarray(halves), width


def png_chunks(data):
    """Return the whole chunks of a PNG in bytes, each with its length, name and checksum."""
    chunks, start = [], 8
    while start + 8 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        chunks.append(data[start:end])
        start = end
    return chunks
