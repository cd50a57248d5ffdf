from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat

import vdsr
from vdsr.imresize import _check_size, axis_weights

sizes = st.integers(1, 24)
images = st.builds(
    lambda h, w, seed: np.random.default_rng(seed).uniform(0, 255, (h, w)),
    sizes, sizes, st.integers(0, 99),
)  # fmt: skip
shapes = st.tuples(sizes, sizes)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_equals_matlab(data_dir, scale):
    matlab = loadmat(vdsr.data.fetch([f"matlab/butterfly_x{scale}.mat"])[0])
    hr, lr, ilr = matlab["im_gt_y"], matlab["im_l_y"], matlab["im_b_y"]
    np.testing.assert_allclose(vdsr.imresize(hr, 1 / scale), lr, rtol=0, atol=1e-10)
    np.testing.assert_allclose(vdsr.imresize(lr, scale), ilr, rtol=0, atol=1e-10)
    np.testing.assert_allclose(vdsr.imresize(lr, shape=hr.shape), ilr, rtol=0, atol=1e-10)


def test_known_values_without_matlab():
    # Halving a step: Keys' kernel at 3/4, 5/4 and 7/4, by hand, is what reaches over it.
    halved = vdsr.imresize([[0, 0, 0, 0, 1, 1, 1, 1]], shape=(1, 4))
    assert halved[0, 1] == pytest.approx((0.2265625 - 0.0703125 - 0.0234375) / 2)
    assert vdsr.imresize(np.eye(7)[:1], 1).tolist() == np.eye(7)[:1].tolist()


def by_formula(row, n_out, scale):
    """Return a row resized, pixel by pixel, as the book says it."""
    mirrored = [*row, *row[::-1]]
    shrink = min(scale, 1)

    def keys(t):
        t = abs(t)
        if t <= 1:
            return 1.5 * t**3 - 2.5 * t**2 + 1
        return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0

    out = []
    for i in range(n_out):
        centre = (i + 0.5) / scale - 0.5
        near = range(floor(centre - 2 / shrink), ceil(centre + 2 / shrink) + 1)
        weights = [keys(shrink * (centre - j)) for j in near]
        values = [mirrored[j % len(mirrored)] for j in near]
        out.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    return out


@given(st.integers(1, 12), st.floats(0.05, 5), st.integers(0, 99))
def test_equals_the_formula(n, scale, seed):
    row = np.random.default_rng(seed).uniform(0, 255, n)
    expected = by_formula(row, ceil(n * scale), scale)
    out = vdsr.imresize(row[None], scale)
    np.testing.assert_allclose(out, [expected] * ceil(scale), rtol=0, atol=1e-9)
    by_shape = by_formula(row, ceil(n * scale), ceil(n * scale) / n)
    out = vdsr.imresize(row[:, None], shape=(ceil(n * scale), 1))
    np.testing.assert_allclose(out[:, 0], by_shape, rtol=0, atol=1e-9)


@given(images, shapes)
def test_rows_sum_to_one(image, shape):
    np.testing.assert_allclose(vdsr.imresize(np.full(image.shape, 7.0), shape=shape), 7, rtol=1e-12)


@given(images, shapes)
def test_commutes_with_flips_and_transposition(image, shape):
    out = vdsr.imresize(image, shape=shape)
    close = dict(rtol=0, atol=1e-10)
    np.testing.assert_allclose(vdsr.imresize(image[::-1], shape=shape), out[::-1], **close)
    np.testing.assert_allclose(vdsr.imresize(image[:, ::-1], shape=shape), out[:, ::-1], **close)
    np.testing.assert_allclose(vdsr.imresize(image.T, shape=shape[::-1]), out.T, **close)


@given(images, st.floats(0.3, 4))
def test_scale_sets_the_shape(image, scale):
    assert vdsr.imresize(image, scale).shape == tuple(np.ceil(np.array(image.shape) * scale))


@pytest.mark.parametrize(
    ("pixels", "scale", "expected"),
    [
        # MATLAB's imresize.m has output_size = ceil(scale .* size), of doubles, with no tolerance:
        # 100 * 1.1 is 110.00000000000001 there, too.
        (100, 1.1, 111),
        (10, 1.1, 11),
        (100, Fraction(11, 10), 110),
        (9, 1 / 3, 3),
        (49, 1 / 49, 1),
        (100, 0.07, 8),  # 7.000000000000001
        (100, Fraction(7, 100), 7),
        (5, 2.5, 13),
        (5, np.float32(2.5), 13),
        (5, np.float16(2.5), 13),
        (5, np.array(2.5), 13),
        (5, np.int64(3), 15),
        (5, np.uint8(3), 15),
        (200, np.uint8(2), 400),  # not as 8 bits, where it would be 144
    ],
)
def test_size_is_matlabs(pixels, scale, expected):
    assert vdsr.imresize(np.zeros((pixels, 1)), scale).shape[0] == expected
    assert vdsr.imresize(np.zeros((1, pixels)), scale).shape[1] == expected


