"""Picture files, written: what can be refused is refused before the work, the rest whole."""

import os
import tempfile
from io import BytesIO

import numpy as np
from PIL import Image

from . import deep
from .checks import file_path, first_line
from .files import replacing, writable
from .formats import KEPT, by_suffix, holders
from .pictures import warn


class Writer:
    """Writes the enlargement of a picture to a file.

    Parameters
    ----------
    picture : vdsr.pictures.Picture
        Before it is enlarged.
    target : path-like
        Its suffix says the format. Where it is a symbolic link, the file it leads to is written.
    height, width : int
        Of the result, in pixels.

    Raises
    ------
    ValueError
        If the format is unknown, or cannot hold the result.
    OSError
        If the file cannot be written.

    Warns
    -----
    LossWarning
        For each thing that the picture's file holds and the target does not.
    """

    def __init__(self, picture, target, height, width):
        self.name, self.kind = file_path("target", target).name, by_suffix(target)
        channels = picture.pixels.shape[2] if picture.pixels.ndim == 3 else 1
        bits = 8 * picture.pixels.itemsize
        if why := self.kind.refusal(channels, bits, height, width):
            others = holders(channels, bits, height, width)
            remedy = f"; {others} can" if others else ""
            raise ValueError(f"{self.name} cannot hold {why}{remedy}")
        self.path = writable(target)
        metadata = picture.metadata
        metadata.fit(picture.pixels.shape[:2], (height, width))
        losses = metadata.losses(self.kind)
        self.options = dict(self.kind.options)
        sample = np.zeros((1, 1, *picture.pixels.shape[2:]), picture.pixels.dtype)
        for name, option in metadata.options(self.kind).items():
            try:  # whether the encoder takes it, which tells of more than its length
                self._encode(sample, BytesIO(), option)
                self._add(option)
            except Exception:
                losses.append(f"{KEPT[name]} (damaged, or too long for {self.kind.name})")
        if self.kind.pillow == "GIF" and channels == 3:
            losses.append("colours beyond 256")
        for loss in losses:
            warn(f"{self.name} does not keep the {loss} of {picture.path.name}")

    def write(self, pixels):
        """Write the result; the file appears whole or not at all.

        Parameters
        ----------
        pixels : ndarray
            Of the type and number of channels of the picture.

        Raises
        ------
        OSError
            If the disk is full, say. The result is in a temporary file then, which it names.
        """
        try:
            with replacing(self.path) as part, part.open("w+b") as file:
                self._encode(pixels, file, {})
        except Exception as error:
            where = _rescued(pixels)
            raise OSError(
                f"{self.name} could not be written: {first_line(error)}{where}"
            ) from error

    def _add(self, option):
        for key, value in option.items():
            if key == "pnginfo" and key in self.options:
                self.options[key].chunks += value.chunks
            else:
                self.options[key] = value

    def _encode(self, pixels, file, option):
        options = self.options | option
        if pixels.dtype == np.uint16 and pixels.ndim == 3:
            writer = deep.write_png if self.kind.pillow == "PNG" else deep.write_tiff
            writer(pixels, file, **options)
        else:
            Image.fromarray(pixels).save(file, self.kind.pillow, **options)


def _rescued(pixels):
    """Write what hours may have gone into to a temporary file; return where, in words."""
    import tifffile

    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    try:
        handle, path = tempfile.mkstemp(prefix="vdsr-", suffix=".tif")
        os.close(handle)
        try:
            tifffile.imwrite(
                path, pixels, photometric="rgb" if channels > 2 else "minisblack",
                planarconfig="contig" if channels > 1 else None,
                extrasamples=["unassalpha"] if channels in (2, 4) else None, metadata=None,
            )  # fmt: skip
        except BaseException:
            os.unlink(path)
            raise
    except Exception:
        return ""
    return f"; the enlarged picture is in {path}"
