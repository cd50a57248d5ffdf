"""Networks that `vdsr.upscale` is given: their faults, how far they see, how they run fastest."""

from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import torch
from torch import nn

from . import winograd
from .checks import shown
from .evaluate import evaluating, ieee_float32, super_resolve
from .machine import bf16_is_fast, one_thread
from .model import SRCNN, VDSR, receptive_field

# How far a network that is not of this package may see, as half the side of what is tried.
_SIDES = 65, 129, 257
# What a network of this package consists of, if nobody has put anything else into it.
_KNOWN = {VDSR, SRCNN, nn.Sequential, nn.ModuleList, nn.Conv2d, nn.ReLU}
# Pixels of a result that takes long enough for Winograd's algorithm to be loaded.
_LARGE = 2**20


class Ensemble(nn.Module):
    """A network's mean over the eight orientations of its input, eight times the work.

    Timofte et al. 2016 ("Seven ways to improve example-based single image super resolution")
    turn and mirror the input, and turn each result back.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (N, 1, H, W) to the same shape.

    Raises
    ------
    TypeError
        If it is no network.
    """

    def __init__(self, model):
        super().__init__()
        _check_type(model)
        self.model = model

    def forward(self, ilr):
        """Map interpolated low resolution (N, 1, H, W) in [0, 1] to super-resolution alike."""
        total = torch.zeros_like(ilr)
        for turns in range(4):
            turned = ilr.rot90(turns, (2, 3))
            mirrored = self.model(turned.flip(3)).flip(3)
            total += (self.model(turned) + mirrored).rot90(-turns, (2, 3))
        return total / 8


def _check_type(model):
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module, such as vdsr.load_pretrained() or the model of a "
            f"finished run, got {shown(model)}"
        )


def check(model):
    """Raise a TypeError or a ValueError for what cannot be a network, or has no numbers in it."""
    _check_type(model)
    for name, weight in [*model.named_parameters(), *model.named_buffers()]:
        if weight.is_meta:
            raise ValueError(f"the model's {name} has no values: it is on the device 'meta'")
        if weight.is_floating_point() and not weight.isfinite().all():
            raise ValueError(
                f"the model's {name} has NaN or infinite values: its training diverged, or its "
                f"file is damaged"
            )


def apply(model, luma):
    """Apply a network as `vdsr.evaluate.super_resolve` does, and say what is wrong with it.

    Parameters
    ----------
    model : torch.nn.Module
    luma : ndarray, (H, W)
        0 to 255.

    Raises
    ------
    ValueError
        If the network fails, gives another shape, or a value that is not finite.
    MemoryError
        If a tile is too large.
    """
    sr = super_resolve(model, luma)
    if not np.isfinite(sr).all():
        raise ValueError(
            "the model gives NaN or infinite values: it diverged, or its numbers are too small a "
            "type for it"
        )
    return sr


@contextmanager
def fastest(model, precision, pixels):
    """Give a network for use in a block, as fast as its device computes it, and how to use it.

    Parameters
    ----------
    model : torch.nn.Module
        A VDSR in float32 is copied. Others are given as they are: of them it is not known what
        they bear.
    precision : {"auto", "float32"}
        Whether its middle may compute in half precision, on a GPU, and in bfloat16, on a CPU
        that has instructions for it.
    pixels : int
        Of the result.

    Yields
    ------
    torch.nn.Module
    int
        How many threads of this process should use it at a time.
    """
    if type(model) is not VDSR or {weight.dtype for weight in model.parameters()} != {
        torch.float32
    }:
        yield model, 1
        return
    model = _copy(model)
    device = next(model.parameters()).device
    kind = device.type
    if precision == "auto" and (kind == "cuda" or bf16_is_fast(device)):
        with torch.autocast(kind, torch.float16 if kind == "cuda" else torch.bfloat16):
            yield model, 1
    elif pixels >= _LARGE and winograd.layers(model):
        # The contexts change what all threads share, so that one must enter them for all.
        with winograd.used(model), one_thread() as threads, ieee_float32(), evaluating(model):
            yield model, threads
    else:
        yield model, 1


def _copy(model):
    """Return a network's copy in the channels-last layout, which convolves faster."""
    try:
        return deepcopy(model).to(memory_format=torch.channels_last)
    except RuntimeError:  # weights that are computed from others, as after pruning
        return model


def halo(model):
    """Return how many pixels away from its place an output of a network depends on.

    Parameters
    ----------
    model : torch.nn.Module
        One of this package's, or one that is tried.

    Raises
    ------
    ValueError
        If it depends on the whole picture, or on where in it a pixel lies.
    """
    if type(model) is Ensemble:
        return halo(model.model)
    if type(model) in (VDSR, SRCNN) and {type(m) for m in model.modules()} <= _KNOWN:
        return receptive_field(model) // 2
    # One input that is not a number makes all outputs so that depend on it.
    for side in _SIDES:
        luma = np.full((side, side), 127.0)
        luma[side // 2, side // 2] = np.nan
        places = np.argwhere(~np.isfinite(super_resolve(model, luma))) - side // 2
        reach = int(np.abs(places).max(initial=0))
        if reach < side // 2:
            break
    else:
        apply(model, np.full((side, side), 127.0))  # which says so if nothing is a number
        raise ValueError(
            f"the model sees farther than {side // 2} pixels, so that its result would depend on "
            f"the tiles; a tile as large as the result, tile=100_000, say, leaves it whole"
        )
    # Whether it is so, and the result the same wherever a picture is cut.
    luma = 255 * np.random.default_rng(0).random((2 * reach + 33, 2 * reach + 35))
    whole, cut = super_resolve(model, luma)[1:, 1:], super_resolve(model, luma[1:, 1:])
    error = np.abs(whole - cut)[reach:, reach:].max()
    # Twice as far from the truth as rounding may bring it through tens of layers.
    if not error <= 100 * _epsilon(model) * max(255, np.abs(whole).max()):
        raise ValueError(
            "the model gives a pixel another value where the picture is cut elsewhere, so that its "
            "result would depend on the tiles; a tile as large as the result, tile=100_000, say, "
            "leaves it whole"
        )
    return reach


def _epsilon(model):
    types = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
    return max((torch.finfo(t).eps for t in types), default=torch.finfo(torch.float32).eps)