def test_numbers_of_every_type_mean_the_same():
    image = np.random.default_rng(0).uniform(size=(6, 5))
    for scale in (Fraction(5, 2), np.float32(2.5), np.float16(2.5), np.array(2.5)):
        assert np.array_equal(vdsr.imresize(image, scale), vdsr.imresize(image, 2.5))
    for scale in (3.0, np.int64(3), np.uint8(3), np.float32(3)):
        assert np.array_equal(vdsr.imresize(image, scale), vdsr.imresize(image, 3))


def test_two_numbers_are_a_shape_as_in_matlab():
    image = np.random.default_rng(0).uniform(size=(6, 5))
    expected = vdsr.imresize(image, shape=(4, 7))
    assert expected.shape == (4, 7)
    for shape in ([4, 7], (4, 7), np.array([4, 7]), [4.0, 7.0], torch.Size([4, 7])):
        assert np.array_equal(vdsr.imresize(image, shape), expected)
        assert np.array_equal(vdsr.imresize(image, shape=shape), expected)


def test_images_of_every_type():
    image = np.random.default_rng(0).integers(0, 256, (6, 5), np.uint8)
    expected = vdsr.imresize(image.astype(float), 2.5)
    for other in (image, image.astype(np.float32), image.astype(np.int64), image.tolist(),
                  torch.tensor(image), np.asfortranarray(image), image[::-1][::-1],
                  image.astype(np.float16), image.astype(np.longdouble)):  # fmt: skip
        assert np.array_equal(vdsr.imresize(other, 2.5), expected)
        assert vdsr.imresize(other, 2.5).dtype == np.float64
    assert vdsr.imresize(image > 99, 2).max() > 1  # overshoot of 0 and 1
    assert vdsr.imresize(image, 2.5).flags.writeable
    assert vdsr.imresize(image, 2.5).flags.c_contiguous


def test_what_is_not_finite_stays_where_it_is():
    image = np.zeros((9, 9))
    image[4, 4] = np.nan
    assert np.argwhere(np.isnan(vdsr.imresize(image, 1))).tolist() == [[4, 4]]
    spread = np.isnan(vdsr.imresize(image, 2))
    assert spread.sum() == 8**2  # four pixels of the input on either side, of which it is one
    assert spread[5:13, 5:13].all()
    image[4, 4] = np.inf
    assert np.array_equal(~np.isfinite(vdsr.imresize(image, 2)), spread)


def test_the_callers_changes_reach_no_other_caller():
    image = np.eye(5)
    once = vdsr.imresize(image, 2)
    once[:] = 9
    weights = axis_weights(5, 10, 2.0)
    for part in (weights.data, weights.indices, weights.indptr):
        with pytest.raises(ValueError, match="read-only"):
            part[0] = 9
    assert vdsr.imresize(image, 2).max() < 2


