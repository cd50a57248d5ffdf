"""The network: a stack of 3×3 convolutions that predicts what bicubic upscaling lost."""

import os
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .checks import shown
from .matfile import read_mat


class VDSR(nn.Module):
    """The very deep super-resolution network of Kim et al. 2016, §3.1.

    Every convolution is 3×3, zero-padded by one pixel, and followed by a ReLU but for
    the last.

    Parameters
    ----------
    depth : int
        Number of convolutions, at least 2.
    width : int
        Number of filters of all but the last convolution.
    residual : bool
        Whether the input is added to the output (§3.2).
    dilation : int
        Spacing of the taps of all but the first and last convolution, 1 in the paper. More
        widens the receptive field of the same weights.
    """

    def __init__(self, depth=20, width=64, residual=True, dilation=1):
        super().__init__()
        if depth < 2 or width < 1 or dilation < 1:
            raise ValueError(
                f"VDSR needs depth >= 2, width >= 1 and dilation >= 1, "
                f"got {depth}, {width} and {dilation}"
            )
        channels = [1, *[width] * (depth - 1), 1]
        spacing = [1, *[dilation] * (depth - 2), 1]
        layers = []
        for (fan_in, fan_out), d in zip(pairwise(channels), spacing, strict=True):
            convolution = nn.Conv2d(fan_in, fan_out, 3, padding=d, dilation=d)
            layers += [convolution, nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])
        self.residual = residual

    def forward(self, ilr):
        """Map interpolated low resolution (N, 1, H, W) in [0, 1] to super-resolution alike."""
        out = self.layers(ilr)
        return ilr + out if self.residual else out


