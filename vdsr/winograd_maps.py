"""The linear maps of Winograd's algorithm, compiled by numba; `vdsr.winograd` is made of them."""

from functools import partial

import numpy as np
from numba import njit

from .winograd import WIDTH

# Neither NaN nor infinity may be assumed away: a training that diverges is told by them.
_compiled = partial(njit, cache=True, nogil=True, fastmath={"contract"})


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
def transform_input(first, last, x, v):
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
            place = (row - first) * wide + square
            for k in range(36):
                for c in range(WIDTH):
                    v[k, place, c] = d[k * WIDTH + c]


@_compiled()
def transform_input_back(first, last, v, x):
    """Set images of x to the sums of B v Bᵀ, the transpose of `transform_input`."""
    _, height, width, _ = x.shape
    high, wide = (height + 3) // 4, (width + 3) // 4
    d, e = np.empty(36 * WIDTH, np.float32), np.empty(36 * WIDTH, np.float32)
    x[first // high : last // high] = np.float32(0)
    for row in range(first, last):
        image, top = row // high, 4 * (row % high) - 1
        for square in range(wide):
            left, place = 4 * square - 1, (row - first) * wide + square
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
def transform_output(first, last, m, bias, y):
    """Set the squares of y (N, H, W, 64) in some rows to Aᵀ m A, plus the bias."""
    _, height, width, _ = y.shape
    high, wide = (height + 3) // 4, (width + 3) // 4
    d, e = np.empty(36 * WIDTH, np.float32), np.empty(36 * WIDTH, np.float32)
    for row in range(first, last):
        image, top = row // high, 4 * (row % high)
        for square in range(wide):
            left, place = 4 * square, (row - first) * wide + square
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
def transform_output_back(first, last, y, m):
    """Set m (36, squares, 64) to A y Aᵀ, the transpose of `transform_output`."""
    _, height, width, _ = y.shape
    high, wide = (height + 3) // 4, (width + 3) // 4
    d, e = np.empty(36 * WIDTH, np.float32), np.empty(36 * WIDTH, np.float32)
    for row in range(first, last):
        image, top = row // high, 4 * (row % high)
        for square in range(wide):
            left, place = 4 * square, (row - first) * wide + square
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
