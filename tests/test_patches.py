from fractions import Fraction

import numpy as np
import pytest
import torch

from vdsr import imresize, load_images
from vdsr.data import luma
from vdsr.patches import Patches, as_ratio, degrade


@pytest.mark.parametrize(("dataset", "count"), [("T91", 7_992), ("T91+BSD200", 54_192)])
def test_number_of_patches_of_the_paper(data_dir, dataset, count):
    assert len(Patches(dataset, (2, 3, 4))) == count


@pytest.fixture(scope="module")
def patches():
    return Patches("samples-test", (2, 3), augment=True)


def test_patches_tile_the_images(patches):
    image = luma(load_images("samples-test")["astronaut"])
    ilr = imresize(imresize(image, 0.5), 2)
    assert torch.equal(patches.hr[1].view(41, 41) * 255, torch.tensor(image[:41, 41:82]).float())
    np.testing.assert_allclose(patches.ilr[1].view(41, 41) * 255, ilr[:41, 41:82], atol=1e-4)
    # At both scales, 12×12 patches of astronaut's 512×512 pixels and 7×10 of chelsea's 300×450.
    assert len(patches.hr) == 2 * (12 * 12 + 7 * 10)


def test_overlapping_patches():
    patches = Patches("samples-test", (2,), size=33, overlap=19)
    image = luma(load_images("samples-test")["astronaut"])
    assert torch.equal(patches.hr[1].view(33, 33) * 255, torch.tensor(image[:33, 14:47]).float())
    assert len(patches) == 35 * 35 + 20 * 30  # (512 - 33) // 14 + 1 = 35, and so on


def test_augmentation_is_the_eight_symmetries_of_a_pair(patches):
    count = len(patches.hr)
    hr, ilr = patches.batch(torch.arange(8) * count + 3)
    square = hr[0, 0]
    expected = [torch.rot90(s, k) for s in (square, square.T) for k in range(4)]
    for want in expected:
        assert sum(torch.equal(want, got) for got in hr[:, 0]) == 1
    for a, b in zip(hr, ilr, strict=True):  # turned alike: a pair stays close
        assert (a - b).abs().mean() == pytest.approx((hr[0] - ilr[0]).abs().mean())


def test_order_depends_on_seed_and_epoch_alone(patches):
    order = patches.epoch_order(1, 2)
    assert torch.equal(order.sort().values, torch.arange(len(patches)))
    torch.rand(1)
    assert torch.equal(order, patches.epoch_order(1, 2))
    assert not torch.equal(order, patches.epoch_order(1, 3))
    assert not torch.equal(order, patches.epoch_order(2, 2))


def test_order_is_that_of_recorded_runs(patches):
    assert patches.epoch_order(1, 2)[:5].tolist() == [779, 264, 989, 2596, 988]


def test_shrunk_images_follow_each_image():
    """At nine, eight, seven and six tenths of its size, rounded as an image is."""
    image = luma(load_images("samples-test")["astronaut"])
    patches = Patches([image.astype(np.uint8)], (2,), shrink=True)
    whole, counts = 12 * 12, [11 * 11, 10 * 10, 8 * 8, 7 * 7]  # of 461, 410, 359, 308
    assert len(patches) == whole + sum(counts)
    for factor, start in zip((0.9, 0.8, 0.7, 0.6), np.cumsum([whole, *counts]), strict=False):
        small = imresize(image, factor).round().clip(0, 255)
        first = torch.tensor(small[:41, :41]).float()
        torch.testing.assert_close(patches.hr[start].view(41, 41) * 255, first)


def test_kept_are_those_that_interpolation_loses_most_of(patches):
    """Of each scale as many, in their order."""
    kept = Patches("samples-test", (2, 3), augment=True, keep=0.25)
    assert len(kept.hr) == 2 * round(0.25 * 214)
    errors = (patches.hr - patches.ilr).square().mean(1)
    of_scale = torch.cat([torch.full((n,), s) for n in (144, 70) for s in (2, 3)])
    worst = [torch.where(of_scale == s, errors, 0).topk(54).indices for s in (2, 3)]
    places = torch.cat(worst).sort().values
    assert torch.equal(kept.hr, patches.hr[places]) and torch.equal(kept.ilr, patches.ilr[places])
    image = [np.eye(41, dtype=np.uint8)]
    assert len(Patches(image, (2,), size=20, keep=0.01)) == 1
    assert len(Patches(image, (2, 25), size=40, keep=0.5)) == 1  # ×25 leaves 25×25 pixels, no patch


def test_sizes_of_patches():
    """An image as large as a patch gives one, a smaller one gives none."""
    large, small = np.full((20, 20), 99, np.uint8), np.zeros((18, 20), np.uint8)
    patches = Patches([small, large], (2,), size=20)
    assert patches.hr.shape == patches.ilr.shape == (1, 400)
    assert patches.hr.dtype == patches.ilr.dtype == torch.float32
    assert patches.hr.unique().item() == pytest.approx(99 / 255)
    assert len(Patches([large], (1,), size=1)) == 400


def test_scales_are_mixed_in_a_batch(patches):
    first = patches.epoch_order(0, 0)[:64] % len(patches.hr)
    at_scale_2 = (first < 144) | ((first >= 288) & (first < 288 + 70))
    assert 10 < at_scale_2.sum() < 54


