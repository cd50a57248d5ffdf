import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat

import vdsr

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


def test_channels_are_resized_alone():
    image = np.random.default_rng(0).uniform(size=(9, 7, 3))
    out = vdsr.imresize(image, 2.5)
    assert out.shape == (23, 18, 3)
    np.testing.assert_array_equal(out[..., 1], vdsr.imresize(image[..., 1], 2.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either scale= or shape="),
        ({"scale": 2, "shape": (4, 4)}, "either scale= or shape="),
        ({"scale": -1}, "positive number"),
        ({"scale": float("nan")}, "positive number"),
        ({"shape": (0, 4)}, "positive integers"),
        ({"shape": (4,)}, "positive integers"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        vdsr.imresize(np.zeros((4, 4)), **arguments)


def test_bad_image():
    with pytest.raises(ValueError, match="non-empty"):
        vdsr.imresize(np.zeros(4), 2)
