"""Convolutions by Winograd's algorithm: training in less time where a CPU has no bf16.

Each 4×4 square of a 3×3 convolution's output depends on a 6×6 square of its input. By the
definition it takes 144 products for each pair of channels, by F(4×4, 3×3) of Lavin and Gray 2016
("Fast Algorithms for Convolutional Neural Networks") 36: with input d and kernel g, the output is
Aᵀ[(G g Gᵀ) · (Bᵀ d B)]A, where the product in brackets is one number at a time. That of all
squares and channels is 36 products of matrices. The result differs from the definition's by
float32's rounding.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numba import njit
from torch.autograd.function import once_differentiable

from .model import convolutions

WIDTH = 64  # channels, as in the paper; a constant, so that loops over them are vectorised
SQUARES = 256  # handled at a time, few enough for the processor's cache
G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
KERNEL_MAP = torch.from_numpy(np.kron(G, G)).float()  # from 9 weights to 36
_pool = ThreadPoolExecutor()
# Neither NaN nor infinity may be assumed away: a training that diverges is told by them.
_compiled = partial(njit, nogil=True, cache=True, fastmath={"contract"})


def layers(model):
    """Return the convolutions of a network that can be computed so, those of its middle."""
    return [
        conv
        for conv in convolutions(model)
        if conv.weight.shape == (WIDTH, WIDTH, 3, 3)
        and conv.padding == conv.dilation == conv.stride == (1, 1)
    ]


@contextmanager
def used(model):
    """Let a network compute what it can by this algorithm in a block.

    Parameters
    ----------
    model : torch.nn.Module
        In float32, on the CPU.
    """
    chosen = layers(model)
    try:
        for conv in chosen:
            conv.forward = partial(_forward, conv)
        yield
    finally:
        for conv in chosen:
            vars(conv).pop("forward", None)


def _forward(conv, x):
    return conv2d(x, conv.weight, conv.bias)


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
    return _Convolution.apply(x, weight, weight.new_zeros(WIDTH) if bias is None else bias)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        x = x.permute(0, 2, 3, 1).contiguous()
        kernels = (KERNEL_MAP @ weight.reshape(-1, 9).T).view(36, WIDTH, WIDTH)  # out, in
        ctx.save_for_backward(x, kernels)
        # An output that is a view could not be changed in place by a ReLU.
        y = torch.empty_like(x.permute(0, 3, 1, 2))
        for rows, (v, m) in _blocks(x.shape, 1):
            _each(_transform_input, rows, 1, x, v)
            torch.bmm(v, kernels.transpose(1, 2), out=m)
            _each(_transform_output, rows, 1, m, bias, y.permute(0, 2, 3, 1))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, kernels = ctx.saved_tensors
        gradient = gradient.permute(0, 2, 3, 1).contiguous()
        of_x, of_kernels = torch.empty_like(x), torch.zeros_like(kernels)
        image = -(-x.shape[1] // 4)  # neighbouring squares add to the same pixels
        for rows, (v, m) in _blocks(x.shape, image):
            _each(_transform_input, rows, image, x, v)
            _each(_transform_output_back, rows, image, gradient, m)
            of_kernels.baddbmm_(m.transpose(1, 2), v)
            torch.bmm(m, kernels, out=v)
            _each(_transform_input_back, rows, image, v, of_x)
        of_weight = (KERNEL_MAP.T @ of_kernels.view(36, -1)).T.reshape(WIDTH, WIDTH, 3, 3)
        return of_x.permute(0, 3, 1, 2), of_weight, gradient.sum((0, 1, 2))


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


def _each(transform, rows, unit, *tensors):
    """Apply a transform to all rows of squares, units of them shared among torch's threads."""
    arrays = [tensor.detach().numpy() for tensor in tensors]
    units = len(rows) // unit
    threads = min(torch.get_num_threads(), units)
    if threads == 1:
        return transform(rows.start, rows.start, rows.stop, *arrays)
    ends = [rows.start + unit * (units * i // threads) for i in range(threads + 1)]
    parts = [
        _pool.submit(transform, rows.start, first, last, *arrays) for first, last in pairwise(ends)
    ]
    for part in parts:
        part.result()
    return None


# The maps of one row or column, at i with a stride of s in its flat array, for all channels.


@_compiled(inline="always")
def _bt(x, i, y, s):
    """Multiply six values by Bᵀ."""
    four, five, two = np.float32(4), np.float32(5), np.float32(2)
    for c in range(WIDTH):
        k = i + c
        a, b, d, e, f, g = x[k], x[k + s], x[k + 2 * s], x[k + 3 * s], x[k + 4 * s], x[k + 5 * s]
        even, odd, even2, odd2 = f - four * d, e - four * b, f - d, two * (e - b)
        y[k] = four * a - five * d + f
        y[k + s] = even + odd
        y[k + 2 * s] = even - odd
        y[k + 3 * s] = even2 + odd2
        y[k + 4 * s] = even2 - odd2
        y[k + 5 * s] = four * b - five * e + g


@_compiled(inline="always")
def _b(x, i, y, s):
    """Multiply six values by B."""
    four, five, two = np.float32(4), np.float32(5), np.float32(2)
    for c in range(WIDTH):
        k = i + c
        a, b, d, e, f, g = x[k], x[k + s], x[k + 2 * s], x[k + 3 * s], x[k + 4 * s], x[k + 5 * s]
        sum1, difference1, sum2, difference2 = b + d, d - b, e + f, f - e
        y[k] = four * a
        y[k + s] = four * (difference1 + g) + two * difference2
        y[k + 2 * s] = -five * a - four * sum1 - sum2
        y[k + 3 * s] = -difference1 - two * difference2 - five * g
        y[k + 4 * s] = a + sum1 + sum2
        y[k + 5 * s] = g


@_compiled(inline="always")
def _at(x, i, y, s):
    """Multiply six values by Aᵀ, which gives four."""
    two, four, eight = np.float32(2), np.float32(4), np.float32(8)
    for c in range(WIDTH):
        k = i + c
        a, b, d, e, f, g = x[k], x[k + s], x[k + 2 * s], x[k + 3 * s], x[k + 4 * s], x[k + 5 * s]
        sum1, difference1, sum2, difference2 = b + d, b - d, e + f, e - f
        y[k] = a + sum1 + sum2
        y[k + s] = difference1 + two * difference2
        y[k + 2 * s] = sum1 + four * sum2
        y[k + 3 * s] = difference1 + eight * difference2 + g


@_compiled(inline="always")
def _a(x, i, y, s):
    """Multiply four values by A, which gives six."""
    two, four, eight = np.float32(2), np.float32(4), np.float32(8)
    for c in range(WIDTH):
        k = i + c
        a, b, d, e = x[k], x[k + s], x[k + 2 * s], x[k + 3 * s]
        even, odd, even2, odd2 = a + d, b + e, a + four * d, two * b + eight * e
        y[k] = a
        y[k + s] = even + odd
        y[k + 2 * s] = even - odd
        y[k + 3 * s] = even2 + odd2
        y[k + 4 * s] = even2 - odd2
        y[k + 5 * s] = e


# A square lies in a flat array as 6×6 times channels: a column's stride is SIX, a row's WIDTH.
SIX = 6 * WIDTH


@_compiled()
def _transform_input(start, first, last, x, v):
    """Set v (36, squares, 64) to Bᵀ d B of the squares of x (N, H, W, 64) in some rows."""
    _, height, width, _ = x.shape
    high, wide = (height + 3) // 4, (width + 3) // 4
    d, e = np.empty(36 * WIDTH, np.float32), np.empty(36 * WIDTH, np.float32)
    for row in range(first, last):
        image, top = row // high, 4 * (row % high) - 1
        for square in range(wide):
            left = 4 * square - 1
            for r in range(6):
                for q in range(6):
                    k = (6 * r + q) * WIDTH
                    if 0 <= top + r < height and 0 <= left + q < width:
                        for c in range(WIDTH):
                            d[k + c] = x[image, top + r, left + q, c]
                    else:
                        d[k : k + WIDTH] = np.float32(0)
            for q in range(6):
                _bt(d, q * WIDTH, e, SIX)
            for r in range(6):
                _bt(e, r * SIX, d, WIDTH)
            place = (row - start) * wide + square
            for k in range(36):
                for c in range(WIDTH):
                    v[k, place, c] = d[k * WIDTH + c]


@_compiled()
def _transform_input_back(start, first, last, v, x):
    """Set images of x to the sums of B v Bᵀ, the transpose of `_transform_input`."""
    _, height, width, _ = x.shape
    high, wide = (height + 3) // 4, (width + 3) // 4
    d, e = np.empty(36 * WIDTH, np.float32), np.empty(36 * WIDTH, np.float32)
    x[first // high : last // high] = np.float32(0)
    for row in range(first, last):
        image, top = row // high, 4 * (row % high) - 1
        for square in range(wide):
            left, place = 4 * square - 1, (row - start) * wide + square
            for k in range(36):
                for c in range(WIDTH):
                    d[k * WIDTH + c] = v[k, place, c]
            for q in range(6):
                _b(d, q * WIDTH, e, SIX)
            for r in range(6):
                _b(e, r * SIX, d, WIDTH)
            for r in range(6):
                for q in range(6):
                    if 0 <= top + r < height and 0 <= left + q < width:
                        k = (6 * r + q) * WIDTH
                        for c in range(WIDTH):
                            x[image, top + r, left + q, c] += d[k + c]


@_compiled()
def _transform_output(start, first, last, m, bias, y):
    """Set the squares of y (N, H, W, 64) in some rows to Aᵀ m A, plus the bias."""
    _, height, width, _ = y.shape
    high, wide = (height + 3) // 4, (width + 3) // 4
    d, e = np.empty(36 * WIDTH, np.float32), np.empty(36 * WIDTH, np.float32)
    for row in range(first, last):
        image, top = row // high, 4 * (row % high)
        for square in range(wide):
            left, place = 4 * square, (row - start) * wide + square
            for k in range(36):
                for c in range(WIDTH):
                    d[k * WIDTH + c] = m[k, place, c]
            for q in range(6):
                _at(d, q * WIDTH, e, SIX)
            for r in range(4):
                _at(e, r * SIX, d, WIDTH)
            for r in range(min(4, height - top)):
                for q in range(min(4, width - left)):
                    k = (6 * r + q) * WIDTH
                    for c in range(WIDTH):
                        y[image, top + r, left + q, c] = d[k + c] + bias[c]


@_compiled()
def _transform_output_back(start, first, last, y, m):
    """Set m (36, squares, 64) to A y Aᵀ, the transpose of `_transform_output`."""
    _, height, width, _ = y.shape
    high, wide = (height + 3) // 4, (width + 3) // 4
    d, e = np.empty(36 * WIDTH, np.float32), np.empty(36 * WIDTH, np.float32)
    for row in range(first, last):
        image, top = row // high, 4 * (row % high)
        for square in range(wide):
            left, place = 4 * square, (row - start) * wide + square
            for r in range(4):
                for q in range(4):
                    k = (6 * r + q) * WIDTH
                    if top + r < height and left + q < width:
                        for c in range(WIDTH):
                            d[k + c] = y[image, top + r, left + q, c]
                    else:
                        d[k : k + WIDTH] = np.float32(0)
            for q in range(4):
                _a(d, q * WIDTH, e, SIX)
            for r in range(6):
                _a(e, r * SIX, d, WIDTH)
            for k in range(36):
                for c in range(WIDTH):
                    m[k, place, c] = d[k * WIDTH + c]
