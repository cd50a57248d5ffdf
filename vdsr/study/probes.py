"""Measurements beside training: gradients, fields, borders, and the paper's arithmetic."""

from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..evaluate import prepare, super_resolve
from ..model import VDSR, convolutions, step_operations
from ..patches import as_ratio
from ..train import Trainer


def gradient_magnitudes(config, steps):
    """Return the gradient before clipping at some steps of a training that is not kept.

    Parameters
    ----------
    config : TrainConfig
    steps : sequence of int
        Ascending, within the first epoch; 0 is the first.

    Returns
    -------
    pandas.DataFrame
        A row a weight and bias, of each step: step, layer (from 1), and ratio, the magnitude of
        its gradient over θ/γ, the bound of adjustable clipping.
    """
    trainer = Trainer(config, Path("not kept"), device="cpu")
    trainer.begin(0, 0)
    tables = []
    for step in range(steps[-1] + 1):
        if step in steps:
            loss = trainer.loss(*trainer.patches.batch(trainer.order[trainer.cursor][0]))
            gradients = torch.autograd.grad(loss, trainer.parameters)
            gradients = dict(zip(trainer.parameters, gradients, strict=True))
            for layer, convolution in enumerate(convolutions(trainer.model), 1):
                for parameter in convolution.parameters():
                    sizes = gradients[parameter].abs().flatten().numpy()
                    ratio = sizes * (trainer.rate / config.theta)
                    tables.append(pd.DataFrame({"step": step, "layer": layer, "ratio": ratio}))
        trainer.one_step()
    return pd.concat(tables, ignore_index=True)


def layer_magnitudes(model, ilr, hr):
    """Return how large the signal and the gradient are in each layer.

    Parameters
    ----------
    model : VDSR
    ilr, hr : Tensor of float32, (N, 1, H, W)
        Input and ground truth in [0, 1].

    Returns
    -------
    signal, gradient : ndarray, (depth,)
        Root mean square of each convolution's output, and of the loss's gradient with respect
        to it; the loss is half the squared error summed over all pixels.
    """
    outputs = []
    x = ilr
    for layer in model.layers:
        # ReLUs work in place, and would change what is to be looked at.
        x = layer(x) if isinstance(layer, nn.Conv2d) else torch.relu(x)
        if isinstance(layer, nn.Conv2d):
            outputs.append(x)
    sr = ilr + x if model.residual else x
    gradients = torch.autograd.grad((hr - sr).square().sum() / 2, outputs)
    return tuple(
        np.array([t.detach().double().square().mean().sqrt().item() for t in tensors])
        for tensors in (outputs, gradients)
    )


def step_effects(model, ilr, hr, theta):
    """Return how far one clipped step moves a network's output, layer by layer.

    Parameters
    ----------
    model : VDSR
    ilr, hr : Tensor of float32, (N, 1, H, W)
        Input and ground truth in [0, 1].
    theta : float
        Length of the step of each weight and bias, against its gradient's sign.

    Returns
    -------
    layers : ndarray, (depth,)
        Root mean square of the output's change when one convolution alone makes the step.
    together : float
        The same when all of them do.
    """
    out = model(ilr)
    parameters = [*model.parameters()]
    gradients = torch.autograd.grad((hr - out).square().sum() / 2, parameters)
    signs = dict(zip(parameters, map(torch.sign, gradients), strict=True))

    @torch.no_grad()
    def moved(chosen):
        before = [p.clone() for p in chosen]
        for p in chosen:
            p.sub_(theta * signs[p])
        change = (model(ilr) - out).double().square().mean().sqrt().item()
        for p, old in zip(chosen, before, strict=True):
            p.copy_(old)
        return change

    layers = [moved([*convolution.parameters()]) for convolution in convolutions(model)]
    return np.array(layers), moved(parameters)


def gradient_field(model, ilr):
    """Return how much the residual at the centre depends on each input pixel.

    Parameters
    ----------
    model : VDSR
    ilr : Tensor of float32, (N, 1, S, S)
        Inputs in [0, 1], S odd.

    Returns
    -------
    ndarray of float64, (S, S)
        Mean over the inputs of the gradient's magnitude, largest value 1.
    """
    ilr = ilr.clone().requires_grad_()
    out = model(ilr) - ilr if model.residual else model(ilr)
    centre = ilr.shape[-1] // 2
    [gradient] = torch.autograd.grad(out[..., centre, centre].sum(), ilr)
    field = gradient.abs().mean((0, 1)).double().numpy()
    return field / field.max()


