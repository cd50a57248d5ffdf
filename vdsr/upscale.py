"""Arrays in, larger arrays out: any scale, any common pixel type, bounded memory."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from math import ceil, prod

import numpy as np
import scipy  # and skimage: their parts are loaded when they are first used
import skimage.color
import torch
from tqdm import tqdm

from . import arrays, networks, pictures
from .checks import shown, truth
from .files import PRETRAINED, load_checkpoint
from .imresize import apply_weights, axis_weights
from .model import VDSR
from .writing import Writer

ROUNDING = 1e-6  # of a factor that is computed
# Less opacity than this is none in 8 bits.
_SEEN = 1 / 510


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
    model = VDSR(**{name: config[name] for name in names})
    model.load_state_dict(tensors)
    return model.eval()


@cache
def _default_model():
    return load_pretrained().to("cuda" if torch.cuda.is_available() else "cpu")


def upscale(
    image, scale, *, model=None, ensemble=False, precision="auto", tile=512, progress=False
):
    """Return a picture enlarged: its luminance by a network, the rest by bicubic interpolation.

    Beyond a factor of 4 the package's own network enlarges it twice, and so does interpolation.

    Colours under transparency are interpolated premultiplied, and where nothing is seen, the
    network is shown the nearest colour that is.

    Parameters
    ----------
    image : ndarray, path-like, PIL.Image.Image or Tensor
        Pixels of type uint8, uint16 or float in [0, 1], of shape (H, W), or (H, W, C) with
        C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; what floats exceed [0, 1] by as an
        interpolation does, is clipped. A file of a format in `vdsr.formats.READ` is turned
        upright as its EXIF orientation says, and a Pillow image is taken as its file would be.
        A tensor is (H, W), (C, H, W) or (N, C, H, W); no gradient flows through.
    scale : float or fractions.Fraction
        Factor from 1 to 8, 2 or 2.5, say. A fraction makes the result's sides exact, where 1.1
        times 100 is a little more than 110 for floats, and 111 pixels.
    model : torch.nn.Module, optional
        Maps (1, 1, H, W) in [0, 1] to the same shape, as a VDSR does, on any device and in any
        floating-point type, and is applied to the picture as interpolated at `scale`. It is left
        in the mode that it was in. Without one it is `load_pretrained`'s, on a GPU if there is
        one, and then it is used at the factors alone that it was trained for: what it adds at the
        next of 2, 3 and 4 is reduced to other ones, and for more than 4 the picture is enlarged
        by 2 first.
    ensemble : bool
        Whether to take the network's mean over the eight orientations of the picture, which is a
        little better and takes eight times as long.
    precision : {"auto", "float32"}
        Of the network's arithmetic. By default a VDSR in float32 computes all but its last layer
        in half precision on a GPU, and in bfloat16 on a CPU that has instructions for it, which
        changes the mean PSNR of Set5 by less than 0.02 dB. Other networks compute in the type of
        their weights in any case.
    tile : int
        Side in pixels of the squares of the result that are computed one after the other, or
        smaller ones side by side; it bounds the memory and changes nothing else.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    ndarray or Tensor
        A tensor for a tensor, on its device. Of the type and number of channels of the input,
        ``ceil(scale * H)`` pixels high and ``ceil(scale * W)`` wide.

    Raises
    ------
    TypeError
        For another type of image, pixels, scale, model, ensemble or tile; for a masked array.
    ValueError
        For another shape, floats outside [0, 1], a scale outside [1, 8], a `tile` that is no
        whole number of at least 1, another precision; for a model with values that are not
        finite, that fails, that gives another shape, or whose result depends on tiles where there
        are several.
    OSError
        If a file cannot be read.
    MemoryError
        If there is not enough for the result, or for a tile.
    """
    scale, tile = arrays.check_scale(scale), arrays.check_tile(tile)
    _check(model, ensemble, precision)
    several, restore = arrays.unpack(image)
    pixels = _pixels(several[0].shape, scale, model)
    with _network(model, ensemble, precision, pixels) as (network, threads):
        larger = [
            _enlarge(each, scale, model, network, tile, progress, threads) for each in several
        ]
    return restore(larger)


def upscale_file(
    source, target, scale, *, model=None, ensemble=False, precision="auto", progress=False
):
    """Enlarge a picture file into another, and keep what the format of that one holds.

    `vdsr.formats.table` says which format holds what.

    Parameters
    ----------
    source, target : path-like
        The target's suffix says its format. It appears whole or not at all.
    scale, model, ensemble, precision, progress
        As in `upscale`.

    Returns
    -------
    ndarray of uint8 or uint16
        The pixels that were written.

    Raises
    ------
    TypeError, ValueError
        As `upscale`; if the target's format is unknown or cannot hold the result, before any work.
    OSError
        If a file cannot be read or written.

    Warns
    -----
    vdsr.pictures.LossWarning
        For each thing in the source that the target does not keep, before the work.
    """
    scale = arrays.check_scale(scale)
    picture = pictures.load(source)
    writer = Writer(picture, target, *sides(picture.pixels.shape, scale))
    _check(model, ensemble, precision)
    pixels = _pixels(picture.pixels.shape, scale, model)
    with _network(model, ensemble, precision, pixels) as (network, threads):
        larger = _enlarge(picture.pixels, scale, model, network, 512, progress, threads)
    writer.write(larger)
    return larger


def _check(model, ensemble, precision):
    truth("ensemble", ensemble)
    if not isinstance(precision, str) or precision not in ("auto", "float32"):
        raise ValueError(f"precision must be 'auto' or 'float32', got {shown(precision)}")
    if model is not None:
        networks.check(model)


@contextmanager
def _network(model, ensemble, precision, pixels):
    """Give the network that enlarges, in a block, and how many threads are to use it."""
    model = _default_model() if model is None else model
    with networks.fastest(model, precision, pixels) as (network, threads):
        yield networks.Ensemble(network) if ensemble else network, threads


def sides(shape, scale):
    """Return height and width of an enlarged picture of some shape."""
    return tuple(ceil(n * scale) for n in shape[:2])


def with_luma(rgb, change):
    """Return RGB in [0, 1] (H, W, 3) whose Y of MATLAB's YCbCr, 16 to 235, has changed."""
    # YCbCr is linear, so that a change of Y (of range 219) alone is one of R, G and B alike.
    return rgb + change[..., None] / 219


