"""Convolutions by Winograd's algorithm: faster where a CPU has no bf16.

Each 6×6 square of a 3×3 convolution's output depends on an 8×8 square of its input. By the
definition it takes 324 products for each pair of channels, by F(6×6, 3×3) of Lavin and Gray 2016
("Fast Algorithms for Convolutional Neural Networks") 64: with input d and kernel g, the output is
Aᵀ[(G g Gᵀ) · (Bᵀ d B)]A, where the product in brackets is one number at a time. That of all
squares and channels is 64 products of matrices. The result differs from the definition's by
float32's rounding. Of squares of 4, 6 and 8, those of 6 fit the paper's patches of 41 best.
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
# The points are 0, 1, -1, 2, -2, 1/2, -1/2 and infinity.
G = np.array([[90, 0, 0], [-20, -20, -20], [-20, 20, -20], [1, 2, 4], [1, -2, 4],
              [64, 32, 16], [64, -32, 16], [0, 0, 90]]) / 90  # fmt: skip
KERNEL_MAP = torch.from_numpy(np.kron(G, G)).float()  # from 9 weights to 64


def layers(model):
    """Return the convolutions of a network that can be computed so.

    Those of a VDSR's middle can, in float32 on the CPU, if numba is installed. It pays where each
    thread has images of its own: threads that share a product wait for each other after it.
    """
    if find_spec("numba") is None:
        return []
    return [
        conv
        for conv in convolutions(model)
        if conv.weight.shape == (WIDTH, WIDTH, 3, 3)
        and conv.padding == conv.dilation == conv.stride == (1, 1)
        and (conv.padding_mode, conv.groups) == ("zeros", 1)
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
    """Return an image (N, H, W, 64), transformed kernels (64, in, out) and a bias."""
    kernels = (KERNEL_MAP @ weight.detach().permute(1, 0, 2, 3).reshape(-1, 9).T).view(
        64, WIDTH, WIDTH
    )
    bias = weight.new_zeros(WIDTH) if bias is None else bias
    return x.permute(0, 2, 3, 1).contiguous(), kernels, bias


# numba is imported where it is needed alone: the package does without.
def _convolve(x, kernels, bias, y):
    """Set y (N, 64, H, W) to the convolution, and return it."""
    from .winograd_maps import transform_input, transform_output

    for first, last, v, m in _blocks(x.shape):
        transform_input(first, last, *_arrays(x, v.flatten()))
        some = slice(last - first)
        torch.bmm(v[:, some], kernels, out=m[:, some])
        transform_output(first, last, *_arrays(m.flatten(), bias, y.permute(0, 2, 3, 1)))
    return y


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.biased = bias is not None
        image, kernels, bias = _arguments(x, weight, bias)
        ctx.save_for_backward(image, weight)
        # An output that is a view could not be changed in place by a ReLU.
        return _convolve(image, kernels, bias, torch.empty_like(image.permute(0, 3, 1, 2)))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        from .winograd_maps import transform_input, transform_output_back

        x, weight = ctx.saved_tensors
        # The gradient of the input is a convolution, too: by the kernels turned by 180 degrees,
        # from output channels to input channels.
        turned = weight.permute(1, 0, 2, 3).flip(2, 3)
        gradient, kernels, zero = _arguments(gradient, turned, None)
        of_x = _convolve(gradient, kernels, zero, torch.empty_like(x.permute(0, 3, 1, 2)))
        of_kernels = torch.zeros_like(kernels)
        for first, last, v, m in _blocks(x.shape):
            transform_input(first, last, *_arrays(x, v.flatten()))
            transform_output_back(first, last, *_arrays(gradient, m.flatten()))
            some = slice(last - first)
            of_kernels.baddbmm_(m[:, some].transpose(1, 2), v[:, some])
        of_weight = (KERNEL_MAP.T @ of_kernels.view(64, -1)).T.reshape(WIDTH, WIDTH, 3, 3)
        return of_x, of_weight, gradient.sum((0, 1, 2)) if ctx.biased else None


def _blocks(shape):
    """Yield the first and last of some squares, and room for two transforms (64, SQUARES, 64)."""
    from .winograd_maps import SQUARES

    number, height, width, _ = shape
    squares = number * -(-height // 6) * -(-width // 6)
    v, m = torch.empty(2, 64, SQUARES, WIDTH)
    for first in range(0, squares, SQUARES):
        yield first, min(first + SQUARES, squares), v, m


def _arrays(*tensors):
    return [tensor.detach().numpy() for tensor in tensors]
