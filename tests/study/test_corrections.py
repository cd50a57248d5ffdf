"""How strongly networks correct, as it is measured and recorded."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import vdsr
from vdsr import ledger, machine, runs
from vdsr.config import run_id
from vdsr.data import load_images
from vdsr.evaluate import prepare
from vdsr.study import corrections
from vdsr.study.probes import correction_factor


class Partly(torch.nn.Module):
    """It adds a multiple of what is missing, and spoils pixels that scores leave out."""

    def __init__(self, images, scale, multiple, border):
        super().__init__()
        self.pairs = {hr.shape: (hr, ilr) for _, hr, ilr in prepare(images, scale)}
        self.multiple, self.border = multiple, border

    def forward(self, x):
        hr, ilr = self.pairs[x.shape[2:]]
        y = ilr + self.multiple * (hr - ilr)
        y[: self.border], y[:, -self.border :] = 0, 255
        return torch.from_numpy(y / 255)[None, None]


@pytest.mark.parametrize("multiple", [0.5, 1, 4])
@pytest.mark.parametrize(("scale", "border"), [(3, 3), (1.5, 2)])
def test_a_correction_that_is_twice_too_strong_has_a_factor_of_a_half(multiple, scale, border):
    image = np.random.default_rng(0).integers(0, 256, (48, 60), dtype=np.uint8)
    images = {"noise": image}
    factor = correction_factor(Partly(images, scale, multiple, border), images, scale)
    assert factor == pytest.approx(1 / multiple, rel=1e-5)


def test_large_corrections_weigh_most():
    """By least squares over all pixels, and not the mean of the images' factors."""
    images = load_images("samples-test")
    weak, strong = [*images][:2]
    pairs = {name: (hr, ilr) for name, hr, ilr in prepare(images, 2)}

    class Two(torch.nn.Module):
        """It adds what is missing once to one picture, and twice to the other."""

        def forward(self, x):
            strength = 1 if pairs[weak][0].shape == x.shape[2:] else 2
            hr, ilr = pairs[weak if strength == 1 else strong]
            return torch.from_numpy((ilr + strength * (hr - ilr)) / 255)[None, None]

    two = {name: images[name] for name in (weak, strong)}
    inside = slice(2, -2), slice(2, -2)
    energy = [np.sum((pairs[n][0] - pairs[n][1])[inside] ** 2) for n in (weak, strong)]
    expected = (energy[0] + 2 * energy[1]) / (energy[0] + 4 * energy[1])
    assert pairs[weak][0].shape != pairs[strong][0].shape
    assert correction_factor(Two(), two, 2) == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def small(elsewhere, tiny, monkeypatch):
    """A trained network for three scales, one for two, and one that is not trained."""
    made = [replace(tiny, scales=scales) for scales in ((2, 3, 4), (2, 3))]
    for config in made:
        ledger.record(vdsr.train(config), "smoke")
    asked = [*made, replace(made[0], depth=4)]
    for name in ("benchmark", "depth", "shallow", "srcnn", "theta_for_scales"):
        monkeypatch.setattr(corrections, name, lambda preset: asked)
    monkeypatch.setattr(corrections, "authors", lambda: vdsr.train(made[1]).model)
    monkeypatch.setattr(corrections, "load_images", lambda name: load_images("samples-test"))
    return made[0]


def test_each_network_for_three_scales_is_measured_once(small):
    corrections.update()
    table = ledger.table("corrections")
    assert [*table.run.unique()] == [corrections.PUBLISHED, run_id(small)]
    model, images = vdsr.train(small).model, load_images("samples-test")
    factor = table[(table.run == run_id(small)) & (table.scale == 2.5)].factor.item()
    assert factor == pytest.approx(correction_factor(model, images, 2.5), rel=1e-3)
    before = table.to_csv()
    corrections.update()
    assert ledger.table("corrections").to_csv() == before
    assert [*corrections.by_network().name.unique()] == [
        "VDSR, 20 layers, the authors'",
        f"VDSR, {small.depth} layers, θ = 10⁻⁴",
    ]


def test_networks_have_names_of_their_own(monkeypatch):
    known = pd.DataFrame({"run": [*corrections._asked()], "scale": 2.0, "factor": 1.0})
    monkeypatch.setattr(ledger, "table", lambda name: known)
    names = corrections.by_network().name
    assert 3 * len(names) == len(known) and names.is_unique  # three seeds of each
    assert "VDSR, 20 layers, θ = 10⁻⁴" in [*names]


def test_rows_of_weights_that_are_elsewhere_stay(small):
    runs.checkpoint(run_id(small)).unlink()
    elsewhere = "run,scale,factor\nffffffffffff,2.0,0.5\n"
    (machine.ROOT / "results" / "corrections.csv").write_text(elsewhere)
    corrections.update()
    table = ledger.table("corrections")
    assert table[:1].to_csv(index=False) == elsewhere
    assert {*table.run[1:]} == {corrections.PUBLISHED}
