"""Training pairs: 41×41 patches of ground truth and of its bicubic blur, kept on the device."""

from fractions import Fraction

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from .checks import numbers, real, shown, truth, whole
from .data import load_images, luma
from .imresize import imresize

# Of an image's size: how public code of super-resolution multiplies its training images.
SHRUNK = 0.9, 0.8, 0.7, 0.6


def as_ratio(scale):
    """Return a scale as a fraction in lowest terms, the nearest with a denominator up to 100.

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it is below 1 or not finite.
    """
    must = "a number of at least 1, such as 2 or 2.5"
    return Fraction(real("scale", scale, must, lambda n: n >= 1)).limit_denominator(100)


def degrade(hr, scale):
    """Return an image cropped to fit a scale, and what bicubic down- and upscaling leaves of it.

    Parameters
    ----------
    hr : ndarray, (H, W)
        Ground truth.
    scale : float
        The factor, 2 or 2.5, say. Height and width are cropped to multiples of its
        numerator as a fraction in lowest terms (2 for 2, 5 for 2.5), the nearest fraction
        with a denominator up to 100.

    Returns
    -------
    hr, ilr : ndarray
        The cropped ground truth and its interpolated low resolution, of one shape,
        in the units of the input and not rounded in between.

    Raises
    ------
    TypeError
        If `hr` is no array of real numbers, or `scale` no number.
    ValueError
        If `hr` is not (H, W), `scale` below 1, or the image too small to be divided by it.
    """
    ratio = as_ratio(scale)
    must = "an array of real numbers, (H, W)"
    given, hr = hr, numbers("hr", hr, must)
    if hr.ndim != 2:
        raise ValueError(f"hr must be {must}, got {shown(given)}")
    height, width = (n // ratio.numerator * ratio.numerator for n in hr.shape)
    if min(height, width) == 0:
        raise ValueError(
            f"hr cannot be scaled by 1/{scale}: it must have at least {ratio.numerator} pixels a "
            f"side, the numerator of {ratio}, got {hr.shape[0]}×{hr.shape[1]}; take a larger "
            f"image, or a scale with a smaller numerator, such as 2 or 2.5 = 5/2"
        )
    hr = hr[:height, :width]
    lr = imresize(hr, shape=(int(height / ratio), int(width / ratio)))
    return hr, imresize(lr, shape=hr.shape)


def degrade_image(name, hr, scale):
    """Do as `degrade`, and let errors name the image.

    Parameters
    ----------
    name : str
    hr : ndarray, (H, W)
        Its luminance.
    scale : float
    """
    try:
        return degrade(hr, scale)
    except ValueError as error:
        raise ValueError(f"image {name!r}: {error}") from None


class Patches:
    """Aligned pairs of patches from all images at all scales.

    Parameters
    ----------
    dataset : str, path-like, or images
        As for `vdsr.load_images`.
    scales : sequence of float
        The factors, all of which are mixed in each batch.
    size : int
        Side of a patch in pixels; 41 in Kim et al. 2016, §3.2.
    overlap : int
        Pixels that neighbouring patches share; none in Kim et al. 2016, §3.2.
    augment : bool
        Whether an epoch visits each patch in all eight rotations and reflections.
    shrink : bool
        Whether images are taken at 0.9, 0.8, 0.7 and 0.6 of their size as well, as public code
        does.
    keep : float
        The share of patches that is kept, of each scale: those that interpolation loses most of.
    device : torch.device or str

    Attributes
    ----------
    hr, ilr : Tensor of float32, (N, size²)
        Ground truth and interpolated low resolution in [0, 1].

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If one has a value that cannot be, or no image is large enough for one patch.
    OSError
        As from `vdsr.load_images`.
    """

    def __init__(
        self, dataset, scales, *, size=41, overlap=0, augment=False, shrink=False, keep=1.0,
        device="cpu",
    ):  # fmt: skip
        try:
            ratios = [] if isinstance(scales, (str, bytes)) else [*scales]
        except TypeError:  # a single number, say
            ratios = []
        if not ratios:
            raise TypeError(f"scales must be factors, such as (2, 3, 4), got {shown(scales)}")
        ratios = [as_ratio(scale) for scale in ratios]
        size = whole("size", size, "a whole number of pixels, at least 1", lambda n: n >= 1)
        must = f"a whole number of pixels, from 0 to below the size of a patch, {size}"
        overlap = whole("overlap", overlap, must, lambda n: 0 <= n < size)
        truth("augment", augment)
        truth("shrink", shrink)
        keep = real("keep", keep, "a share above 0 and at most 1", lambda n: 0 < n <= 1)
        try:
            device = torch.empty(0, device=device).device
        except (AssertionError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"device must be one that torch has here, such as 'cpu', got {shown(device)} "
                f"({error})"
            ) from None
        pairs, of_scale = [], []
        for name, image in load_images(dataset).items():
            for size_name, hr in _sizes(name, luma(image), shrink):
                for scale, ratio in enumerate(ratios):
                    pair = np.stack(degrade_image(size_name, hr, ratio))
                    pairs.append(_cut(pair, size, size - overlap))
                    of_scale += pairs[-1].shape[1] * [scale]
        pairs = np.concatenate(pairs, axis=1)
        if pairs.shape[1] == 0:
            raise ValueError(
                f"dataset must have an image as large as a {size}×{size} patch, "
                f"got {shown(dataset)}, which has none"
            )
        if keep < 1:
            pairs = pairs[:, _richest(pairs, np.array(of_scale), keep)]
        self.hr, self.ilr = torch.from_numpy(pairs).to(device)
        self.size = size
        # A rotation or reflection is a reordering of the pixels: one gather does any of them.
        grid = torch.arange(size**2).view(size, size)
        turned = [torch.rot90(g, k) for g in (grid, grid.T) for k in range(4)]
        self._orders = torch.stack(turned[: 8 if augment else 1]).flatten(1).to(device)

    def __len__(self):
        """Return the number of pairs in an epoch, rotations and reflections counted."""
        return len(self.hr) * len(self._orders)

    def epoch_order(self, seed, epoch):
        """Return the shuffled order of one epoch, which depends on (seed, epoch) alone.

        Returns
        -------
        Tensor of int64, (len(self),)
            On the CPU, to be the same wherever training runs.
        """
        state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))
        return torch.randperm(len(self), generator=generator)

    def batch(self, index):
        """Return the pairs of the given places in an epoch.

        Parameters
        ----------
        index : Tensor of int64, (B,)
            On the device of the patches.

        Returns
        -------
        hr, ilr : Tensor of float32, (B, 1, size, size)
        """
        patch = (index % len(self.hr))[:, None]
        pixels = self._orders[index // len(self.hr)]
        shape = (len(index), 1, self.size, self.size)
        return self.hr[patch, pixels].view(shape), self.ilr[patch, pixels].view(shape)


def _sizes(name, hr, shrink):
    """Yield an image's name and luminance, and if wanted, four smaller ones, rounded as images."""
    yield name, hr
    for factor in SHRUNK if shrink else ():
        small = imresize(hr, scale=factor).round().clip(0, 255)
        yield f"{name} at {factor:g} of its size", small


def _richest(pairs, groups, keep):
    """Return the places of a share of each group: of pairs that differ most."""
    errors = np.square(pairs[0] - pairs[1]).mean(1)
    chosen = []
    for group in np.unique(groups):
        places = np.flatnonzero(groups == group)
        order = np.argsort(-errors[places], kind="stable")
        chosen.append(places[order[: max(1, round(keep * len(places)))]])
    return np.sort(np.concatenate(chosen))


def _cut(pair, size, stride):
    """Cut a (2, H, W) stack into a (2, N, size²) array of patches in [0, 1]."""
    if min(pair.shape[1:]) < size:
        return np.empty((2, 0, size * size), np.float32)
    pixels = (pair / 255).astype(np.float32)
    windows = sliding_window_view(pixels, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return windows.reshape(2, -1, size * size)