def window(planes, rows, columns):
    """Return the part of an enlarged (H, W, C) image that some rows of its two matrices give.

    Parameters
    ----------
    planes : ndarray, (H, W, C)
    rows, columns : csr_array
        Rows of the matrices of `vdsr.imresize.axis_weights` for the two axes.

    Returns
    -------
    ndarray of float64, (h, w, C)
    """
    part = planes[_span(rows), _span(columns)].astype(np.float64)
    return apply_weights(part, rows[:, _span(rows)], columns[:, _span(columns)])


def _next(scale):
    """Return the next factor that the network that ships was trained for, for one up to 4."""
    return max(2, ceil(scale - ROUNDING))


def _pixels(shape, scale, model):
    """Return of how many pixels the last picture is that a network is given in `_enlarge`."""
    last = scale / 2 if scale > 4 + ROUNDING else scale
    larger = _next(last) / last if model is None else 1
    height, width = sides(shape, scale)
    return height * width * larger**2


def _enlarge(image, scale, model, network, *options):
    """Do what `upscale` does for an array that is right, with the network for a model."""
    if model is not None:
        return enlarge(image, scale, network, *options)
    if scale == 1:
        return image.copy()
    out = _room(image, scale)
    if scale > 4 + ROUNDING:
        image, scale = enlarge(image, 2, network, *options), scale / 2
    return enlarge(image, scale, network, *options, at=_next(scale), out=out)


def _room(image, scale):
    """Return an array for an enlarged picture."""
    shape = *sides(image.shape, scale), *image.shape[2:]
    try:
        return np.empty(shape, image.dtype)
    except MemoryError:
        size = prod(shape) * image.itemsize / 2**30
        raise MemoryError(f"{shape[1]}×{shape[0]} pixels need {size:.0f} GiB of memory") from None


