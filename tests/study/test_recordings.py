"""What is recorded once for the pictures, and how."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from PIL import Image

import vdsr
from vdsr import machine
from vdsr.study import recordings

FOLDER = machine.ROOT / recordings.FOLDER


def test_a_training_is_watched_from_before_its_first_step(tmp_path, monkeypatch):
    image = vdsr.load_images("samples-test")["astronaut"][:150, 100:280]
    monkeypatch.setattr(recordings, "load_images", lambda name: {recordings.PICTURE: image})
    monkeypatch.setattr(recordings, "BOX", (30, 30, 40, 24))
    config = replace(recordings.WATCHED, depth=3, width=4, steps=3, batch_size=8)
    recordings.record_training(tmp_path, config, (1, 3))
    strip = np.asarray(Image.open(tmp_path / "training.png"))
    assert strip.shape == (3 * 24, 2 * 40, 3)
    rows = pd.read_csv(tmp_path / "training.csv")
    assert [*rows.step] == [0, 1, 3]
    assert rows.psnr.nunique() == 3
    grey = strip[:, :40].astype(int)
    assert (grey == grey[..., :1]).all()
    assert np.abs(grey[:24] - grey[24:48]).max() > 0


def test_a_small_srcnn_is_kept_as_it_was_trained(tmp_path, monkeypatch, folder):
    config = replace(
        recordings.SMALL_SRCNN, train_set=folder, scales=(3,), batch_size=8, steps=2
    )  # fmt: skip
    recordings.record_srcnn(tmp_path / recordings.FOLDER, config)
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    model = recordings.small_srcnn()
    assert not model.training
    start = config.network()
    vdsr.model.init_(start, mode=config.init, last_scale=1.0,
                     generator=torch.Generator().manual_seed(0))  # fmt: skip
    moved = [
        (a - b).abs().max().item()
        for a, b in zip(start.parameters(), model.parameters(), strict=True)
    ]
    assert 0 < max(moved) < 0.01  # two steps of Adam


def test_the_recorded_ones_are_whole():
    strip, labels = recordings.watched()
    _, _, width, height = recordings.BOX
    assert len(labels) == 1 + len(recordings.STEPS)
    assert strip.shape == (len(labels) * height, 2 * width, 3)
    assert labels[0].startswith("step 0: ") and labels[-1].startswith("step 1,024: ")


def test_the_recorded_srcnn_beats_interpolation():
    images = {"astronaut": vdsr.load_images("samples-test")["astronaut"][:200, 100:300]}
    model = recordings.small_srcnn()
    gain = vdsr.evaluate(model, images, 3).psnr - vdsr.evaluate(None, images, 3).psnr
    assert gain[0] > 0.5
