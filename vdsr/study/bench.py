"""How fast is a training step? Ratios taken in one run, so that they travel between machines."""

from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
from torch.utils.data import DataLoader, TensorDataset

from ..config import TrainConfig
from ..evaluate import ieee_float32
from ..model import VDSR
from ..train import Trainer

DEPTH, BATCH = 20, 64


def main(rounds=8):
    """Print the time of a whole step against a matrix product and a plain loop; return 0."""
    config = TrainConfig(
        depth=DEPTH, batch_size=BATCH, train_set="samples-train", augment=True, eval_sets=()
    )
    with TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder) / "bench.safetensors")
    trainer._begin(0, 0)
    device = trainer.device
    dtype = torch.bfloat16 if trainer.bf16 else torch.float32
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    repeat = 20 if device.type == "cuda" else 1  # a step is short there
    tasks = {
        "product": lambda: [a @ b for _ in range(repeat)],
        "step": lambda: trainer._advance(repeat),
        "plain": _plain_loop(trainer.patches, device),
    }
    times = {name: [] for name in tasks}
    for name in [*tasks] * (2 + rounds):  # interleaved; the first two rounds warm up
        start = perf_counter()
        tasks[name]()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times[name].append(perf_counter() - start)
    product, step, plain = (median(t[2:]) for t in times.values())
    product, step = product / repeat, step / repeat

    rate, peak = trainer.operations / step / 1e12, 2 * n**3 / product / 1e12
    print(f"a training step of depth {DEPTH}, batch {BATCH}, on {device.type}, {dtype}")
    print(f"  whole step              {1000 * step:8.1f} ms  {rate:7.2f} TFLOP/s")
    print(f"  {n}² matrix product   {1000 * product:8.1f} ms  {peak:7.2f} TFLOP/s")
    print(f"  plain float32 loop      {1000 * plain:8.1f} ms")
    print(f"step / matrix product, as rates: {rate / peak:.2f}")
    print(f"plain loop / step, as times:     {plain / step:.2f}")
    return 0


def _plain_loop(patches, device):
    """Return one step as public code trains: float32, a DataLoader, the clipped norm."""
    model = VDSR(DEPTH).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    shape = (-1, 1, patches.size, patches.size)
    pairs = TensorDataset(patches.hr.cpu().view(shape), patches.ilr.cpu().view(shape))
    batches = cycle(DataLoader(pairs, BATCH, shuffle=True, drop_last=True))

    @ieee_float32()  # torch would round to TF32 by itself
    def step():
        hr, ilr = (t.to(device) for t in next(batches))
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(ilr), hr, reduction="sum").backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.4)
        optimizer.step()

    return step