def enlarge(image, scale, model, tile, progress, threads=1, *, at=None, out=None):
    """Return an array that is right enlarged by a network, several tiles at a time.

    Parameters
    ----------
    image, scale, tile, progress
        As `upscale` takes them.
    model : torch.nn.Module
    threads : int
    at : int, optional
        The factor at which the network is used, `scale` or more; what it adds there is reduced.
    out : ndarray, optional
        Where the result is put; its sides are the result's.
    """
    out = _room(image, scale) if out is None else out
    height, width = out.shape[:2]
    scale = float(scale)  # a fraction has told the sides
    planes = image[:, :, None] if image.ndim == 2 else image
    rows, columns = matrices = [
        axis_weights(n, m, scale) for n, m in zip(image.shape, (height, width), strict=False)
    ]
    reduced = None
    if at not in (None, scale):
        larger = [at * n for n in image.shape[:2]]
        matrices = [axis_weights(n, m, at) for n, m in zip(image.shape, larger, strict=False)]
        reduced = [
            axis_weights(n, m, scale / at) for n, m in zip(larger, (height, width), strict=True)
        ]
        tile = max(1, int(tile * scale / at))  # of which the network is given no more than else
    tile = _shared(tile, threads, height, width)
    halo = networks.halo(model) if reduced or max(height, width) > tile else 0
    top = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1.0
    shown, alpha = _filled(planes, top)
    result = out if image.ndim == 3 else out[..., None]

    def work(y, x):
        place = slice(y, y + tile), slice(x, x + tile)
        back = [m[part] for m, part in zip(reduced, place, strict=True)] if reduced else []
        # The surroundings that the network sees are computed with a tile, and then cut off.
        inner = [_span(matrix) for matrix in back] or place
        outer = [slice(max(part.start - halo, 0), part.stop + halo) for part in inner]
        cut = tuple(
            slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True)
        )
        seen = window(shown, *(m[part] for m, part in zip(matrices, outer, strict=True))) / top
        if planes.shape[2] < 3:
            luma = seen[..., 0] * 255
        else:
            luma = skimage.color.rgb2ycbcr(seen[..., :3])[..., 0]
        change, seen = (networks.apply(model, luma) - luma)[cut], seen[cut]
        some = rows[place[0]], columns[place[1]]
        if reduced:
            change = window(change[..., None], *(m[:, _span(m)] for m in back))[..., 0]
            seen = window(shown, *some) / top
        sr = _weighted(planes, top, seen, *some) if alpha else seen
        if planes.shape[2] < 3:
            sr[..., 0] += change / 255
        else:
            sr[..., :3] = with_luma(sr[..., :3], change)
        sr = top * sr.clip(0, 1)
        result[place] = sr.round() if image.dtype.kind == "u" else sr

    places = [(y, x) for y in range(0, height, tile) for x in range(0, width, tile)]
    name = f"Upscaling ×{scale:g}"
    show = partial(tqdm, total=len(places), desc=name, unit="tile", disable=not progress)
    if threads == 1:  # this one, since half precision is a thread's own
        for place in show(places):
            work(*place)
    else:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            deque(show(pool.map(work, *zip(*places, strict=True))), maxlen=0)
    return out


def _shared(tile, threads, height, width):
    """Return the side of tiles that is best for some threads.

    Each thread has one, all together have at most four times the pixels of a given one, and none
    is so small that its surroundings are most of the work.
    """
    side = tile
    while side >= 256 and (
        threads * side**2 > 4 * tile**2 or ceil(height / side) * ceil(width / side) < threads
    ):
        side //= 2
    return side


def _filled(planes, top):
    """Return an image whose hidden colours are the nearest seen ones, and whether alpha matters."""
    if planes.shape[2] not in (2, 4) or planes[..., -1].min() == top:
        return planes, False
    hidden = planes[..., -1] < _SEEN * top
    if hidden.any():
        planes = planes.copy()
        if hidden.all():
            planes[..., :-1] = 0
        else:
            nearest = scipy.ndimage.distance_transform_edt(
                hidden, return_distances=False, return_indices=True
            )
            planes[..., :-1] = planes[(*nearest,)][..., :-1]
    return planes, True


def _weighted(planes, top, seen, rows, columns):
    """Return a part of an enlarged image again, its colours now weighted by their opacity."""
    part = planes[_span(rows), _span(columns)].astype(np.float64)
    part = part[..., :-1] * (part[..., -1:] / top)
    colours = apply_weights(part, rows[:, _span(rows)], columns[:, _span(columns)]) / top
    opacity = seen[..., -1:]
    colours = np.divide(colours, opacity, out=seen[..., :-1].copy(), where=opacity > _SEEN)
    return np.concatenate([colours, opacity], axis=2)


def _span(matrix):
    """Return the columns of a matrix that are not empty, as a slice."""
    return slice(matrix.indices.min(), matrix.indices.max() + 1)
