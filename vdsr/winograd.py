"""Convolutions by Winograd's algorithm: faster by one thread each, where a CPU has no bf16.

Each 4×4 square of a 3×3 convolution's output depends on a 6×6 square of its input. By the
definition it takes 144 products for each pair of channels, by F(4×4, 3×3) of Lavin and Gray 2016
("Fast Algorithms for Convolutional Neural Networks") 36: with input d and kernel g, the output is
Aᵀ[(G g Gᵀ) · (Bᵀ d B)]A, where the product in brackets is one number at a time. That of all
squares and channels is 36 products of matrices. The result differs from the definition's by
float32's rounding.
"""

import threading
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from .model import convolutions

WIDTH = 64  # channels, as in the paper; a constant, so that loops over them are vectorised
SQUARES = 256  # handled at a time, few enough for the processor's cache
G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
KERNEL_MAP = torch.from_numpy(np.kron(G, G)).float()  # from 9 weights to 36


def layers(model):
    """Return the convolutions of a network that can be computed so.

    Those of a VDSR's middle can, in float32 on the CPU, if numba is installed. It pays where torch
    has one thread: of several, those that wait for the next product keep the maps from the cores.
    """
    if find_spec("numba") is None:
        return []
    return [
        conv
        for conv in convolutions(model)
        if conv.weight.shape == (WIDTH, WIDTH, 3, 3)
        and conv.padding == conv.dilation == conv.stride == (1, 1)
        and (conv.weight.device.type, conv.weight.dtype) == ("cpu", torch.float32)
    ]


@contextmanager
def used(model):
    """Let a network's `layers` compute by this algorithm in a block.

    Where no gradient is asked for, they take turns at two pieces of memory, for new memory of this
    size is slow at first. So they must follow one another.
    """
    chosen, memory = layers(model), threading.local()
    try:
        for conv in chosen:
            conv.forward = partial(_forward, conv, memory)
        yield
    finally:
        for conv in chosen:
            vars(conv).pop("forward", None)


def _forward(conv, memory, x):
    if torch.is_grad_enabled():
        return conv2d(x, conv.weight, conv.bias)
    x, kernels, bias = _arguments(x, conv.weight, conv.bias)
    pieces = vars(memory).setdefault("pieces", [x.new_empty(0), x.new_empty(0)])
    free = int(pieces[0].data_ptr() == x.data_ptr())
    if pieces[free].numel() < x.numel():
        pieces[free] = x.new_empty(x.numel())
    y = pieces[free][: x.numel()].view(x.shape).permute(0, 3, 1, 2)
    return _convolve(x, kernels, bias, y)


def conv2d(x, weight, bias=None):
    """Convolve, zero-padded by one pixel.

    Parameters
    ----------
    x : Tensor of float32, (N, 64, H, W)
        On the CPU.
    weight : Tensor, (64, 64, 3, 3)
    bias : Tensor, (64,), optional

    Returns
    -------
    Tensor, (N, 64, H, W)
        In the channels-last layout. It can be differentiated once.
    """
    return _Convolution.apply(x, weight, bias)


def _arguments(x, weight, bias):
    """Return an image (N, H, W, 64), transformed kernels (36, out, in) and a bias."""
    kernels = (KERNEL_MAP @ weight.detach().reshape(-1, 9).T).view(36, WIDTH, WIDTH)
    bias = weight.new_zeros(WIDTH) if bias is None else bias
    return x.permute(0, 2, 3, 1).contiguous(), kernels, bias


# numba is imported where it is needed alone: the package does without.
def _convolve(x, kernels, bias, y):
    """Set y (N, 64, H, W) to the convolution, and return it."""
    from .winograd_maps import transform_input, transform_output

    for rows, (v, m) in _blocks(x.shape, 1):
        transform_input(rows.start, rows.stop, *_arrays(x, v))
        torch.bmm(v, kernels.transpose(1, 2), out=m)
        transform_output(rows.start, rows.stop, *_arrays(m, bias, y.permute(0, 2, 3, 1)))
    return y


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.biased = bias is not None
        x, kernels, bias = _arguments(x, weight, bias)
        ctx.save_for_backward(x, kernels)
        # An output that is a view could not be changed in place by a ReLU.
        return _convolve(x, kernels, bias, torch.empty_like(x.permute(0, 3, 1, 2)))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        from .winograd_maps import transform_input, transform_input_back, transform_output_back

        x, kernels = ctx.saved_tensors
        gradient = gradient.permute(0, 2, 3, 1).contiguous()
        of_x, of_kernels = torch.empty_like(x), torch.zeros_like(kernels)
        image = -(-x.shape[1] // 4)  # its pixels are the sums of neighbouring squares
        for rows, (v, m) in _blocks(x.shape, image):
            transform_input(rows.start, rows.stop, *_arrays(x, v))
            transform_output_back(rows.start, rows.stop, *_arrays(gradient, m))
            of_kernels.baddbmm_(m.transpose(1, 2), v)
            torch.bmm(m, kernels, out=v)
            transform_input_back(rows.start, rows.stop, *_arrays(v, of_x))
        of_weight = (KERNEL_MAP.T @ of_kernels.view(36, -1)).T.reshape(WIDTH, WIDTH, 3, 3)
        of_bias = gradient.sum((0, 1, 2)) if ctx.biased else None
        return of_x.permute(0, 3, 1, 2), of_weight, of_bias


def _blocks(shape, unit):
    """Yield ranges of rows of squares, whole units of them, each with room for two transforms."""
    number, height, width, _ = shape
    high, wide = -(-height // 4), -(-width // 4)
    step = unit * max(1, SQUARES // (unit * wide))
    room = torch.empty(2, 36 * min(step, number * high) * wide * WIDTH)
    for start in range(0, number * high, step):
        stop = min(start + step, number * high)
        size = 36 * (stop - start) * wide * WIDTH
        yield range(start, stop), room[:, :size].view(2, 36, -1, WIDTH)


def _arrays(*tensors):
    return [tensor.detach().numpy() for tensor in tensors]
