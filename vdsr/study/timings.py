"""What the table of speeds times: pairs of tasks that take turns, and the ratio of each turn."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from skimage.io import imread
from torch.utils.data import DataLoader, TensorDataset

from .. import data, machine
from ..config import TrainConfig
from ..evaluate import evaluate, ieee_float32
from ..export import export_onnx
from ..model import VDSR
from ..patches import Patches
from ..train import Trainer
from ..upscale import enlarge, load_pretrained, upscale, upscale_file
from .configs import srcnn

ROUNDS = 5
SIDE = 512  # of the picture that is enlarged to a megapixel
LARGE = 1536, 2048  # of the one that is enlarged to 12 megapixels
BATCH = 64
TRAINING_SET = "T91+BSD200", (2, 3, 4)
OPERATIONS = 2 * sum(p.numel() for p in VDSR().parameters() if p.ndim == 4)  # a pixel of the result


def device():
    """Return the device that is measured."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _turns(*tasks, rounds=None, warm=1):
    """Return the seconds of tasks that take turns, a list each; the first turns do not count."""
    rounds = rounds or ROUNDS
    times = [[] for _ in tasks]
    for _ in range(warm + rounds):
        for task, seconds in zip(tasks, times, strict=True):
            start = perf_counter()
            task()
            if device().type == "cuda":
                torch.cuda.synchronize()
            seconds.append(perf_counter() - start)
    return [seconds[warm:] for seconds in times]


def _ratios(above, below):
    return [a / b for a, b in zip(above, below, strict=True)]


def matrices():
    """Return the floating-point operations of a large matrix product, and a function that does it.

    It is in the format that training takes on the device.
    """
    where = device()
    n = 8192 if where.type == "cuda" else 2048
    dtype = torch.bfloat16 if machine.bf16_is_fast(where) else torch.float32
    a, b = (torch.randn(n, n, device=where, dtype=dtype) for _ in range(2))
    return 2 * n**3, lambda: a @ b


@ieee_float32()
def product():
    """Return the floating-point operations a second of a large matrix product."""
    operations, task = matrices()
    [seconds] = _turns(task)
    return operations / median(seconds)


