"""What runs cost: patches, work, the machine's rate, and what is said of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.io import imsave

import vdsr
from vdsr import ledger, runs
from vdsr.patches import Patches
from vdsr.study import configs, cost


@pytest.mark.parametrize(
    "change",
    [
        {}, {"augment": True}, {"patch_size": 33, "overlap": 19}, {"scales": (2, 2.5, 3, 4)},
        {"train_set": "samples-train"}, {"patch_size": 301},  # one image is smaller than that
        {"shrink": True}, {"keep": 0.3}, {"shrink": True, "keep": 0.001, "scales": (2, 3, 4)},
    ],
)  # fmt: skip
def test_patches_are_counted_without_cutting_them(tiny, change):
    check_count(replace(tiny, **change))


@pytest.mark.parametrize(
    "change", [{"scales": (2.5, 3.3)}, {"scales": (2, 5), "patch_size": 83, "keep": 0.5}]
)
def test_counted_are_patches_of_images_that_fit_no_scale(tiny, tmp_path, change):
    """At ×2.5 84 pixels become 80; of these no patch of 83 can be kept."""
    imsave(tmp_path / "image.png", np.eye(85, 84, dtype=np.uint8), check_contrast=False)
    check_count(replace(tiny, train_set=str(tmp_path), **change))


def check_count(config):
    cut = Patches(
        config.train_set, config.scales, size=config.patch_size, overlap=config.overlap,
        augment=config.augment, shrink=config.shrink, keep=config.keep,
    )  # fmt: skip
    assert cost.patches(config) == len(cut)


@pytest.mark.parametrize("dataset", ["T91", "T91+BSD200"])
def test_patches_of_the_papers_images(data_dir, dataset):
    config = replace(configs.PRESETS["paper"], train_set=dataset)
    assert cost.patches(config) == {"T91": 7_992, "T91+BSD200": 54_192}[dataset]


def test_work_is_what_a_training_records(elsewhere, tiny):
    assert cost.work(tiny) == pytest.approx(runs.attempt(tiny).record["tflop"])
    short = replace(tiny, epochs=None, steps=3, schedule="constant", decay_epochs=None)
    assert cost.work(short) == pytest.approx(cost.work(tiny) / 2)


def test_work_of_the_papers_network(data_dir):
    """A step of twenty layers on 64 patches is 0.43 TFLOP, of ten 0.19."""
    reference, _ = configs.reference("paper")
    assert cost.work(reference) == pytest.approx(0.191 * 3280, rel=0.01)
    assert cost.work(configs.PRESETS["paper"]) == pytest.approx(0.429 * 9920, rel=0.01)


def test_forecast_is_work_by_the_machines_rate(monkeypatch, tiny):
    monkeypatch.setattr(cost, "work", lambda config: 1800.0)
    monkeypatch.setattr(cost, "rate", lambda: 0.5)
    assert cost.forecast([tiny, tiny]) == (
        "3,600 TFLOP, about 2.0 hours of training on this machine"
    )


def test_rate_leaves_nothing_behind(elsewhere, tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "TrainConfig", lambda **change: replace(
        configs.PRESETS["smoke"], scales=(2,), eval_sets=()))  # fmt: skip
    assert cost.rate.__wrapped__() > 0
    assert not [*tmp_path.iterdir()]


def test_announced_is_what_is_missing_on_a_cpu(elsewhere, tiny, monkeypatch, capsys):
    monkeypatch.setattr(cost, "rate", lambda: 1.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ledger.record(vdsr.train(tiny), "paper")
    both = [tiny, replace(tiny, depth=2)]
    cost.announce(both, False)
    said = capsys.readouterr().out
    assert "1 runs of the paper's length are missing" in said
    assert "hours of training on this machine" in said
    cost.announce(both, True)
    assert "2 runs" in capsys.readouterr().out
    cost.announce([tiny], False)
    cost.announce([replace(tiny, eval_scales=(2, 3))], False)  # whose weights are here
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cost.announce(both, True)
    assert capsys.readouterr().out == ""
