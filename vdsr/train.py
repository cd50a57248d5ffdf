"""One plain training loop: momentum SGD whose gradients are clipped to ±θ/γ."""

import json
import os
import warnings
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from math import cos, pi
from pathlib import Path
from time import monotonic
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from .data import load_images
from .evaluate import ieee_float32, prepare, score
from .model import SRCNN, VDSR, init_
from .patches import Patches

# The runs of a study train on the same patches, which take seconds to cut and space to keep.
_patches = lru_cache(maxsize=1)(Patches)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a training run; the defaults are the paper's.

    Sections are those of Kim et al. 2016. Where the paper is silent, the choice is this
    study's own, and the book says how it was made.
    """

    depth: int = 20  # §5.2
    width: int = 64  # §3.1
    residual: bool = True  # §3.2
    init: Literal["fan_in", "fan_out", "normal"] = "fan_out"  # §5.2 names He et al., not the fan
    last_scale: float = 0.1  # ours: factor on the last layer's initial weights
    train_set: str = "T91"  # Tables 1 and 2, Figures 3 and 4; "T91+BSD200" in Table 3
    scales: tuple[float, ...] = (2, 3, 4)  # §3.2
    augment: bool = False  # §5.1: rotation and flip, with the 291 images
    patch_size: int = 41  # §3.2
    batch_size: int = 64  # §3.2
    epochs: int = 80  # §5.2
    decay_epochs: int = 20  # §5.2: the learning rate is divided by 10 this often
    learning_rate: float = 0.1  # §5.2
    momentum: float = 0.9  # §3.2
    weight_decay: float = 1e-4  # §3.2
    loss: Literal["sum", "patch", "pixel"] = "patch"  # ours: what half the squared error is over
    clipping: Literal["adjustable", "value", "norm", "none"] = "adjustable"  # §3.2
    theta: float = 3e-5  # ours: bound of a step (adjustable), of an entry or of the norm
    precision: Literal["auto", "bf16", "float32"] = "auto"  # ours: bf16 where it is faster
    eval_sets: tuple[str, ...] = ("Set5",)
    eval_scales: tuple[float, ...] = (2, 3, 4)
    eval_epochs: int = 1  # how often to score the network
    seed: int = 0
    # Fields added after runs were recorded carry the value that all of those had.
    dilation: int = field(default=1, metadata={"before": 1})  # ours, to widen the field alone
    architecture: Literal["VDSR", "SRCNN 9-1-5", "SRCNN 9-5-5"] = field(
        default="VDSR", metadata={"before": "VDSR"}
    )  # SRCNN has its own depth, width and output; those above are then left alone
    overlap: int = field(default=0, metadata={"before": 0})  # §3.2: pixels that patches share
    last_rate: float = field(default=1.0, metadata={"before": 1.0})  # §2.1: factor, last layer
    optimizer: Literal["sgd", "adam"] = field(default="sgd", metadata={"before": "sgd"})  # §3.2

    def __post_init__(self):
        """Refuse what cannot be trained, before anything is loaded."""
        for each in fields(self):
            value, allowed = getattr(self, each.name), get_args(each.type)
            if each.type in (int, bool) and type(value) is not each.type:
                raise ValueError(f"{each.name} must be of type {each.type.__name__}, got {value!r}")
            if each.name.endswith(("scales", "sets")) and not isinstance(value, (tuple, list)):
                raise ValueError(f"{each.name} must be a tuple, got {value!r}")
            if allowed and isinstance(allowed[0], str) and value not in allowed:
                raise ValueError(f"{each.name} must be one of {allowed}, got {value!r}")
        for name in ("scales", "eval_scales"):  # equal configs are one run, be it 2 or 2.0
            scales = tuple(int(s) if s == int(s) else float(s) for s in getattr(self, name))
            object.__setattr__(self, name, scales)
        for each in fields(self):
            if each.type is float:
                object.__setattr__(self, each.name, float(getattr(self, each.name)))
        object.__setattr__(self, "eval_sets", tuple(self.eval_sets))
        positive = (
            "width patch_size batch_size epochs decay_epochs learning_rate theta eval_epochs "
            "dilation last_rate"
        )
        for name in positive.split():
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        if not 0 <= self.overlap < self.patch_size:
            raise ValueError(
                f"overlap must be from 0 to below patch_size, {self.patch_size}, "
                f"got {self.overlap!r}"
            )
        if self.optimizer == "adam" and self.clipping == "adjustable":
            raise ValueError(
                "clipping must be 'none' or another kind with optimizer 'adam': "
                "adjustable clipping bounds the steps of 'sgd'"
            )
        if self.depth < 2:
            raise ValueError(f"depth must be at least 2, got {self.depth!r}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed!r}")
        if not self.scales or min((*self.scales, *self.eval_scales)) < 1:
            raise ValueError(
                f"scales must be factors of at least 1, got {self.scales!r}, {self.eval_scales!r}"
            )

    @property
    def label(self):
        """What is trained, in a few words."""
        name = self.architecture if self.architecture != "VDSR" else f"VDSR of depth {self.depth}"
        return f"{name}, seed {self.seed}"

    def network(self):
        """Return the network to be trained, its weights not yet initialised."""
        if self.architecture != "VDSR":
            return SRCNN(middle=int(self.architecture[-3]))
        return VDSR(self.depth, self.width, self.residual, self.dilation)

    def learning_rate_at(self, epoch):
        """Return γ when that many epochs are done, whole or not.

        SGD's is divided by 10 every `decay_epochs`, Adam's falls to 0 along half a cosine.
        """
        if self.optimizer == "adam":
            return self.learning_rate * (1 + cos(pi * epoch / self.epochs)) / 2
        return self.learning_rate * 0.1 ** (epoch // self.decay_epochs)


class OutOfTime(Exception):
    """A run was stopped by its deadline; its checkpoint is kept and it can go on later."""


class Trainer:
    """A training run in progress: network, optimiser, and place in the schedule.

    Parameters
    ----------
    config : TrainConfig
    checkpoint : path-like
        File to continue from if it exists, and to keep the state in. It is replaced as a
        whole, so that a run killed at any moment goes on from it; on a CPU, to the same weights.
    device : torch.device or str, optional
        By default a CUDA GPU where there is one, else the CPU.

    Raises
    ------
    ValueError
        If an epoch has no full batch.
    """

    save_seconds = 60  # what a killed run loses at most

    def __init__(self, config, checkpoint, device=None):
        self.config, self.checkpoint = config, Path(checkpoint)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.record = {}  # where the run comes from; kept with the state, for the ledger
        self.bf16 = config.precision == "bf16" or (
            config.precision == "auto" and _bf16_is_fast(self.device)
        )
        self.patches = _patches(
            config.train_set, config.scales, size=config.patch_size,
            overlap=config.overlap, augment=config.augment, device=self.device,
        )  # fmt: skip
        self.steps_per_epoch = len(self.patches) // config.batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"{config.train_set} gives {len(self.patches)} patches, "
                f"fewer than one batch of {config.batch_size}"
            )
        self.total_steps = config.epochs * self.steps_per_epoch

        self.model = config.network()
        with torch.no_grad():  # SRCNN trains without padding, and gives less than it gets
            shape = 1, 1, config.patch_size, config.patch_size
            self.out_pixels = self.model(torch.zeros(shape)).numel()
        self.pixels = {"sum": 1, "patch": config.batch_size,
                       "pixel": config.batch_size * self.out_pixels}[config.loss]  # fmt: skip
        generator = torch.Generator().manual_seed(config.seed)
        init_(self.model, mode=config.init, last_scale=config.last_scale, generator=generator)
        self.model.to(self.device, memory_format=torch.channels_last)
        self.parameters = list(self.model.parameters())
        self.optimizer = self._optimizer()

        # The place in the epoch lives on the device: a step then needs nothing from Python.
        shape = (self.steps_per_epoch, config.batch_size)
        self.order = torch.zeros(shape, dtype=torch.int64, device=self.device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.losses = torch.zeros(self.steps_per_epoch, device=self.device)
        self.rate = None
        self._run = None
        self._captures = True
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self.step = 0  # finished ones
        self.seconds = 0.0  # spent on training alone
        self.history = []
        if self.checkpoint.exists():
            self._restore()

    @property
    def finished(self):
        """Whether the last step is done."""
        return self.step == self.total_steps

    def state(self):
        """Return all but the tensors: config, step, epoch, seconds, history, finished, record."""
        return {
            "config": asdict(self.config), "step": self.step,
            "epoch": self.step // self.steps_per_epoch, "seconds": self.seconds,
            "history": self.history, "finished": self.finished, "record": self.record,
        }  # fmt: skip

    def unscored(self):
        """Return the history's rows that a run which ends here will not have, without scores."""
        done, config = self.step // self.steps_per_epoch, self.config
        return [
            {"step": epoch * self.steps_per_epoch, "epoch": epoch, "dataset": name, "scale": scale}
            for epoch in range(done + 1, config.epochs + 1)
            if epoch % config.eval_epochs == 0 or epoch == config.epochs
            for name in config.eval_sets
            for scale in config.eval_scales
        ]

    def fit(self, *, progress=None, deadline=None):
        """Train to the end of the schedule.

        Parameters
        ----------
        progress : tqdm.tqdm, optional
            Told of every step.
        deadline : float, optional
            Value of `time.monotonic` past which the state is saved and the run stops.

        Raises
        ------
        OutOfTime
            When the deadline passes before the end.
        FloatingPointError
            When the loss stops being finite.
        """
        pairs = {
            (name, scale): list(prepare(load_images(name), scale))
            for name in self.config.eval_sets
            for scale in self.config.eval_scales
        }
        # Every stop to look at the losses makes a GPU wait; a CPU is never ahead of Python.
        stride = 100 if self.device.type == "cuda" else 1
        saved, fresh = monotonic(), True
        while not self.finished:
            epoch, place = divmod(self.step, self.steps_per_epoch)
            if fresh or place == 0:
                self._begin(epoch, place)
                fresh = False
            n = min(stride, self.steps_per_epoch - place)
            start = monotonic()
            self._advance(n)
            losses = self.losses[place : place + n].cpu().numpy()
            self.seconds += monotonic() - start
            self._check(losses)
            self.step += n
            epochs, rest = divmod(self.step, self.steps_per_epoch)
            if rest == 0 and (epochs % self.config.eval_epochs == 0 or self.finished):
                self._score(epochs, pairs)
            late = deadline is not None and monotonic() > deadline
            if late or self.finished or monotonic() - saved > self.save_seconds:
                self._save()
                saved = monotonic()
            if progress is not None:
                scored = {
                    f"×{r['scale']:g}": f"{r['psnr']:.2f} dB" for r in self.history[-len(pairs) :]
                }
                progress.set_postfix(
                    loss=f"{losses.mean():.3g}", lr=f"{self.rate:.0e}", **scored, refresh=False
                )
                progress.update(n)
            if late and not self.finished:
                raise OutOfTime(f"stopped at step {self.step} of {self.total_steps}")

    def _optimizer(self):
        """Return the optimiser, its buffers there from the start.

        A resumed run could otherwise differ from one never stopped.
        """
        config = self.config
        groups = [
            {"params": self.parameters[:-2], "factor": 1.0},
            {"params": self.parameters[-2:], "factor": config.last_rate},
        ]
        settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
        if config.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, momentum=config.momentum, **settings)
            for parameter in self.parameters:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            return optimizer
        captured = self.device.type == "cuda"
        for group in groups:
            if captured:  # a rate that moves at each step is then part of no graph
                group["lr"] = torch.tensor(config.learning_rate, device=self.device)
        betas = (config.momentum, 0.999)
        optimizer = torch.optim.Adam(groups, betas=betas, capturable=captured, **settings)
        for parameter in self.parameters:
            optimizer.state[parameter] |= {
                "step": torch.zeros((), device=self.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return optimizer

    def _buffers(self):
        """Return the optimiser's tensors by name."""
        return {
            f"optimizer.{key}.{name}": tensor
            for name, parameter in self.model.named_parameters()
            for key, tensor in self.optimizer.state[parameter].items()
        }

    def _schedule(self, step):
        """Set the learning rate of a step."""
        rate = self.config.learning_rate_at(step / self.steps_per_epoch)
        if rate == self.rate:
            return
        self.rate = rate
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate * group["factor"])
            else:
                group["lr"] = rate * group["factor"]
                self._run = None  # a captured step has the learning rate built in

    def _begin(self, epoch, place):
        """Enter an epoch: its learning rate, its order, its cursor."""
        self._schedule(epoch * self.steps_per_epoch + place)
        order = self.patches.epoch_order(self.config.seed, epoch)
        self.order.copy_(order[: self.order.numel()].view(self.order.shape))
        self.cursor.fill_(place)

    def _advance(self, n):
        """Take n steps."""
        if self.device.type != "cuda":
            for i in range(n):
                self._schedule(self.step + i)
                self._one_step()
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for i in range(n):
                self._schedule(self.step + i)
                if self._run is not None:
                    self._run()
                    continue
                self._one_step()  # kernels choose their algorithms outside the capture
                if self._captures:
                    self._run = self._capture()
        torch.cuda.current_stream().wait_stream(self._stream)

    def _capture(self):
        """Return the whole step as one CUDA graph, or None where capture fails, once for all."""
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                self._one_step()
            return graph.replay
        except RuntimeError as error:
            warnings.warn(f"CUDA graph capture failed, training runs slower: {error}", stacklevel=2)
            self._captures = False
            return None

    @ieee_float32()
    def _one_step(self):
        """Batch, forward, backward, clip, update."""
        hr, ilr = self.patches.batch(self.order[self.cursor][0])
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, self.bf16, cache_enabled=False):
            sr = self.model(ilr)
        cut = (hr.shape[-1] - sr.shape[-1]) // 2
        hr = hr[..., cut : cut + sr.shape[-2], cut : cut + sr.shape[-1]]
        loss = (hr - sr).square().sum() / (2 * self.pixels)
        loss.backward()
        self._clip()
        self.optimizer.step()
        self.losses.index_copy_(0, self.cursor, loss.detach()[None])
        self.cursor += 1

    def _clip(self):
        theta = self.config.theta
        match self.config.clipping:
            case "adjustable":
                clip_grad_value_(self.parameters, theta / self.rate)
            case "value":
                clip_grad_value_(self.parameters, theta)
            case "norm":
                clip_grad_norm_(self.parameters, theta)

    def _check(self, losses):
        """Raise if a loss, or what the last update left, is not finite: it must not be saved."""
        tensors = (*self.parameters, *self._buffers().values())
        sums = torch.stack([t.detach().sum() for t in tensors])
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size or not sums.isfinite().all():
            step = self.step + (bad[0] + 1 if bad.size else len(losses))
            kept = self.checkpoint if self.checkpoint.exists() else "none yet"
            raise FloatingPointError(
                f"the loss or the weights are no longer finite at step {step} with learning "
                f"rate {self.rate:g}; a smaller theta or learning_rate may help. "
                f"Last good checkpoint: {kept}"
            )

    def _score(self, epoch, pairs):
        """Add a row for each evaluation set and scale."""
        loss = self.losses.mean().item() * self.pixels
        loss /= self.config.batch_size * self.out_pixels
        self.model.eval()
        for (name, scale), images in pairs.items():
            rows = score(self.model, images, scale)
            self.history.append(
                {
                    "step": self.step, "epoch": epoch, "train_loss": loss,
                    "dataset": name, "scale": scale,
                    "psnr": float(np.mean([r["psnr"] for r in rows])),
                    "ssim": float(np.mean([r["ssim"] for r in rows])),
                }
            )  # fmt: skip
        self.model.train()

    def _save(self):
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        if not self.finished:
            tensors |= self._buffers() | {"losses": self.losses}
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        part = self.checkpoint.with_suffix(".part")
        tensors = {k: v.contiguous() for k, v in tensors.items()}
        save_file(tensors, part, {k: json.dumps(v) for k, v in self.state().items()})
        os.replace(part, self.checkpoint)

    def _restore(self):
        tensors, metadata = load_checkpoint(self.checkpoint)
        self.step, self.seconds = metadata["step"], metadata["seconds"]
        self.history, self.record = metadata["history"], metadata["record"]
        self.model.load_state_dict(
            {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        )
        if not self.finished:
            self.losses.copy_(tensors["losses"])
            for name, buffer in self._buffers().items():
                buffer.copy_(tensors[name])


class _Watched(Trainer):
    """Keeps what clipping is given."""

    def _clip(self):
        self.gradients = [p.grad.detach().abs().flatten().cpu().numpy() for p in self.parameters]
        super()._clip()


def gradient_magnitudes(config, steps):
    """Return the gradient before clipping at some steps of a training that is not kept.

    Parameters
    ----------
    config : TrainConfig
    steps : sequence of int
        Ascending, within the first epoch; 0 is the first.

    Returns
    -------
    pandas.DataFrame
        A row a weight and bias, of each step: step, layer (from 1), and ratio, the magnitude of
        its gradient over θ/γ, the bound of adjustable clipping.
    """
    trainer = _Watched(config, Path("none"))
    trainer._begin(0, 0)
    tables = []
    for step in range(steps[-1] + 1):
        trainer._one_step()
        if step in steps:
            for i, values in enumerate(trainer.gradients):  # weights and biases take turns
                ratio = values * (trainer.rate / config.theta)
                tables.append(pd.DataFrame({"step": step, "layer": i // 2 + 1, "ratio": ratio}))
    return pd.concat(tables, ignore_index=True)


def load_checkpoint(path):
    """Return the tensors and the metadata of a checkpoint; nothing is unpickled.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    tensors : dict of str to Tensor
        ``model.*`` and, in an unfinished run, ``optimizer.*`` and the epoch's ``losses``.
    metadata : dict
        From `Trainer.state`.
    """
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors, load_metadata(path)


def load_metadata(path):
    """Return the metadata of a checkpoint alone; an empty one if there is no such file."""
    if not Path(path).exists():
        return {}
    with safe_open(path, "pt") as file:
        return {k: json.loads(v) for k, v in file.metadata().items()}


def _bf16_is_fast(device):
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
