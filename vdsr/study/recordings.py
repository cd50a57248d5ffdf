"""What the book's pictures need of training and no study trains: recorded once, in minutes.

``python -m vdsr.study.recordings`` trains two small networks and keeps, in ``results/figures/``,
what a small VDSR made of a picture after some of its steps, and the weights of a small SRCNN. It
needs T91. Neither answers a question; the pages that show them say how they were trained.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from .. import machine
from ..config import TrainConfig, settings_of
from ..data import load_images, luma
from ..evaluate import score, super_resolve
from ..files import load_checkpoint, replacing, save_checkpoint, write_text
from ..model import SRCNN
from ..patches import degrade
from ..train import Trainer
from .crops import error_colours

FOLDER = "results/figures"
STEPS = 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024

# The paper's recipe, but for a network, batches and a training that take a minute.
WATCHED = TrainConfig(
    depth=6, width=24, train_set="samples-train", scales=(3,), batch_size=32, epochs=None,
    steps=STEPS[-1], schedule="cosine", decay_epochs=None, theta=1e-4, eval_sets=(),
)  # fmt: skip
PICTURE, SCALE, BOX = "astronaut", 3, (160, 30, 160, 120)  # left, top, width and height

# SRCNN's network and patches; Adam in place of its own recipe, which needs days.
SMALL_SRCNN = TrainConfig(
    architecture="SRCNN 9-1-5", init="fan_in", last_scale=1.0, patch_size=33, overlap=19,
    scales=(3,), batch_size=16, epochs=None, steps=3000, schedule="cosine", decay_epochs=None,
    optimizer="adam", learning_rate=2e-3, weight_decay=0.0, clipping="none", eval_sets=(),
)  # fmt: skip


def watch(config, steps):
    """Train a network, and return what it makes of a picture before and after some steps.

    Parameters
    ----------
    config : TrainConfig
        Of one scale.
    steps : sequence of int
        Ascending.

    Returns
    -------
    strip : ndarray of uint8, (N * H, 2 * W, 3)
        A crop and its errors side by side, one pair below the other, the untrained network first.
    rows : list of tuple
        Step and PSNR of the whole picture in dB, of each.
    """
    hr, ilr = degrade(luma(load_images("samples-test")[PICTURE]), SCALE)
    left, top, width, height = BOX
    crop = np.s_[top : top + height, left : left + width]
    pairs, rows = [], []
    with TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder) / "not kept", device="cpu")
        for step in (0, *steps):
            while trainer.step < step:
                epoch, place = divmod(trainer.step, trainer.steps_per_epoch)
                trainer.begin(epoch, place)
                n = min(step - trainer.step, trainer.steps_per_epoch - place)
                trainer.advance(n)
                trainer.step += n
            sr = super_resolve(trainer.model.eval(), ilr)
            trainer.model.train()
            [scores] = score(None, [(PICTURE, hr, sr)], SCALE)
            grey = sr[crop].round().clip(0, 255).astype(np.uint8)
            errors = error_colours(sr[crop] - hr[crop])
            pairs.append(np.hstack([np.stack([grey] * 3, axis=2), errors]))
            rows.append((step, scores["psnr"]))
    return np.vstack(pairs), rows


def record_training(folder, config=WATCHED, steps=STEPS):
    """Write ``training.png`` and ``training.csv``, which `watched` reads."""
    strip, rows = watch(config, steps)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "training.png") as path:
        Image.fromarray(strip).save(path, "PNG", optimize=True)
    lines = [f"{step},{psnr:.2f}" for step, psnr in rows]
    write_text(folder / "training.csv", "\n".join(["step,psnr", *lines]) + "\n")


def watched():
    """Return the recorded strip, and a label for each of its pictures."""
    folder = machine.ROOT / FOLDER
    strip = np.asarray(Image.open(folder / "training.png"))
    _, *lines = (folder / "training.csv").read_text().split()
    rows = [line.split(",") for line in lines]
    return strip, [f"step {int(step):,}: {psnr} dB" for step, psnr in rows]


def record_srcnn(folder, config=SMALL_SRCNN):
    """Write ``srcnn.safetensors``, which `small_srcnn` reads."""
    with TemporaryDirectory() as scratch:
        trainer = Trainer(config, Path(scratch) / "not kept", device="cpu")
        trainer.fit()
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"config": settings_of(config), "seconds": round(trainer.seconds)}
    save_checkpoint(folder / "srcnn.safetensors", trainer.model.state_dict(), metadata)


def small_srcnn():
    """Return the recorded SRCNN, to be shown beside others, in evaluation mode."""
    model = SRCNN()
    model.load_state_dict(load_checkpoint(machine.ROOT / FOLDER / "srcnn.safetensors")[0])
    return model.eval()


if __name__ == "__main__":
    torch.manual_seed(0)
    record_training(machine.ROOT / FOLDER)
    record_srcnn(machine.ROOT / FOLDER)
