import numpy as np
import pytest
import torch

from vdsr import imresize, load_images
from vdsr.data import luma
from vdsr.patches import Patches, degrade


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


def test_scales_are_mixed_in_a_batch(patches):
    first = patches.epoch_order(0, 0)[:64] % len(patches.hr)
    at_scale_2 = (first < 144) | ((first >= 288) & (first < 288 + 70))
    assert 10 < at_scale_2.sum() < 54


@pytest.mark.parametrize(("scale", "shape"), [(2, (10, 12)), (3, (9, 12)), (2.5, (10, 10))])
def test_degrade_crops_to_the_scale(scale, shape):
    hr, ilr = degrade(np.arange(143.0).reshape(11, 13), scale)
    assert hr.shape == ilr.shape == shape


def test_what_cannot_be_cut():
    with pytest.raises(ValueError, match="cannot be scaled"):
        degrade(np.zeros((3, 9)), 4)
    with pytest.raises(ValueError, match="no image as large as a 9999×9999 patch"):
        Patches("samples-test", (2,), size=9999)
