"""Training pairs: 41×41 patches of ground truth and of its bicubic blur, kept on the device."""

from fractions import Fraction

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from .data import load_images, luma
from .imresize import imresize


def degrade(hr, scale):
    """Return an image cropped to fit a scale, and what bicubic down- and upscaling leaves of it.

    Parameters
    ----------
    hr : ndarray, (H, W)
        Ground truth.
    scale : float
        The factor, 2 or 2.5, say. Height and width are cropped to multiples of its
        numerator as a fraction in lowest terms (2 for 2, 5 for 2.5).

    Returns
    -------
    hr, ilr : ndarray
        The cropped ground truth and its interpolated low resolution, of one shape,
        in the units of the input and not rounded in between.

    Raises
    ------
    ValueError
        If `scale` is below 1 or the image too small to be divided by it.
    """
    ratio = Fraction(scale).limit_denominator(100)
    height, width = (n // ratio.numerator * ratio.numerator for n in hr.shape)
    if ratio < 1 or min(height, width) == 0:
        raise ValueError(f"a {hr.shape[0]}×{hr.shape[1]} image cannot be scaled by 1/{scale}")
    hr = hr[:height, :width]
    lr = imresize(hr, shape=(int(height / ratio), int(width / ratio)))
    return hr, imresize(lr, shape=hr.shape)


class Patches:
    """Aligned pairs of patches from all images at all scales.

    Parameters
    ----------
    dataset : str
        A name for `vdsr.load_images`.
    scales : sequence of float
        The factors, all of which are mixed in each batch.
    size : int
        Side of a patch in pixels; 41 in Kim et al. 2016, §3.2.
    overlap : int
        Pixels that neighbouring patches share; none in Kim et al. 2016, §3.2.
    augment : bool
        Whether an epoch visits each patch in all eight rotations and reflections.
    device : torch.device or str

    Attributes
    ----------
    hr, ilr : Tensor of float32, (N, size²)
        Ground truth and interpolated low resolution in [0, 1].

    Raises
    ------
    ValueError
        If no image is large enough for one patch.
    """

    def __init__(self, dataset, scales, *, size=41, overlap=0, augment=False, device="cpu"):
        pairs = [
            _cut(np.stack(degrade(luma(image), scale)), size, size - overlap)
            for image in load_images(dataset).values()
            for scale in scales
        ]
        pairs = torch.from_numpy(np.concatenate(pairs, axis=1)).to(device)
        if pairs.shape[1] == 0:
            raise ValueError(f"{dataset} has no image as large as a {size}×{size} patch")
        self.hr, self.ilr = pairs
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


def _cut(pair, size, stride):
    """Cut a (2, H, W) stack into a (2, N, size²) array of patches in [0, 1]."""
    if min(pair.shape[1:]) < size:
        return np.empty((2, 0, size * size), np.float32)
    windows = sliding_window_view(pair, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return (windows.reshape(2, -1, size * size) / 255).astype(np.float32)
