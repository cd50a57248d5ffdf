"""Measurements beside training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vdsr import VDSR, load_images, receptive_field
from vdsr.evaluate import prepare
from vdsr.model import convolutions, init_
from vdsr.study.probes import (
    border_profile,
    field_sides,
    gradient_field,
    gradient_magnitudes,
    layer_magnitudes,
    step_effects,
)
from vdsr.train import Trainer


@pytest.mark.parametrize("width", [4, 64])  # of 64 channels, training takes another path
def test_gradient_magnitudes_are_those_before_clipping(tmp_path, monkeypatch, tiny, width):
    monkeypatch.chdir(tmp_path)
    config = replace(tiny, theta=1e-9, precision="float32", width=width)
    magnitudes = gradient_magnitudes(config, [0, 2])
    assert {*magnitudes.step} == {0, 2}
    assert {*magnitudes.layer} == {1, 2, 3}
    assert len(magnitudes) == 2 * sum(p.numel() for p in config.network().parameters())
    assert magnitudes.ratio.max() > 1
    trainer = Trainer(replace(config, clipping="none"), tmp_path / "run", device="cpu")
    trainer.begin(0, 0)
    trainer.one_step()
    wanted = trainer.parameters[0].grad.abs().flatten() * 0.1 / 1e-9
    first = magnitudes[(magnitudes.step == 0) & (magnitudes.layer == 1)]
    assert first.ratio[: wanted.numel()].to_numpy() == pytest.approx(wanted.numpy(), rel=1e-4)
    assert not [*tmp_path.iterdir()]  # the training is not kept


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


def test_step_effects():
    """A step of θ against the gradient's sign, by hand for the outer layers and for all."""
    hr, ilr = torch.rand(2, 4, 1, 20, 20, generator=torch.Generator().manual_seed(1))
    model = VDSR(4, 8)
    init_(model, generator=torch.Generator().manual_seed(0))
    before = [p.clone() for p in model.parameters()]
    layers, together = step_effects(model, ilr, hr, 1e-3)
    assert all(map(torch.equal, model.parameters(), before))
    out = model(ilr)
    (hr - out).square().sum().div(2).backward()
    with torch.no_grad():
        for p in model.layers[-1].parameters():
            p -= 1e-3 * p.grad.sign()
        last = (model(ilr) - out).square().mean().sqrt().item()
        for p in model.layers[-1].parameters():
            p += 1e-3 * p.grad.sign()
        for p in model.layers[0].parameters():
            p -= 1e-3 * p.grad.sign()
        first = (model(ilr) - out).square().mean().sqrt().item()
        for p in [*model.parameters()][2:]:
            p -= 1e-3 * p.grad.sign()
        everything = (model(ilr) - out).square().mean().sqrt().item()
    assert layers.shape == (4,)
    assert (layers[0], layers[-1]) == pytest.approx((first, last), rel=1e-3)
    assert together == pytest.approx(everything, rel=1e-3)
    assert together > layers.max()


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
    assert not ilr.requires_grad


def test_field_sides_by_hand():
    field = np.zeros((7, 7))
    field[3, 3], field[2, 2], field[3, 5] = 8.0, 1.5, 0.5
    assert field_sides(field) == (5, pytest.approx(1 + 2 * (0.9 - 0.8) / 0.15))
    field[3, 3] = 100
    assert field_sides(field) == (5, 1)


def test_border_profile_knows_padding_from_surroundings():
    """A network that blurs by 3×3 is wrong at the cut's outermost pixel, and nowhere else."""
    model = VDSR(depth=2, width=1, residual=False)
    with torch.no_grad():
        kernels = torch.zeros(3, 3), torch.full((3, 3), 1 / 9)
        for convolution, kernel in zip(convolutions(model), kernels, strict=True):
            kernel[1, 1] += 1 - kernel.sum()
            convolution.weight.copy_(kernel[None, None])
            convolution.bias.zero_()
    images = {"a": load_images("samples-test")["astronaut"][:96, :120]}
    profile = border_profile(model, images, 2, width=5)
    table = profile.pivot(index="distance", columns="method", values="psnr")
    assert [*table.index] == [0, 1, 2, 3, 4]
    assert table["zero padding"][0] < table["true surroundings"][0] - 1
    same = table.loc[1:]
    for method in ("zero padding", "replicated", "mirrored"):
        assert [*same[method]] == pytest.approx([*same["true surroundings"]])
    # Beside the outermost pixel lies a copy of it, whichever way: the same in both but at corners.
    assert table["replicated"][0] == pytest.approx(table["mirrored"][0], abs=0.01)
    assert table["zero padding"][0] < table["replicated"][0] < table["true surroundings"][0]
    _, hr, ilr = next(prepare(images, 2))
    ring = np.ones((48, 60), bool)
    ring[1:-1, 1:-1] = False
    error = (ilr.round().clip(0, 255) - hr)[24:72, 30:90][ring]
    assert table["bicubic"][0] == pytest.approx(10 * np.log10(255**2 / (error**2).mean()))
