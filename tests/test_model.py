import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import nn

from vdsr import SRCNN, VDSR, data, load_matconvnet, receptive_field
from vdsr.model import field_sides, gradient_field, init_, layer_magnitudes


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_the_papers_network():
    model = VDSR()
    assert count(model) == 665_921
    convolutions = [m for m in model.layers if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64] * 19 + [1]
    assert sum(isinstance(m, nn.ReLU) for m in model.layers) == 19
    assert isinstance(model.layers[-1], nn.Conv2d)
    assert model(torch.zeros(2, 1, 5, 7)).shape == (2, 1, 5, 7)


@pytest.mark.parametrize(("middle", "weights", "field"), [(1, 8_032, 13), (5, 57_184, 17)])
def test_srcnn(middle, weights, field):
    model = SRCNN(middle)
    assert sum(p.numel() for p in model.parameters() if p.dim() > 1) == weights
    assert receptive_field(model) == field
    x = torch.rand(1, 1, 40, 45)
    inside = model(x)
    border = field // 2
    assert inside.shape == (1, 1, 40 - 2 * border, 45 - 2 * border)
    whole = model.eval()(x)
    assert whole.shape == x.shape
    assert torch.allclose(whole[..., border:-border, border:-border], inside, atol=1e-6)
    flat = model(torch.full((1, 1, 20, 20), 0.5))  # replicated edges leave a flat picture flat
    assert flat.std() < 1e-6


def test_residual_adds_the_input():
    plain, residual = VDSR(3, 4, residual=False), VDSR(3, 4)
    residual.load_state_dict(plain.state_dict())
    x = torch.rand(1, 1, 6, 6)
    assert torch.allclose(residual(x), plain(x) + x)


@pytest.mark.parametrize(("mode", "last"), [("fan_in", 2 / 576), ("fan_out", 2 / 9)])
def test_he_initialisation(mode, last):
    model = VDSR(6)
    init_(model, mode=mode, generator=torch.Generator().manual_seed(0))
    weights = [m.weight for m in model.layers if isinstance(m, nn.Conv2d)]
    assert weights[2].var().item() == pytest.approx(2 / 576, rel=0.05)
    assert weights[-1].var().item() == pytest.approx(last, rel=0.15)
    assert all((m.bias == 0).all() for m in model.layers if isinstance(m, nn.Conv2d))
    scaled = VDSR(6)
    init_(scaled, mode=mode, last_scale=0.1, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(scaled.layers[-1].weight, 0.1 * weights[-1])


def test_srcnns_initialisation():
    model = VDSR(6)
    init_(model, mode="normal", generator=torch.Generator().manual_seed(0))
    assert model.layers[4].weight.std().item() == pytest.approx(0.001, rel=0.05)


def test_layer_magnitudes():
    """He's rules keep the signal's, and the gradient's, size; a small normal lets both fade."""
    hr, ilr = torch.rand(2, 4, 1, 20, 20, generator=torch.Generator().manual_seed(1))
    sizes = {}
    for mode in ("fan_in", "normal"):
        model = VDSR(8, 32)
        init_(model, mode=mode, generator=torch.Generator().manual_seed(0))
        sizes[mode] = layer_magnitudes(model, ilr, hr)
        signal, gradient = sizes[mode]
        out = model(ilr)
        assert signal[-1] == pytest.approx((out - ilr).square().mean().sqrt().item(), rel=1e-4)
        assert gradient[-1] == pytest.approx((hr - out).square().mean().sqrt().item(), rel=1e-4)
        assert len(signal) == len(gradient) == 8
    assert 0.2 < sizes["fan_in"][0][6] / sizes["fan_in"][0][0] < 5
    assert sizes["normal"][0][6] < 1e-6 * sizes["normal"][0][0]


@pytest.mark.parametrize("depth", [2, 5, 20])
def test_receptive_field_is_what_a_pixel_sees(depth):
    assert receptive_field(depth) == receptive_field(VDSR(depth, 2)) == 2 * depth + 1
    model = VDSR(depth, 2, residual=False)
    for p in model.parameters():
        nn.init.constant_(p, 0.1)
    x = torch.ones(1, 1, 49, 49, requires_grad=True)
    model(x)[0, 0, 24, 24].backward()
    assert ((x.grad[0, 0] != 0).any(0).sum()) == 2 * depth + 1


def test_dilation_widens_the_field_of_the_same_weights():
    model = VDSR(5, 4, dilation=3)
    assert count(model) == count(VDSR(5, 4))
    assert model(torch.zeros(1, 1, 7, 9)).shape == (1, 1, 7, 9)
    assert receptive_field(model) == receptive_field(5, dilation=3) == 1 + 2 * 2 + 3 * 2 * 3


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("depth", "dilation"), [(2, 1), (6, 1), (5, 2)])
def test_gradient_field_measures_the_receptive_field(depth, dilation, residual):
    model = VDSR(depth, 8, residual, dilation)
    init_(model, generator=torch.Generator().manual_seed(0))
    ilr = torch.rand(4, 1, 25, 25, generator=torch.Generator().manual_seed(1))
    field = gradient_field(model, ilr)
    assert field.shape == (25, 25)
    assert field.max() == 1
    theoretical, effective = field_sides(field)
    assert theoretical == receptive_field(model)
    assert 1 < effective <= theoretical


def test_field_sides_by_hand():
    field = np.zeros((7, 7))
    field[3, 3], field[2, 2], field[3, 5] = 8.0, 1.5, 0.5
    assert field_sides(field) == (5, 3)
    field[3, 3] = 100
    assert field_sides(field) == (5, 1)


@pytest.mark.parametrize("sizes", [{"depth": 1}, {"width": 0}, {"dilation": 0}])
def test_impossible_sizes(sizes):
    with pytest.raises(ValueError, match="depth >= 2, width >= 1 and dilation >= 1"):
        VDSR(**sizes)


def test_matconvnet_kernels_are_neither_flipped_nor_transposed(tmp_path):
    model = VDSR(3, 2)
    init_(model)
    layers = [m for m in model.layers if isinstance(m, nn.Conv2d)]
    cells = {"weight": np.empty(3, object), "bias": np.empty(3, object)}
    for i, layer in enumerate(layers):
        nn.init.normal_(layer.bias)
        cells["weight"][i] = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
        cells["bias"][i] = layer.bias.detach().numpy()
    savemat(tmp_path / "net.mat", {"model": cells})
    x = torch.rand(1, 1, 8, 8)
    assert torch.allclose(load_matconvnet(tmp_path / "net.mat")(x), model(x))


def test_authors_weights(data_dir):
    model = load_matconvnet(data.fetch(["weights/VDSR_Official.mat"])[0])
    assert count(model) == 665_921


def test_not_a_network(tmp_path):
    savemat(tmp_path / "net.mat", {"other": 1})
    with pytest.raises(ValueError, match=r"net\.mat does not hold a MatConvNet VDSR"):
        load_matconvnet(tmp_path / "net.mat")