def picture(height, width):
    """Return a colour picture of any size that is not flat."""
    sample = next(iter(data.load_images("samples-test").values()))
    repeats = -(-height // sample.shape[0]), -(-width // sample.shape[1]), 1
    return np.tile(sample, repeats)[:height, :width]


def enlarge_a_megapixel():
    """Return the milliseconds that enlarging a picture to a megapixel takes."""
    small = picture(SIDE, SIDE)
    [seconds] = _turns(lambda: upscale(small, 2))
    return [1000 * each for each in seconds]


def _enlarge_against(model):
    """Return the time that another network takes as it is, of that which the default takes."""
    small = picture(SIDE, SIDE)
    ours, others = _turns(
        lambda: upscale(small, 2), lambda: enlarge(small, 2, model, 512, progress=False)
    )
    return _ratios(others, ours)


def enlarge_against_plain():
    """Return what a plain network takes for a megapixel, of what `upscale` does."""
    return _enlarge_against(load_pretrained().to(device()))


def enlarge_against_onnx():
    """Return what ONNX Runtime takes for it, of what `upscale` does."""
    import onnxruntime

    model = load_pretrained()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_onnx(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    [entry] = session.get_inputs()
    model.forward = lambda x: torch.from_numpy(session.run(None, {entry.name: x.numpy()})[0])
    return _enlarge_against(model)


def enlarge_file():
    """Return the rate of enlarging a file to 12 megapixels, of the matrix product's rate."""
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "small.png", Path(folder) / "large.png"
        Image.fromarray(picture(*LARGE)).save(source)
        operations, task = matrices()
        seconds, theirs = _turns(lambda: upscale_file(source, target, 2), task, rounds=1, warm=0)
    work = OPERATIONS * 4 * LARGE[0] * LARGE[1]
    return [work / s / (operations / t) for s, t in zip(seconds, theirs, strict=True)]


def enlarge_sizes():
    """Return how much longer a megapixel takes in a picture of 12 than in one of 1."""
    small, large = picture(SIDE, SIDE), picture(*LARGE)
    upscale(small, 2)  # what is slow once
    ones, twelves = _turns(lambda: upscale(small, 2), lambda: upscale(large, 2), rounds=1, warm=0)
    return [b / 12 / a for a, b in zip(ones, twelves, strict=True)]


# Linux hands a program's getrusage the peak of the one that started it, so that is not asked.
MEMORY = """
import re
from pathlib import Path
import psutil
from vdsr import VDSR, upscale
from vdsr.study.timings import picture
# As much is alive in a network of three layers as in one of twenty.
network = VDSR(depth=3)
small = picture(64, 64)
upscale(small, 2, model=network)
before = psutil.Process().memory_info().rss
large = picture(3000, 4000)
out = upscale(large, 2, model=network)
status = Path("/proc/self/status").read_text()
peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status)[1])
print((peak - before - large.nbytes - out.nbytes) / 2**30)
"""


def memory():
    """Return what the enlargement of 12 megapixels takes beyond both pictures, in GiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True
    )
    return [float(done.stdout)]


def _trainer(depth, folder):
    config = TrainConfig(
        depth=depth, batch_size=BATCH, train_set="samples-train", augment=True, eval_sets=()
    )
    trainer = Trainer(config, Path(folder) / "bench.safetensors")
    trainer.begin(0, 0)
    return trainer


def step_against_product(depth):
    """Return a function that measures a step's rate, of the matrix product's."""

    def measure():
        with TemporaryDirectory() as folder:
            trainer = _trainer(depth, folder)
        operations, task = matrices()
        repeat = 20 if trainer.device.type == "cuda" else 1  # a step is short there
        with ieee_float32():
            steps, products = _turns(
                lambda: trainer.advance(repeat), lambda: [task() for _ in range(repeat)], warm=2
            )
        work = trainer.operations / operations
        return [work * p / s for s, p in zip(steps, products, strict=True)]

    return measure


def whole_run(config_of):
    """Return a function that measures the minutes of a whole training, without scoring.

    Parameters
    ----------
    config_of : callable
        Returns the config.
    """

    def measure():
        with TemporaryDirectory() as folder:
            config = replace(config_of(), eval_sets=())
            trainer = Trainer(config, Path(folder) / "bench.safetensors")
            trainer.fit()
        return [trainer.seconds / 60]

    return measure


def plain_against_step():
    """Return what a plain loop takes for a step, of what ours does."""
    with TemporaryDirectory() as folder:
        trainer = _trainer(20, folder)
    steps, plain = _turns(
        lambda: trainer.advance(1), _plain_loop(trainer.patches, trainer.device), warm=2
    )
    return _ratios(plain, steps)


def step_against_srcnn():
    """Return the work a second of a VDSR's step, of what it is in SRCNN's steps."""
    [one, *_] = srcnn("paper")
    config = replace(one, train_set="samples-train", augment=True, eval_sets=())
    with TemporaryDirectory() as folder:
        deep, shallow = _trainer(20, folder), Trainer(config, Path(folder) / "srcnn.safetensors")
        shallow.begin(0, 0)
        repeat = min(20, shallow.steps_per_epoch // (2 + ROUNDS))  # a step is short
        steps, others = _turns(lambda: deep.advance(1), lambda: shallow.advance(repeat), warm=2)
    work = deep.operations / (repeat * shallow.operations)
    return [work * other / step for step, other in zip(steps, others, strict=True)]


def _plain_loop(patches, where, depth=20):
    """Return one step as public code trains: float32, a DataLoader, the clipped norm."""
    model = VDSR(depth).to(where)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    shape = (-1, 1, patches.size, patches.size)
    pairs = TensorDataset(patches.hr.cpu().view(shape), patches.ilr.cpu().view(shape))
    batches = cycle(DataLoader(pairs, BATCH, shuffle=True, drop_last=True))

    @ieee_float32()  # torch would round to TF32 by itself
    def step():
        hr, ilr = (t.to(where) for t in next(batches))
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(ilr), hr, reduction="sum").backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.4)
        optimizer.step()

    return step


def patches_against_decoding():
    """Return what cutting all patches takes, of what decoding their pictures does."""
    names = TRAINING_SET[0].split("+")
    paths = [path for name in names for path in data.fetch(data._files()[name])]
    cut, decode = _turns(
        lambda: Patches(*TRAINING_SET, augment=True),
        lambda: [imread(path) for path in paths],
        rounds=3,
    )
    return _ratios(cut, decode)


def scoring_against_network():
    """Return what scoring takes, of what the network in it does, for each scale."""
    values = []
    model = load_pretrained().to(device())
    for scale in (2, 3, 4):
        start = perf_counter()
        rows = evaluate(model, "Set14", scale)
        values.append((perf_counter() - start) / rows.seconds.sum())
    return values


def import_beyond_torch():
    """Return the seconds that importing the package takes beyond torch."""

    def run(module):
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)

    ours, theirs = _turns(lambda: run("vdsr"), lambda: run("torch"))
    return [a - b for a, b in zip(ours, theirs, strict=True)]


def book(again):
    """Return a function that measures a build of the book, the first or one after it."""

    def measure():
        with TemporaryDirectory() as folder:
            program = Path(sys.executable).with_name("jupyter-book")
            command = [program, "build", "book/", "--path-output", folder]
            for _ in range(1 + again):
                start = perf_counter()
                subprocess.run(
                    command, check=True, cwd=machine.ROOT, capture_output=True, text=True
                )
                seconds = perf_counter() - start
        return [seconds]

    return measure


def quick_tests():
    """Return the minutes of the quick tests, without data."""
    environment = {k: v for k, v in os.environ.items() if k != "VDSR_DATA_DIR"}
    start = perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not slow"],
        check=True, cwd=machine.ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return [(perf_counter() - start) / 60]
