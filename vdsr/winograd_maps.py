"""The linear maps of Winograd's algorithm, compiled by numba; `vdsr.winograd` is made of them."""

import numpy as np
from numba import njit

from .winograd import WIDTH


def _compiled(**options):
    """Compile a function, and keep it for later processes where a folder can be written to."""
    # Neither NaN nor infinity may be assumed away: a training that diverges is told by them.
    options |= {"nogil": True, "fastmath": {"contract"}}

    def compiled(function):
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # numba finds no such folder
            return njit(**options)(function)

    return compiled


# Squares handled at a time, few enough for the processor's cache. It is a constant that is compiled
# in, and stands here because numba's cache looks for changes in this file alone.
SQUARES = 56

# A square lies in a flat array as 8×8 times channels. Its rows are one pixel further apart than
# they need be, since addresses that differ by multiples of 2,048 bytes share their place in the
# processor's cache. The transforms of all squares of a block lie in another flat array.
COLUMN = WIDTH
ROW = 9 * WIDTH
SIZE = 8 * ROW
PRODUCT = SQUARES * WIDTH

# The maps of one row or column, for all channels: from x at i with a stride of s, to y at j with a
# stride of t. A signed index would be asked at each channel whether it counts from the end, and
# strides that are no constants whether x and y overlap: either keeps loops from being vectorised.
_u, _f = np.uintp, np.float32


@_compiled(inline="always")
def _bt(x, i, s, y, j, t):
    """Multiply eight values by Bᵀ."""
    for c in range(WIDTH):
        k, n = i + c, j + c
        a, b, d, e = x[_u(k)], x[_u(k + s)], x[_u(k + 2 * s)], x[_u(k + 3 * s)]
        f, g, h, m = x[_u(k + 4 * s)], x[_u(k + 5 * s)], x[_u(k + 6 * s)], x[_u(k + 7 * s)]
        y[_u(n)] = a - h + _f(21 / 4) * (f - d)
        y[_u(n + 7 * t)] = m - b + _f(21 / 4) * (e - g)
        even, odd = d + h - _f(17 / 4) * f, b + g - _f(17 / 4) * e
        y[_u(n + t)], y[_u(n + 2 * t)] = even + odd, even - odd
        even = _f(1 / 4) * d - _f(5 / 4) * f + h
        odd = _f(1 / 2) * b - _f(5 / 2) * e + _f(2) * g
        y[_u(n + 3 * t)], y[_u(n + 4 * t)] = even + odd, even - odd
        even = _f(4) * d - _f(5) * f + h
        odd = _f(2) * b - _f(5 / 2) * e + _f(1 / 2) * g
        y[_u(n + 5 * t)], y[_u(n + 6 * t)] = even + odd, even - odd


@_compiled(inline="always")
def _at(x, i, s, y, j, t):
    """Multiply eight values by Aᵀ, which gives six."""
    for c in range(WIDTH):
        k, n = i + c, j + c
        a, b, d, e = x[_u(k)], x[_u(k + s)], x[_u(k + 2 * s)], x[_u(k + 3 * s)]
        f, g, h, m = x[_u(k + 4 * s)], x[_u(k + 5 * s)], x[_u(k + 6 * s)], x[_u(k + 7 * s)]
        sum1, sum2, sum3 = b + d, e + f, g + h
        difference1, difference2, difference3 = b - d, e - f, g - h
        y[_u(n)] = a + sum1 + sum2 + sum3
        y[_u(n + t)] = difference1 + _f(2) * difference2 + _f(1 / 2) * difference3
        y[_u(n + 2 * t)] = sum1 + _f(4) * sum2 + _f(1 / 4) * sum3
        y[_u(n + 3 * t)] = difference1 + _f(8) * difference2 + _f(1 / 8) * difference3
        y[_u(n + 4 * t)] = sum1 + _f(16) * sum2 + _f(1 / 16) * sum3
        y[_u(n + 5 * t)] = difference1 + _f(32) * difference2 + _f(1 / 32) * difference3 + m