def field_sides(field):
    """Return two sides in pixels of the centred square that matters in a gradient field.

    Parameters
    ----------
    field : ndarray, (S, S)
        From `gradient_field`.

    Returns
    -------
    theoretical : int
        Side of the smallest centred square that holds the whole sum.
    effective : float
        Side of the centred square that holds nine tenths of it, interpolated between the squares
        that consist of whole pixels.
    """
    distance = np.abs(np.indices(field.shape) - len(field) // 2).max(axis=0)
    share = np.bincount(distance.ravel(), field.ravel()).cumsum() / field.sum()
    effective = np.interp(0.9, share, 1 + 2 * np.arange(len(share)))
    return 2 * int(distance[field > 0].max()) + 1, float(effective)


def border_profile(model, images, scale, width=24):
    """Score a network ring by ring inside a border that was not one until it was cut.

    The middle of each image is cut out, and super-resolved with zeros beyond the cut, with its
    outermost pixels repeated there, mirrored there, and with the surroundings that were cut away.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (1, 1, H, W) in [0, 1] to the same shape, padding with zeros.
    images : mapping of str to ndarray of uint8
    scale : float
    width : int
        How many rings of one pixel to look at; and how many pixels are repeated or mirrored.

    Returns
    -------
    pandas.DataFrame
        Columns distance (pixels from the border), method, psnr (dB, of all images' pixels).
    """
    names = ["bicubic", "zero padding", "replicated", "mirrored", "true surroundings"]
    counts = np.zeros(width + 1)
    totals = np.zeros((len(names), width + 1))
    inside = slice(width, -width)
    for _, hr, ilr in prepare(images, scale):
        cut = tuple(slice(n // 4, -(n // 4)) for n in hr.shape)
        results = [ilr[cut], super_resolve(model, ilr[cut])]
        for mode in ("edge", "symmetric"):
            results.append(super_resolve(model, np.pad(ilr[cut], width, mode))[inside, inside])
        results.append(super_resolve(model, ilr)[cut])
        sides = [np.minimum(np.arange(n), np.arange(n)[::-1]) for n in hr[cut].shape]
        distance = np.minimum.outer(*sides).clip(max=width).ravel()
        counts += np.bincount(distance, minlength=width + 1)
        for total, sr in zip(totals, results, strict=True):
            error = (sr.round().clip(0, 255) - hr[cut]) ** 2
            total += np.bincount(distance, error.ravel(), minlength=width + 1)
    psnr = 10 * np.log10(255**2 * counts / totals)[:, :width]
    return (
        pd.DataFrame(psnr.T, columns=names)
        .rename_axis("distance")
        .melt(var_name="method", value_name="psnr", ignore_index=False)
        .reset_index()
    )


def correction_factor(model, images, scale):
    """Return how strong a network's corrections should be, as a multiple of what they are.

    Of all factors by which the whole correction, output less input, might be multiplied, it is
    the one that brings the result closest to the ground truth. Below one, the network corrects
    too much at this scale; above one, too little.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (1, 1, H, W) in [0, 1] to the same shape.
    images : mapping of str to ndarray of uint8
    scale : float

    Returns
    -------
    float
        By least squares over all images' pixels inside the border that scores leave out; the
        output is not rounded.
    """
    border = ceil(as_ratio(scale))
    inside = slice(border, -border), slice(border, -border)
    product = square = 0.0
    for _, hr, ilr in prepare(images, scale):
        correction = (super_resolve(model, ilr) - ilr)[inside]
        product += np.sum(correction * (hr - ilr)[inside])
        square += np.sum(correction**2)
    return float(product / square)


def iteration_budget(patches):
    """Return what "80 epochs (9960 iterations)" in "roughly 4 hours on GPU Titan Z" may mean.

    Parameters
    ----------
    patches : int
        What the 91 images at three scales are cut into.

    Returns
    -------
    pandas.DataFrame
        A row a reading: steps in all, the patches of an epoch that this takes, the patches there
        are, the whole training's petaflops, the rate in TFLOP/s to do that in 4 hours, and that
        rate over the card's peak of 8.1.
    """
    epochs, steps, batch, hours, peak = 80, 9_960, 64, 4, 8.1
    operations = step_operations(VDSR(), batch, 41)
    rows = {}
    for reading, total in (("9,960 in all", steps), ("9,960 an epoch", epochs * steps)):
        rate = total * operations / (3600 * hours) / 1e12
        rows[reading] = {
            "steps": total, "patches an epoch": total * batch // epochs, "there are": patches,
            "PFLOP": total * operations / 1e15, "TFLOP/s needed": rate, "of the peak": rate / peak,
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")
