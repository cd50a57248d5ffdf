"""The network: a stack of 3×3 convolutions that predicts what bicubic upscaling lost."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .checks import file_path, shown, truth, whole
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
    bias : bool
        Whether convolutions have biases. The paper does not say; the authors' released weights
        have them, and most public code has none (664,704 weights instead of 665,921).

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, or has a value that cannot be.
    """

    def __init__(self, depth=20, width=64, residual=True, dilation=1, bias=True):
        super().__init__()
        depth = whole("depth", depth, "a whole number, at least 2", lambda n: n >= 2)
        width = whole("width", width, "a whole number, at least 1", lambda n: n >= 1)
        dilation = whole("dilation", dilation, "a whole number, at least 1", lambda n: n >= 1)
        truth("residual", residual)
        truth("bias", bias)
        channels = [1, *[width] * (depth - 1), 1]
        spacing = [1, *[dilation] * (depth - 2), 1]
        layers = []
        for (fan_in, fan_out), d in zip(pairwise(channels), spacing, strict=True):
            convolution = nn.Conv2d(fan_in, fan_out, 3, padding=d, dilation=d, bias=bias)
            layers += [convolution, nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])
        self.residual = residual

    def forward(self, ilr):
        """Map interpolated low resolution (N, 1, H, W) in [0, 1] to super-resolution alike."""
        if torch.jit.is_scripting():  # which knows neither parts of a Sequential nor autocast
            out = self.layers(ilr)
        else:
            x = self.layers[:-1](ilr)
            # The output is computed in float32 even under autocast: of an image in [0, 1], bf16
            # would keep fewer than 256 grey levels.
            with torch.autocast(x.device.type, enabled=False):
                out = self.layers[-1](x.to(self.layers[-1].weight.dtype))
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

    Raises
    ------
    TypeError, ValueError
        If it is no odd number.
    """

    def __init__(self, middle=1):
        super().__init__()
        middle = whole("middle", middle, "an odd number, 1 or 5, say", lambda n: n % 2 and n > 0)
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


def convolutions(model):
    """Return the convolutions of a network, from the first to the last."""
    return [m for m in model.modules() if isinstance(m, nn.Conv2d)]


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
    for conv in convolutions(model):
        if mode == "normal":
            nn.init.normal_(conv.weight, std=0.001, generator=generator)
        else:
            nn.init.kaiming_normal_(
                conv.weight, mode=mode, nonlinearity="relu", generator=generator
            )
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    with torch.no_grad():
        convolutions(model)[-1].weight.mul_(last_scale)


def deepened(tensors, depth):
    """Return a VDSR's state dict with hidden layers added that leave its function as it is.

    They are identities, spread evenly among the others: what a ReLU has let through, they and
    the ReLU after them pass on unchanged (Chen et al. 2016, "Net2Net").

    Parameters
    ----------
    tensors : dict of str to Tensor
    depth : int
        Of the deeper network, at least that of this one.

    Returns
    -------
    dict of str to Tensor
    """
    kinds = sorted({name.rpartition(".")[2] for name in tensors})
    had, first = len(tensors) // len(kinds), tensors["layers.0.weight"]
    hidden = 1 + np.linspace(0, depth - 3, had - 2).round().astype(int)
    places = {int(place): i for i, place in enumerate([0, *hidden, depth - 1])}
    identity = {
        "weight": nn.init.dirac_(first.new_empty(len(first), len(first), 3, 3)),
        "bias": first.new_zeros(len(first)),
    }
    return {
        f"layers.{2 * i}.{kind}": tensors[f"layers.{2 * places[i]}.{kind}"]
        if i in places else identity[kind]
        for i in range(depth)
        for kind in kinds
    }  # fmt: skip


def receptive_field(model_or_depth, dilation=1):
    """Return the side in pixels of the input region that one output pixel sees.

    Parameters
    ----------
    model_or_depth : torch.nn.Module or int
        A network whose convolutions follow one another, or the depth D of a VDSR,
        whose field is 2·D + 1 (Kim et al. 2016, §4.1).
    dilation : int
        That of a VDSR given by its depth.

    Raises
    ------
    TypeError
        For a network that TorchScript has compiled, whose convolutions cannot be looked at, and
        for what is neither a network nor a number.
    ValueError
        If there is no VDSR of such a depth or dilation.
    """
    if isinstance(model_or_depth, torch.jit.ScriptModule):
        raise TypeError(
            "model_or_depth must be a network whose layers can be looked at, or a depth, got one "
            "of TorchScript; give the network that torch.jit was given"
        )
    if not isinstance(model_or_depth, nn.Module):
        must = "a network, or a depth of at least 2"
        depth = whole("model_or_depth", model_or_depth, must, lambda n: n >= 2)
        dilation = whole("dilation", dilation, "a whole number, at least 1", lambda n: n >= 1)
        return 2 * (2 + dilation * (depth - 2)) + 1
    sides = (c.dilation[0] * (c.kernel_size[0] - 1) for c in convolutions(model_or_depth))
    return 1 + sum(sides)


def step_operations(model, batch, side):
    """Return the floating-point operations of a training step: forward and both gradients.

    Parameters
    ----------
    model : VDSR or SRCNN
        In training mode, which decides whether borders are padded.
    batch : int
    side : int
        Of a patch, in pixels.
    """
    counts = []

    def count(convolution, _, out):
        counts.append(convolution.weight.numel() * out[0, 0].numel())

    hooks = [conv.register_forward_hook(count) for conv in convolutions(model)]
    with torch.no_grad():
        model(torch.zeros(1, 1, side, side, device=next(model.parameters()).device))
    for hook in hooks:
        hook.remove()
    # The first layer's input needs no gradient.
    return 2 * batch * (3 * sum(counts) - counts[0])


def from_state_dict(tensors):
    """Build a VDSR from a state dict in this package's layout, or in that of most public code.

    Nothing is unpickled here: a ``.pth`` file's state dict is what
    ``torch.load(path, weights_only=True)`` returns, or an entry of it, such as
    ``["state_dict"]`` or ``["model"]``.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        ``layers.0.weight``, ``layers.2.weight`` and so on, of every convolution; or
        ``input.weight``, ``residual_layer.0.conv.weight`` and so on, ``output.weight``. All have
        a ``bias`` beside them, or none has. A ``module.`` before the names is dropped. Kernels
        are (width, 1, 3, 3), (width, width, 3, 3), (1, width, 3, 3).

    Returns
    -------
    VDSR
        In float32 and evaluation mode. Depth, width and biases are those of the weights; they
        do not tell whether the input is added to the output, as it is in the paper and here.

    Raises
    ------
    ValueError
        If the tensors are anything else.
    """
    try:
        if not isinstance(tensors, Mapping):
            raise TypeError(
                f"got {shown(tensors)}; torch.load(path, weights_only=True) reads one from a file"
            )
        if inner := [name for name, value in tensors.items() if isinstance(value, Mapping)]:
            raise ValueError(f"it may be what these hold as {inner[0]!r}")
        named = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
        if "input.weight" in named:
            depth = sum(name.endswith(".weight") for name in named)
            places = {"input": 0, "output": depth - 1}
            places |= {f"residual_layer.{i}.conv": i + 1 for i in range(depth - 2)}
            split = {name: name.rpartition(".") for name in named}
            named = {
                f"layers.{2 * places[layer]}.{kind}": named[name]
                for name, (layer, _, kind) in split.items()
            }
        depth = sum(name.endswith(".weight") for name in named)
        if "layers.0.weight" not in named:
            raise ValueError("there is no first layer")
        model = VDSR(depth, len(named["layers.0.weight"]), bias="layers.0.bias" in named)
        model.load_state_dict(named)
        for name, tensor in named.items():
            if not (tensor.is_floating_point() and tensor.isfinite().all()):
                raise ValueError(f"{name} has values that are no finite floats")
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"tensors must be a VDSR's state dict, with layers.0.weight, layers.2.weight, ... or "
            f"input.weight, residual_layer.0.conv.weight, ..., output.weight, and a bias for all "
            f"or none; {' '.join(str(error).split())}"
        ) from error
    return model.eval()


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
    file_path("path", path)
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
    with torch.no_grad():
        for convolution, (kernel, bias) in zip(convolutions(vdsr), layers, strict=True):
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
