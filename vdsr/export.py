"""The network as an ONNX file, for programs that run without PyTorch."""

from itertools import zip_longest

import torch
from torch import nn

from .files import replacing, writable
from .model import VDSR
from .networks import check
from .upscale import load_pretrained

# Old enough for every ONNX Runtime since 1.12, of 2022, in whatever language it is called.
OPSET, IR_VERSION = 17, 8


def export_onnx(path, *, model=None):
    """Write a network as ONNX, for pictures of any height and width.

    The file's input ``ilr`` is the interpolated luminance in [0, 1], float32 of shape
    (batch, 1, height, width), and its output ``sr`` the super-resolved one, alike.

    Parameters
    ----------
    path : path-like
        The file to write, ``network.onnx``, say. It appears whole or not at all.
    model : VDSR, optional
        By default the one that `load_pretrained` returns.

    Raises
    ------
    ImportError
        If the package onnx is not installed.
    TypeError
        If `path` is no path, or `model` not a VDSR, or its layers are not those that `VDSR` makes.
    ValueError
        If it has weights that are not finite.
    OSError
        If there is no such folder, or the file cannot be written.
    """
    target = writable(path, "path")
    try:
        import onnx
    except ImportError:
        raise ImportError(
            "export_onnx needs the package onnx, which `pip install onnx` brings"
        ) from None
    model = load_pretrained() if model is None else model
    if type(model) is not VDSR:
        raise TypeError(f"only a VDSR can be exported, got {type(model).__name__}")
    _check_layers(model)
    check(model)

    nodes, weights = [], []
    last = "ilr"
    for i, layer in enumerate(model.layers):
        inputs, settings = [last], {}
        if isinstance(layer, nn.Conv2d):
            for name, tensor in layer.named_parameters():
                inputs.append(f"layers.{i}.{name}")
                array = tensor.detach().float().cpu().numpy()
                weights.append(onnx.numpy_helper.from_array(array, inputs[-1]))
            settings = {"dilations": layer.dilation, "pads": 2 * layer.padding}
        last = f"layers.{i}"
        kind = "Conv" if isinstance(layer, nn.Conv2d) else "Relu"
        nodes.append(onnx.helper.make_node(kind, inputs, [last], **settings))
    if model.residual:
        nodes.append(onnx.helper.make_node("Add", ["ilr", last], ["sr"]))
    else:
        nodes[-1].output[0] = "sr"
    ends = [
        onnx.helper.make_tensor_value_info(
            name, onnx.TensorProto.FLOAT, ["batch", 1, "height", "width"]
        )
        for name in ("ilr", "sr")
    ]
    graph = onnx.helper.make_graph(nodes, "VDSR", ends[:1], ends[1:], weights)
    file = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="vdsr",
        doc_string="VDSR (Kim et al. 2016): interpolated to super-resolved luminance, in [0, 1]",
    )
    onnx.checker.check_model(file, full_check=True)
    with replacing(target) as part:
        part.write_bytes(file.SerializeToString())


def _check_layers(model):
    """Raise a TypeError for a network that computes otherwise than `VDSR` by itself does."""
    first, inner = model.layers[:1], model.layers[2:-1]
    with torch.device("meta"):  # which draws no random numbers
        own = VDSR(
            depth=max(2, (len(model.layers) + 1) // 2),
            width=max([getattr(layer, "out_channels", 1) for layer in first], default=1),
            dilation=max([getattr(layer, "dilation", (1,))[0] for layer in inner], default=1),
            bias=any(getattr(layer, "bias", None) is not None for layer in first),
        )
    for i, (layer, expected) in enumerate(zip_longest(model.layers, own.layers)):
        if type(layer) is not type(expected) or repr(layer) != repr(expected):
            raise TypeError(
                f"only the layers that VDSR makes can be exported: layer {i} must be {expected}, "
                f"got {layer}"
            )
    names = [name for name, _ in own.named_parameters()]
    for module in model.modules():
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            raise TypeError(
                f"a {type(module).__name__} with hooks or a forward of its own cannot be exported"
            )
    if [name for name, _ in model.named_parameters()] != names or [*model.buffers()]:
        raise TypeError("only a VDSR whose parameters are its own weights can be exported")
