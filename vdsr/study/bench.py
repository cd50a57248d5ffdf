"""How fast is a training step? Ratios taken in one run, so that they travel between machines."""

import platform
from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import psutil
import torch
from torch.utils.data import DataLoader, TensorDataset

from ..config import TrainConfig
from ..evaluate import ieee_float32
from ..machine import OtherLoad
from ..model import VDSR
from ..train import Trainer

DEPTH, BATCH = 20, 64


def main(rounds=8):
    """Print the time of a whole step against a matrix product and a plain loop; return 0."""
    print(circumstances())
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


def circumstances(seconds=2):
    """Return in words what a timing needs to be judged elsewhere, and what else runs here.

    Parameters
    ----------
    seconds : float
        How long to watch the other processes.
    """
    load = OtherLoad()
    sleep(seconds)
    others = load.cores
    said = (
        f"cores: {psutil.cpu_count(logical=False) or psutil.cpu_count()}, "
        f"threads: {torch.get_num_threads()}, {instructions()}, torch {torch.__version__}"
    )
    if others >= 0.1:  # seconds in the ledger are compared below that, too
        said += (
            f"\nOther processes keep {others:.1f} cores busy: what follows is slower than this "
            f"machine, and less sure. End them, and measure again."
        )
    return said


def instructions():
    """Return which of a processor's wide instructions torch can use here: AVX512, AMX, say."""
    found = torch.backends.cpu.get_cpu_capability()  # DEFAULT is what every processor has
    names = {
        "NEON": platform.machine() in ("aarch64", "arm64"),
        found: found != "DEFAULT",
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
    }
    return " ".join(name for name, there in names.items() if there) or "no wide instructions"


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