class SRCNN(nn.Module):
    """The three-layer network of Dong et al. 2014 that VDSR is measured against.

    64 filters of 9×9, 32 in the middle, one of 5×5, a ReLU after each but the last. In training
    mode nothing is padded, and the output lacks a border of half the receptive field. In
    evaluation mode each layer's edge is replicated, as in the authors' test code, and the output
    is as large as the input.

    Parameters
    ----------
    middle : int
        Side of the middle filters: 1, or 5 in the later variant (Dong et al. 2016).
    """

    def __init__(self, middle=1):
        super().__init__()
        shapes = (1, 64, 9), (64, 32, middle), (32, 1, 5)
        self.layers = nn.ModuleList(nn.Conv2d(*shape) for shape in shapes)

    def forward(self, ilr):
        """Map interpolated low resolution (N, 1, H, W) in [0, 1] to super-resolution."""
        x = ilr
        for i, layer in enumerate(self.layers):
            if not self.training:
                x = F.pad(x, [layer.kernel_size[0] // 2] * 4, mode="replicate")
            x = layer(F.relu(x, inplace=True) if i else x)
        return x


def init_(model, *, mode="fan_out", last_scale=1.0, generator=None):
    """Initialise convolutions with normal weights and zero biases.

    Parameters
    ----------
    model : torch.nn.Module
    mode : {"fan_in", "fan_out", "normal"}
        Variance 2 / fan (He et al. 2015), of which the VDSR paper does not say which fan: they
        differ in the first and last layer. Or σ = 0.001, as SRCNN.
    last_scale : float
        Factor on the last convolution's weights. The input of the network is itself a good
        guess, so that a small first residual saves the steps that would unlearn a large one.
    generator : torch.Generator, optional
        Source of the random numbers; torch's global one by default.
    """
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    for conv in convolutions:
        if mode == "normal":
            nn.init.normal_(conv.weight, std=0.001, generator=generator)
        else:
            nn.init.kaiming_normal_(
                conv.weight, mode=mode, nonlinearity="relu", generator=generator
            )
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    with torch.no_grad():
        convolutions[-1].weight.mul_(last_scale)


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


def receptive_field(model_or_depth, dilation=1):
    """Return the side in pixels of the input region that one output pixel sees.

    Parameters
    ----------
    model_or_depth : torch.nn.Module or int
        A network whose convolutions follow one another, or the depth D of a VDSR,
        whose field is 2·D + 1 (Kim et al. 2016, §4.1).
    dilation : int
        That of a VDSR given by its depth.
    """
    if not isinstance(model_or_depth, nn.Module):
        return 2 * (2 + dilation * (model_or_depth - 2)) + 1
    convolutions = [m for m in model_or_depth.modules() if isinstance(m, nn.Conv2d)]
    return 1 + sum(c.dilation[0] * (c.kernel_size[0] - 1) for c in convolutions)


def step_operations(model, batch, side):
    """Return the floating-point operations of a training step: forward and both gradients.

    Parameters
    ----------
    model : VDSR
    batch : int
    side : int
        Of a patch, in pixels.
    """
    weights = [p.numel() for p in model.parameters() if p.ndim == 4]
    # The first layer's input needs no gradient.
    return 2 * batch * side**2 * (3 * sum(weights) - weights[0])


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
    theoretical, effective : int
        Sides of the smallest centred squares that hold all, and nine tenths, of the sum.
    """
    distance = np.abs(np.indices(field.shape) - len(field) // 2).max(axis=0)
    share = np.bincount(distance.ravel(), field.ravel()).cumsum() / field.sum()
    return 2 * int(distance[field > 0].max()) + 1, 2 * int(np.argmax(share >= 0.9)) + 1


def load_matconvnet(path):
    """Load weights that MatConvNet saved, such as those the authors released, into a VDSR.

    Parameters
    ----------
    path : path-like
        A ``.mat`` file with cell arrays ``model.weight`` and ``model.bias``,
        kernels stored as H × W × in × out.

    Returns
    -------
    VDSR
        In evaluation mode.

    Raises
    ------
    TypeError
        If `path` is no path.
    ValueError
        If the file does not hold such a network.
    OSError
        If it cannot be opened.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be that of a .mat file, got {shown(path)}")
    try:
        model = read_mat(path).get("model")
        if not isinstance(model, dict) or not {"weight", "bias"} <= set(model):
            raise ValueError("it has no struct `model` with the fields `weight` and `bias`")
        weights, biases = model["weight"], model["bias"]
        if not (isinstance(weights, list) and isinstance(biases, list)):
            raise ValueError("its weights and biases are no cell arrays")
        if not len(weights) == len(biases) >= 2:
            raise ValueError(f"it has {len(weights)} weights and {len(biases)} biases")
        width = getattr(biases[0], "size", 0)
        channels = [1, *[width] * (len(weights) - 1), 1]
        layers = [
            (_kernel(i, w, fan_in, fan_out), _bias(i, b, fan_out))
            for i, (w, b, (fan_in, fan_out)) in enumerate(
                zip(weights, biases, pairwise(channels), strict=True), start=1
            )
        ]
    except ValueError as error:
        raise ValueError(f"{path} does not hold a MatConvNet VDSR: {error}") from error
    vdsr = VDSR(depth=len(layers), width=width)
    convolutions = [m for m in vdsr.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        for convolution, (kernel, bias) in zip(convolutions, layers, strict=True):
            convolution.weight.copy_(torch.from_numpy(kernel))
            convolution.bias.copy_(torch.from_numpy(bias))
    return vdsr.eval()


def _kernel(layer, w, fan_in, fan_out):
    """Return a layer's kernels, stored as 3 × 3 × in × out, in torch's order of axes."""
    shape = getattr(w, "shape", ())
    shape += (1,) * (4 - len(shape))  # MATLAB drops the last sides of 1
    if shape != (3, 3, fan_in, fan_out):
        raise ValueError(f"its weights {layer} are {shape}, not {(3, 3, fan_in, fan_out)}")
    return _finite(f"weights {layer}", w).reshape(shape).transpose(3, 2, 0, 1).copy()


def _bias(layer, b, fan_out):
    """Return a layer's biases."""
    shape = getattr(b, "shape", ())
    if shape not in ((1, fan_out), (fan_out, 1)):
        raise ValueError(f"its biases {layer} are {shape}, not {(1, fan_out)}")
    return _finite(f"biases {layer}", b).reshape(-1)


def _finite(name, values):
    """Return values as float32."""
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"its {name} are not all finite")
    return values