def test_channels_are_resized_alone():
    image = np.random.default_rng(0).uniform(size=(9, 7, 3))
    out = vdsr.imresize(image, 2.5)
    assert out.shape == (23, 18, 3)
    np.testing.assert_array_equal(out[..., 1], vdsr.imresize(image[..., 1], 2.5))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "either scale= or shape=, and not both, got None and None"),
        ({"scale": 2, "shape": (4, 4)}, ValueError, r"not both, got 2 and \(4, 4\)"),
        ({"scale": -1}, ValueError, "scale must be a positive number, such as 2 or 0.5, got -1"),
        ({"scale": 0}, ValueError, "scale must be a positive number.*got 0"),
        ({"scale": float("nan")}, ValueError, "scale must be a positive number.*got nan"),
        ({"scale": np.float32("inf")}, ValueError, "scale must be a positive number.*got .*inf"),
        ({"scale": "2"}, TypeError, "scale must be a positive number.*got '2'"),
        ({"scale": True}, TypeError, "scale must be a positive number.*got True"),
        ({"scale": 2j}, TypeError, "scale must be a positive number.*got 2j"),
        ({"scale": {}}, TypeError, "scale must be a positive number.*got {}"),
        ({"scale": np.ones((2, 2))}, TypeError, r"scale must be .*got ndarray of .*\(2, 2\)"),
        ({"shape": (0, 4)}, ValueError, r"two positive integers \(height, width\), got \(0, 4\)"),
        ({"shape": (4,)}, ValueError, r"two positive integers .*got \(4,\)"),
        ({"shape": (4, 4, 3)}, ValueError, r"two positive integers .*got \(4, 4, 3\)"),
        ({"shape": (4, 4.5)}, ValueError, r"two positive integers .*got \(4, 4.5\)"),
        ({"shape": (4, float("nan"))}, ValueError, r"two positive integers .*got \(4, nan\)"),
        ({"shape": (4, None)}, ValueError, r"two positive integers .*got \(4, None\)"),
        ({"shape": 4}, ValueError, r"two positive integers .*got 4"),
        ({"shape": "44"}, ValueError, r"two positive integers .*got '44'"),
        ({"scale": [0.5, 0.5]}, ValueError, r"two positive integers .*got \[0.5, 0.5\]"),
        ({"scale": []}, ValueError, r"two positive integers .*got \[\]"),
        ({"scale": 1e9}, ValueError, r"scale must give .* at most 2\*\*24 .*got 1e9|1000000000.0"),
        ({"scale": 10**400}, ValueError, r"scale must give .* at most 2\*\*24"),
        ({"scale": 1e308}, ValueError, r"scale must give .* at most 2\*\*24 .*got 1e\+308"),
        ({"scale": 1e-7}, ValueError, r"shrink by at most 2\*\*16, got 1e-07 for 4×4 pixels"),
        ({"scale": Fraction(1, 10**400)}, ValueError, r"shrink by at most 2\*\*16"),
        ({"shape": (10**400, 1)}, ValueError, r"shape must give .* at most 2\*\*24"),
        ({"shape": (1, 2**24 + 1)}, ValueError, r"shape must give .* at most 2\*\*24"),
        ({"shape": (2**16, 2**15 + 1)}, ValueError, r"2\*\*31 in all"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        vdsr.imresize(np.zeros((4, 4)), **arguments)


@pytest.mark.parametrize(
    ("image", "error", "got"),
    [
        (np.zeros(4), ValueError, r"got ndarray of float64 and shape \(4,\)"),
        (np.zeros((2, 2, 2, 2)), ValueError, r"got ndarray of float64 and shape \(2, 2, 2, 2\)"),
        (np.zeros((0, 4)), ValueError, r"got ndarray of float64 and shape \(0, 4\)"),
        (np.zeros((4, 4, 0)), ValueError, r"got ndarray of float64 and shape \(4, 4, 0\)"),
        (3, ValueError, "got 3"),
        (None, TypeError, "got None"),
        ("a.png", TypeError, r"got 'a\.png'"),
        ([["1", "2"]], TypeError, r"got \[\['1', '2'\]\]"),
        (np.zeros((4, 4), complex), TypeError, r"got ndarray of complex128 and shape \(4, 4\)"),
        ([[1, 2], [3]], TypeError, r"got \[\[1, 2\], \[3\]\]"),
        (torch.zeros(4, 4, requires_grad=True), TypeError, r"got Tensor of torch.float32 and"),
    ],
)
def test_bad_image(image, error, got):
    message = f"image must be a non-empty array of real numbers, .*{got}"
    with pytest.raises(error, match=message):
        vdsr.imresize(image, 2)


def test_a_pillow_image_is_its_colours_and_no_places_in_a_palette():
    rgb = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    for pixels in (rgb, rgb[..., 0]):
        expected = vdsr.imresize(pixels, 2)
        assert np.array_equal(vdsr.imresize(Image.fromarray(pixels), 2), expected)
    palette = Image.fromarray(rgb).quantize(9)
    for image in (palette, palette.convert("PA")):
        with pytest.raises(TypeError, match=r"image must be .*Pillow image of mode P.*convert\('R"):
            vdsr.imresize(image, 2)
        vdsr.imresize(image.convert("RGB"), 2)


def test_the_largest_shrinking():
    row = np.arange(2.0**16)[None]
    assert vdsr.imresize(row, shape=(1, 1))[0, 0] == pytest.approx((2**16 - 1) / 2)


@pytest.mark.parametrize(
    ("before", "after", "fits"),
    [
        ((4, 4), (2**24, 1), True),
        ((4, 4), (2**24 + 1, 1), False),
        ((4, 4), (2**16, 2**15), True),
        ((4, 4), (2**16, 2**15 + 1), False),
        ((2**16, 4), (1, 4), True),
        ((2**16 + 1, 4), (1, 4), False),
    ],
)
def test_limits(before, after, fits):
    for turn in (slice(None), slice(None, None, -1)):
        sizes = before[turn], after[turn]
        if fits:
            _check_size("shape", None, *sizes)
        else:
            with pytest.raises(ValueError, match="shape must give a result of at most"):
                _check_size("shape", None, *sizes)


def test_limits_hold_for_either_side():
    for shape in ((2**20, 1), (1, 2**20)):
        with pytest.raises(ValueError, match=f"got 16.5 for {shape[0]}×{shape[1]} pixels"):
            vdsr.imresize(np.zeros(shape), 16.5)