@_compiled(inline="always")
def _a(x, i, s, y, j, t):
    """Multiply six values by A, which gives eight."""
    for c in range(WIDTH):
        k, n = i + c, j + c
        a, b, d = x[_u(k)], x[_u(k + s)], x[_u(k + 2 * s)]
        e, f, g = x[_u(k + 3 * s)], x[_u(k + 4 * s)], x[_u(k + 5 * s)]
        y[_u(n)], y[_u(n + 7 * t)] = a, g
        even, odd = a + d + f, b + e + g
        y[_u(n + t)], y[_u(n + 2 * t)] = even + odd, even - odd
        even, odd = a + _f(4) * d + _f(16) * f, _f(2) * b + _f(8) * e + _f(32) * g
        y[_u(n + 3 * t)], y[_u(n + 4 * t)] = even + odd, even - odd
        even = a + _f(1 / 4) * d + _f(1 / 16) * f
        odd = _f(1 / 2) * b + _f(1 / 8) * e + _f(1 / 32) * g
        y[_u(n + 5 * t)], y[_u(n + 6 * t)] = even + odd, even - odd


@_compiled(inline="always")
def _place(square, shape):
    """Return the image of a square of the output, and the square's first row and column."""
    _, height, width, _ = shape
    high, wide = (height + 5) // 6, (width + 5) // 6
    image, rest = divmod(square, high * wide)
    return image, 6 * (rest // wide), 6 * (rest % wide)


@_compiled(inline="always")
def _cut(x, image, top, left, side, d):
    """Copy a square of x (N, H, W, 64), zero outside the image."""
    _, height, width, _ = x.shape
    for r in range(side):
        for q in range(side):
            k = r * ROW + q * COLUMN
            if 0 <= top + r < height and 0 <= left + q < width:
                for c in range(WIDTH):
                    d[k + c] = x[image, top + r, left + q, c]
            else:
                d[k : k + WIDTH] = _f(0)


@_compiled()
def transform_input(first, last, x, v):
    """Set v to Bᵀ d B of some squares d of x (N, H, W, 64)."""
    d = np.empty(SIZE, np.float32)
    for square in range(first, last):
        image, top, left = _place(square, x.shape)
        _cut(x, image, top - 1, left - 1, 8, d)
        for q in range(8):
            _bt(d, q * COLUMN, ROW, d, q * COLUMN, ROW)
        for r in range(8):
            _bt(d, r * ROW, COLUMN, v, 8 * r * PRODUCT + (square - first) * WIDTH, PRODUCT)


@_compiled()
def transform_output(first, last, m, bias, y):
    """Set some squares of y (N, H, W, 64) to Aᵀ m A, plus the bias."""
    _, height, width, _ = y.shape
    d = np.empty(SIZE, np.float32)
    for square in range(first, last):
        image, top, left = _place(square, y.shape)
        for r in range(8):
            _at(m, 8 * r * PRODUCT + (square - first) * WIDTH, PRODUCT, d, r * ROW, COLUMN)
        for q in range(6):
            _at(d, q * COLUMN, ROW, d, q * COLUMN, ROW)
        for r in range(min(6, height - top)):
            for q in range(min(6, width - left)):
                k = r * ROW + q * COLUMN
                for c in range(WIDTH):
                    y[image, top + r, left + q, c] = d[k + c] + bias[c]


@_compiled()
def transform_output_back(first, last, y, m):
    """Set m to A d Aᵀ of some squares d of y (N, H, W, 64), the transpose of `transform_output`."""
    d = np.empty(SIZE, np.float32)
    for square in range(first, last):
        image, top, left = _place(square, y.shape)
        _cut(y, image, top, left, 6, d)
        for q in range(6):
            _a(d, q * COLUMN, ROW, d, q * COLUMN, ROW)
        for r in range(8):
            _a(d, r * ROW, COLUMN, m, 8 * r * PRODUCT + (square - first) * WIDTH, PRODUCT)
