"""Which of some runs are missing, how much work they are, and how long this machine takes."""

from functools import cache
from math import ceil
from time import monotonic

import torch

from .. import ledger, machine, runs
from ..config import TrainConfig, run_id
from ..data import load_images
from ..model import step_operations
from ..patches import SHRUNK, as_ratio
from ..train import Trainer

TERA = 1e12


def missing(configs):
    """Return those of some runs, by identity, that are not recorded, or lack scores to be had."""
    known = set(ledger.read()[0].run)
    return {
        identity: config
        for identity, config in configs.items()
        if identity not in known or runs.can_add_scores(runs.recorded(config), config)
    }


def to_train(missing):
    """Return those of some missing runs whose training has not ended here; others lack scores."""
    return [config for config in missing.values() if not runs.has_ended(config)]


def announce(configs, refresh):
    """Say on a CPU how long some runs will take, before they start."""
    if torch.cuda.is_available():
        return
    left = {run_id(c): c for c in configs}
    left = [*left.values()] if refresh else to_train(missing(left))
    if left:
        what = "to be trained again" if refresh else "missing"
        print(f"{len(left)} runs of the paper's length are {what}: {forecast(left)}. "
              f"The one that is interrupted goes on from where it was.")  # fmt: skip


def forecast(configs):
    """Return in words how much work some runs are, and how long this machine takes for it."""
    hours = sum(map(work, configs)) / rate() / 3600
    return f"{amount(configs)}, about {hours:,.1f} hours of training on this machine"


def amount(configs):
    """Return in words how much work some runs are."""
    return f"{sum(map(work, configs)):,.0f} TFLOP"


def work(config):
    """Return the floating-point operations of a whole training run, in TFLOP."""
    steps_per_epoch = patches(config) // config.batch_size
    operations = step_operations(config.network(), config.batch_size, config.patch_size)
    return config.total_steps(steps_per_epoch) * operations / TERA


def patches(config):
    """Return the number of patches of an epoch, without cutting them."""
    size, stride = config.patch_size, config.patch_size - config.overlap
    count = 0
    for scale in config.scales:
        whole, multiple = 0, as_ratio(scale).numerator
        for shape in _shapes(config.train_set):
            for factor in (1, *(SHRUNK if config.shrink else ())):
                sides = (ceil(factor * n) // multiple * multiple for n in shape)
                rows, columns = (max(0, (n - size) // stride + 1) for n in sides)
                whole += rows * columns
        count += min(whole, max(1, round(config.keep * whole)))
    return count * (8 if config.augment else 1)


@cache
def _shapes(dataset):
    return [image.shape[:2] for image in load_images(dataset).values()]


@cache
def rate():
    """Return this machine's rate of training in TFLOP/s: three steps of ten layers, measured."""
    config = TrainConfig(depth=10, scales=(2,), train_set="samples-test", eval_sets=())
    trainer = Trainer(config, machine.ROOT / "runs" / "not kept")
    trainer.begin(0, 0)
    trainer.advance(1)
    start = monotonic()
    trainer.advance(2)
    trainer.measures.sum().item()  # waits for a GPU
    return 2 * trainer.operations / TERA / (monotonic() - start)