@pytest.mark.parametrize(("scale", "shape"), [(2, (10, 12)), (3, (9, 12)), (2.5, (10, 10))])
def test_degrade_crops_to_the_scale(scale, shape):
    hr, ilr = degrade(np.arange(143.0).reshape(11, 13), scale)
    assert hr.shape == ilr.shape == shape


@pytest.mark.parametrize(
    ("scale", "ratio"),
    [
        (2, "2"), (2.5, "5/2"), (10 / 3, "10/3"), (3.33, "333/100"), (np.float32(2.4), "12/5"),
        (np.int64(3), "3"), (Fraction(7, 3), "7/3"), (0.1 * 30, "3"), (1, "1"), (np.array(2), "2"),
        (Fraction(102, 101), "101/100"),
    ],
)  # fmt: skip
def test_scale_as_a_fraction(scale, ratio):
    assert str(as_ratio(scale)) == ratio
    hr = np.random.default_rng(0).uniform(size=(340, 350))
    assert all(map(np.array_equal, degrade(hr, scale), degrade(hr, Fraction(ratio))))


def test_degrade_is_down_and_up():
    hr = np.random.default_rng(0).uniform(size=(11, 14))
    cropped, ilr = degrade(hr, 2.5)
    assert np.array_equal(cropped, hr[:10, :10])
    assert np.array_equal(ilr, imresize(imresize(cropped, shape=(4, 4)), shape=(10, 10)))
    assert all(map(np.array_equal, degrade(hr.tolist(), 2.5), (cropped, ilr)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((3, 9)), 4), ValueError, r"cannot be scaled by 1/4.*4 pixels a side.*got 3×9"),
        (
            (np.zeros((256, 256)), 2.71),
            ValueError,
            r"by 1/2\.71.*271 pixels .* 271/100, got 256×256",
        ),
        ((np.zeros((9, 9)), 0.5), ValueError, "scale must be a number of at least 1.*got 0.5"),
        ((np.zeros((9, 9)), 0.999), ValueError, "scale must be .*got 0.999"),
        ((np.zeros((9, 9)), float("nan")), ValueError, "scale must be .*got nan"),
        ((np.zeros((9, 9)), float("inf")), ValueError, "scale must be .*got inf"),
        ((np.zeros((9, 9)), "2"), TypeError, "scale must be .*got '2'"),
        ((np.zeros((9, 9)), None), TypeError, "scale must be .*got None"),
        (
            (np.zeros((9, 9, 3)), 2),
            ValueError,
            r"hr must be .*\(H, W\), got ndarray of float64 and shape \(9, 9, 3\)",
        ),
        ((None, 2), TypeError, "hr must be an array of real numbers, .*got None"),
        (("hr", 2), TypeError, "hr must be an array of real numbers, .*got 'hr'"),
    ],
)
def test_bad_arguments_of_degrade(arguments, error, message):
    with pytest.raises(error, match=message):
        degrade(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"scales": 2}, TypeError, r"scales must be factors, such as \(2, 3, 4\), got 2"),
        ({"scales": ()}, TypeError, r"scales must be factors, .*got \(\)"),
        ({"scales": (2, "3")}, TypeError, "scale must be a number of at least 1.*got '3'"),
        ({"scales": (2, 0.5)}, ValueError, "scale must be a number of at least 1.*got 0.5"),
        ({"size": 0}, ValueError, "size must be a whole number of pixels, at least 1, got 0"),
        ({"size": 20.5}, ValueError, "size must be a whole number of pixels.*got 20.5"),
        ({"size": None}, TypeError, "size must be a whole number of pixels.*got None"),
        ({"overlap": -1}, ValueError, "overlap must be .*from 0 to below the size .*41, got -1"),
        ({"overlap": 41}, ValueError, "overlap must be .*from 0 to below the size .*41, got 41"),
        ({"augment": "False"}, TypeError, "augment must be True or False, got 'False'"),
        ({"shrink": 1}, TypeError, "shrink must be True or False, got 1"),
        ({"keep": 0}, ValueError, "keep must be a share above 0 and at most 1, got 0"),
        ({"device": "gpu"}, ValueError, "device must be one that torch has here.*got 'gpu'"),
        ({"dataset": None}, TypeError, "dataset must be an image set's name.*got None"),
        ({"dataset": "Set6"}, ValueError, "dataset must be .*unknown image set 'Set6'"),
        ({"size": 9999}, ValueError, "no image|an image as large as a 9999×9999 patch.*samples"),
        ({"dataset": [np.zeros((3, 99), np.uint8)], "scales": (2, 4)}, ValueError,
         "image '0': hr cannot be scaled by 1/4.*got 3×99"),
        ({"dataset": [np.zeros((5, 99), np.uint8)], "scales": (4,), "shrink": True, "size": 4},
         ValueError, "image '0 at 0.6 of its size': hr cannot be scaled by 1/4.*got 3×60"),
        ({"size": 9999, "keep": 0.5}, ValueError, "an image as large as a 9999×9999 patch"),
    ],
)  # fmt: skip
def test_bad_arguments_of_patches(arguments, error, message):
    with pytest.raises(error, match=message):
        Patches(**{"dataset": "samples-test", "scales": (2,)} | arguments)
