"""One plain training loop: momentum SGD whose gradients are clipped to ±θ/γ."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from time import monotonic

import numpy as np
import torch

from . import winograd
from .config import RECIPE, TrainConfig, run_id, settings_of
from .data import data_hash, load_images
from .evaluate import ieee_float32, prepare, score
from .files import PRETRAINED, DamagedFile, load_checkpoint, save_checkpoint
from .machine import OtherLoad, bf16_is_fast, one_thread
from .model import deepened, init_, step_operations
from .optim import clip_, make_optimizers, set_rates
from .patches import Patches

CHARBONNIER = 1e-3  # its error is quadratic below, absolute above, in units of the white level


# The runs of a study train on the same patches, which take seconds to cut and space to keep.
@lru_cache(maxsize=1)
def _patches(data, name, scales, **options):
    return Patches(name, scales, **options)


class OutOfTime(Exception):
    """A run was stopped by its deadline; its checkpoint is kept and it can go on later."""


class NotReady(RuntimeError):
    """The run that another goes on from has not ended on this machine."""


def untrained(config):
    """Return a network as it is drawn at random, on the CPU."""
    model = config.network()
    generator = torch.Generator().manual_seed(config.seed)
    init_(model, mode=config.init, last_scale=config.last_scale, generator=generator)
    return model


class Trainer:
    """A training run in progress: network, optimisers, and place in the schedule.

    Parameters
    ----------
    config : TrainConfig
    checkpoint : path-like
        File to continue from if it exists, and to keep the state in. It is replaced as a
        whole, so that a run killed at any moment goes on from it; on a CPU, and in as many
        threads, to the same weights.
    device : torch.device or str, optional
        By default a CUDA GPU where there is one, else the CPU.

    Raises
    ------
    ValueError
        If an epoch has no full batch, the config is of an older recipe, or it goes on from a run
        of another network.
    NotReady
        If the run that this one goes on from has not ended well beside the checkpoint, and is
        not the one that comes with the package.
    vdsr.files.DamagedFile
        If the checkpoint is damaged, or another run's.
    """

    save_seconds = 60  # what a killed run loses at most
    captures = True  # as CUDA graphs; false in the whole process once that has failed

    def __init__(self, config, checkpoint, device=None):
        if config.recipe != RECIPE:
            raise ValueError(
                f"recipe must be {RECIPE} to be trained, got {config.recipe}: "
                f"runs of older recipes can only be shown"
            )
        self.config, self.checkpoint = config, Path(checkpoint)
        self.identity = run_id(config)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.bf16 = config.precision == "bf16" or (
            config.precision == "auto" and bf16_is_fast(self.device)
        )
        self.patches = _patches(
            data_hash(config.train_set), config.train_set, config.scales, size=config.patch_size,
            overlap=config.overlap, augment=config.augment, shrink=config.shrink, keep=config.keep,
            device=self.device,
        )  # fmt: skip
        self.steps_per_epoch = len(self.patches) // config.batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"train_set must give a batch of {config.batch_size} patches at least, got "
                f"{len(self.patches)} from {config.train_set}; add pictures, or take a smaller "
                f"batch_size"
            )
        config.check_rates(self.steps_per_epoch)
        self.total_steps = config.total_steps(self.steps_per_epoch)
        self.eval_steps = config.eval_steps_in(self.steps_per_epoch)

        self.model = untrained(config)
        self.record = {}  # where the run comes from; kept with the state, for the ledger
        if config.start and not self.checkpoint.exists():
            tensors, record = first_weights(config, self.checkpoint.parent)
            self.model.load_state_dict(tensors)
            self.record["trouble"] = record.get("trouble", "")
        with torch.no_grad():  # SRCNN trains without padding, and gives less than it gets
            shape = 1, 1, config.patch_size, config.patch_size
            self.out_pixels = self.model(torch.zeros(shape)).numel()
        self.pixels = {"sum": 1, "patch": config.batch_size,
                       "pixel": config.batch_size * self.out_pixels}[config.loss]  # fmt: skip
        self.operations = step_operations(self.model, config.batch_size, config.patch_size)
        # cuDNN's float32 convolutions are faster in PyTorch's own layout, all others in this one.
        plain = self.device.type == "cuda" and not self.bf16
        layout = torch.contiguous_format if plain else torch.channels_last
        self.model.to(self.device, memory_format=layout)
        # A thread with very few patches would mostly wait for its turn at Python.
        threads = torch.get_num_threads()
        large = threads == 1 or config.batch_size >= 4 * threads
        self.winograd = large and not self.bf16 and bool(winograd.layers(self.model))
        self._threads = threads if self.winograd else 1
        self._map = map
        if self._threads > 1:
            pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
            self._map = pool.map
        self.parameters = list(self.model.parameters())
        self.optimizers = make_optimizers(config, self.model)
        # Running means of the weights, which are scored, and kept at the end, in their place.
        self.averages = [p.detach().clone() for p in self.parameters if config.average]

        # The place in the epoch lives on the device: a step then needs nothing from Python.
        shape = (self.steps_per_epoch, config.batch_size)
        self.order = torch.zeros(shape, dtype=torch.int64, device=self.device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=self.device)
        # Loss and share of clipped gradients, of each step of the epoch.
        self.measures = torch.zeros((2, self.steps_per_epoch), device=self.device)
        self.factor = None
        self._run = None
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self.step = 0  # finished ones
        self.seconds = 0.0  # spent on training alone
        self.history = []
        self.images = {}  # the contents, as a hash, of the image sets that have been scored
        if self.checkpoint.exists():
            self._restore()

    @property
    def finished(self):
        """Whether the last step is done."""
        return self.step == self.total_steps

    @property
    def arithmetic(self):
        """The number format of the convolutions, and their algorithm if it is not the usual one."""
        return "bf16" if self.bf16 else "float32, Winograd" if self.winograd else "float32"

    @property
    def rate(self):
        """The learning rate γ in force, that of hidden layers."""
        return self.config.learning_rate * self.factor

    def state(self):
        """Return all but the tensors: run, config, step, history, record and so on."""
        return {
            "run": self.identity, "config": settings_of(self.config), "step": self.step,
            "seconds": self.seconds, "tflop": self.step * self.operations / 1e12,
            "history": self.history, "images": self.images, "finished": self.finished,
            "record": self.record,
        }  # fmt: skip

    def unscored(self):
        """Return the history's rows that a run which ends here will not have, without scores."""
        return [
            {"step": step, "epoch": step / self.steps_per_epoch, "dataset": name, "scale": scale}
            for step in self.eval_steps
            if step > self.step
            for name, scale in self.config.scored
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
        self._forget_others({data: data_hash(data) for data in self.config.eval_sets})
        pairs = [
            (name, scale, list(prepare(load_images(name), scale)))
            for name, scale in self.config.scored
        ]
        # Every stop to look at the losses makes a GPU wait; a CPU is never ahead of Python.
        stride = min(100, -(-self.steps_per_epoch // 4)) if self.device.type == "cuda" else 1
        saved, entered, load = monotonic(), None, OtherLoad()
        while not self.finished:
            epoch, place = divmod(self.step, self.steps_per_epoch)
            if epoch != entered:
                self.begin(epoch, place)
                entered = epoch
            upcoming = next(step for step in self.eval_steps if step > self.step)
            n = min(stride, self.steps_per_epoch - place, upcoming - self.step)
            start = monotonic()
            self.advance(n)
            losses = self.measures[0, place : place + n].cpu().numpy()
            self.seconds += monotonic() - start
            self._check(losses)
            self.step += n
            if self.step == upcoming:
                self._score(place + n, pairs)
            late = deadline is not None and monotonic() > deadline
            if late or self.finished or monotonic() - saved > self.save_seconds:
                before = self.record.get("others", 0.0)
                self.record["others"] = max(before, round(load.cores, 3))
                self._save()
                saved, load = monotonic(), OtherLoad()
            if progress is not None:
                scored = {
                    f"{r['dataset']} ×{r['scale']:g}": f"{r['psnr']:.2f} dB"
                    for r in self.history[len(self.history) - len(pairs) :]
                }
                progress.set_postfix(
                    loss=f"{losses.mean():.3g}", lr=f"{self.rate:.0e}", **scored, refresh=False
                )
                progress.update(n)
            if late and not self.finished:
                raise OutOfTime(f"stopped at step {self.step} of {self.total_steps}")

    def rescore(self):
        """Score a finished network on what its history lacks of the config's image sets.

        What was scored on a folder that has changed since then is lacking, too.
        """
        before, now = dict(self.images), {}
        for name in self.config.eval_sets:
            with suppress(OSError, ValueError):  # a folder that is gone keeps its scores
                now[name] = data_hash(name)
        self._forget_others(now)
        known = {(r["dataset"], r["scale"]) for r in self.history if r["step"] == self.step}
        missing = [(n, s, prepare(load_images(n), s)) for n, s in self.config.scored
                   if (n, s) not in known]  # fmt: skip
        if missing:
            self._score(None, missing)
        if missing or self.images != before:
            self._save()

    def _forget_others(self, now):
        """Remove the scores of image sets whose contents, by hash, are others now."""
        changed = {name for name in now if self.images.get(name, now[name]) != now[name]}
        self.history = [row for row in self.history if row["dataset"] not in changed]
        self.images |= now

    def _buffers(self):
        """Return the tensors of optimisers and averages by name."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        averages = zip(names.values(), self.averages, strict=False)
        return {f"average.{name}": tensor for name, tensor in averages} | {
            f"optimizer.{key}.{names[parameter]}": tensor
            for optimizer in self.optimizers
            for parameter, state in optimizer.state.items()
            for key, tensor in state.items()
        }

    def _schedule(self, step):
        """Set the learning rates of a step."""
        factor = self.config.rate_factor(step, self.steps_per_epoch)
        if factor == self.factor:
            return
        self.factor = factor
        set_rates(self.optimizers, factor)
        if self.config.schedule != "cosine":
            self._run = None  # a captured step has the learning rate built in

    def begin(self, epoch, place):
        """Enter an epoch: its learning rate, its order, and how many of its steps are done."""
        self._schedule(epoch * self.steps_per_epoch + place)
        # A run that goes on from another draws other patches, even if their seeds are the same.
        seed = self.config.seed ^ int(self.config.start or "0", 16)
        order = self.patches.epoch_order(seed, epoch)
        self.order.copy_(order[: self.order.numel()].view(self.order.shape))
        self.cursor.fill_(place)

    def advance(self, n):
        """Take n steps of the epoch that has been entered."""
        if self.device.type != "cuda":
            for i in range(n):
                self._schedule(self.step + i)
                self.one_step()
            return
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for i in range(n):
                self._schedule(self.step + i)
                if self._run is not None:
                    self._run()
                    continue
                with warnings.catch_warnings():  # it is captured right after this step
                    warnings.filterwarnings("ignore", "This instance was constructed with capt")
                    self.one_step()  # kernels choose their algorithms outside the capture
                if Trainer.captures:
                    self._run = self._capture()
        current.wait_stream(self._stream)

    def _capture(self):
        """Return the whole step as one CUDA graph, or None where capture fails, once for all."""
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                self.one_step()
            return graph.replay
        except RuntimeError as error:
            warnings.warn(f"CUDA graph capture failed, training runs slower: {error}", stacklevel=2)
            Trainer.captures = False
            return None

    def one_step(self):
        """Take one step at the learning rate that is set: batch, gradients, clipping, update."""
        with ieee_float32(), one_thread() if self.winograd else nullcontext():
            hr, ilr = self.patches.batch(self.order[self.cursor][0])
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            if self.winograd:
                loss = self._shared_gradients(hr, ilr)
            else:
                loss = self.loss(hr, ilr)
                loss.backward()
            rate = self.optimizers[0].param_groups[0]["lr"]  # a number, or on the device
            clipped = clip_(self.parameters, self.config.clipping, self.config.theta, rate)
            for optimizer in self.optimizers:
                optimizer.step()
            measured = torch.stack([loss.detach(), clipped])[:, None]
            if self.averages:
                with torch.no_grad():  # or each step would be remembered for a gradient
                    torch._foreach_lerp_(self.averages, self.parameters, 1 - self.config.average)
            self.measures.index_copy_(1, self.cursor, measured)
            self.cursor += 1

    def loss(self, hr, ilr):
        """Return the loss of a batch: hr and ilr in [0, 1], (N, 1, H, W), to a scalar tensor."""
        with torch.autocast(self.device.type, torch.bfloat16, self.bf16, cache_enabled=False):
            sr = self.model(ilr)
        cut = (hr.shape[-1] - sr.shape[-1]) // 2
        hr = hr[..., cut : cut + sr.shape[-2], cut : cut + sr.shape[-1]]
        return _error(self.config.error, hr - sr) / self.pixels

    def _shared_gradients(self, hr, ilr):
        """Set the gradients and return the loss; each thread sees to some of the patches."""

        def part(*patches):
            loss = self.loss(*patches)
            return loss.detach(), torch.autograd.grad(loss, self.parameters)

        shares = (each.tensor_split(self._threads) for each in (hr, ilr))
        with winograd.used(self.model):
            losses, gradients = zip(*self._map(part, *shares), strict=True)
        for parameter, parts in zip(self.parameters, zip(*gradients, strict=True), strict=True):
            parameter.grad = torch.stack(parts).sum(0)
        return torch.stack(losses).sum()

    def _check(self, losses):
        """Raise if a loss, or what the last update left, is not finite: it must not be saved."""
        tensors = (*self.parameters, *self._buffers().values())
        sums = torch.stack([t.detach().sum() for t in tensors])
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size or not sums.isfinite().all():
            step = self.step + (bad[0] + 1 if bad.size else len(losses))
            raise FloatingPointError(
                f"the loss or the weights are no longer finite at step {step} with learning "
                f"rate {self.rate:g}; a smaller theta or learning_rate may help"
            )

    def _score(self, place, pairs):
        """Add a row for each evaluation set and scale; `place` steps of the epoch are done."""
        loss = clipped = None
        if place is not None:
            loss, clipped = self.measures[:, :place].mean(1).tolist()
            loss *= self.pixels / (self.config.batch_size * self.out_pixels)
        self.model.eval()
        for name, scale, images in pairs:
            with self._averaged():
                rows = score(self.model, images, scale)
            self.history.append(
                {
                    "step": self.step, "epoch": self.step / self.steps_per_epoch,
                    "train_loss": loss, "clipped": clipped, "dataset": name, "scale": scale,
                    "psnr": float(np.mean([r["psnr"] for r in rows])),
                    "ssim": float(np.mean([r["ssim"] for r in rows])),
                }
            )  # fmt: skip
        self.model.train()

    @contextmanager
    def _averaged(self):
        """Let the averages, if there are any, take the place of the weights in a block."""
        weights = [p.detach().clone() for p in self.parameters[: len(self.averages)]]
        self._set(self.averages)
        try:
            yield
        finally:
            self._set(weights)

    @torch.no_grad()
    def _set(self, weights):
        for parameter, weight in zip(self.parameters, weights, strict=False):
            parameter.copy_(weight)

    def _save(self):
        with self._averaged() if self.finished else nullcontext():
            tensors = {f"model.{k}": v.clone() for k, v in self.model.state_dict().items()}
        if not self.finished:
            tensors |= self._buffers() | {"measures": self.measures}
        save_checkpoint(self.checkpoint, tensors, self.state())

    def _restore(self):
        tensors, metadata = load_state(self.checkpoint, self.identity)
        self.step, self.seconds = metadata["step"], metadata["seconds"]
        self.history, self.record = metadata["history"], metadata["record"]
        self.images = metadata.get("images", {})  # which older checkpoints lack
        wanted = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if not self.finished:
            wanted |= self._buffers() | {"measures": self.measures}
        faults = _misfits(tensors, wanted)
        if not 0 <= self.step <= self.total_steps or metadata["finished"] != self.finished:
            faults = [f"step {self.step}", *faults]
        if faults:
            raise DamagedFile(f"{self.checkpoint} is damaged: {faults[0]} does not fit its run")
        self.model.load_state_dict(model_weights(tensors))
        if self.finished:
            self.averages = []  # which the weights are now
        else:
            self.measures.copy_(tensors["measures"])
            for name, buffer in self._buffers().items():
                buffer.copy_(tensors[name])


def load_state(path, identity):
    """Return tensors and metadata of a run's file, as `Trainer.state` has left it.

    Parameters
    ----------
    path : path-like
    identity : str
        The run's.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be opened.
    vdsr.files.DamagedFile
        If it is damaged, another run's, or of another form.
    """
    tensors, metadata = load_checkpoint(path)
    if metadata.get("run") != identity:
        raise DamagedFile(
            f"{path} is the checkpoint of run {metadata.get('run')}, not of {identity}"
        )
    forms = {"step": int, "seconds": (int, float), "tflop": (int, float), "history": list,
             "images": dict, "finished": bool, "record": dict, "config": dict}  # fmt: skip
    for name, form in forms.items():
        if not isinstance(metadata.get(name, {} if name == "images" else None), form):
            raise DamagedFile(f"{path} is damaged: its {name} is {metadata.get(name)!r:.60}")
    for row in metadata["history"]:
        if not (isinstance(row, dict) and {"step", "epoch", "dataset", "scale"} <= row.keys()):
            raise DamagedFile(f"{path} is damaged: its history has a row {row!r:.60}")
    return tensors, metadata


def first_weights(config, folder):
    """Return the state dict that a run goes on from, and the record of where that comes from.

    Parameters
    ----------
    config : TrainConfig
        With a `start`.
    folder : pathlib.Path
        Of checkpoints.

    Returns
    -------
    tensors : dict of str to Tensor
        As deep as the config's network.
    record : dict

    Raises
    ------
    NotReady
        If the other run has not ended there, or diverged, or its file is damaged.
    ValueError
        If its network is of another kind, or deeper.
    """
    start = config.start
    tensors, metadata = load_checkpoint(PRETRAINED)
    if metadata.get("run") != start:
        tensors, metadata = _load_finished(config, folder / f"{start}.safetensors")
    of = metadata["config"]
    kind = ("width", "residual", "bias", "dilation") if config.architecture == "VDSR" else ()
    for name in ("architecture", *kind):
        if of[name] != getattr(config, name):
            raise ValueError(
                f"{name} must be {of[name]!r}, as in run {start}, from which training is to go "
                f"on; got {getattr(config, name)!r}"
            )
    if kind and config.depth < of["depth"]:
        raise ValueError(
            f"depth must be at least {of['depth']}, as in run {start}, from which training is to "
            f"go on; got {config.depth}"
        )
    fitting = TrainConfig(**{name: of[name] for name in ("architecture", "depth", *kind)}).network()
    if faults := _misfits(tensors, fitting.state_dict()):
        raise NotReady(
            f"run {start}, from which training is to go on, is damaged: {faults[0]} does not fit "
            f"it; train it again with refresh=True"
        )
    return deepened(tensors, config.depth) if kind else tensors, metadata["record"]


def _load_finished(config, path):
    """Return weights and metadata of the finished run that a config's run is to go on from."""
    what = f"run {config.start}, from which {run_id(config)} is to go on,"
    try:
        tensors, metadata = load_state(path, config.start)
    except FileNotFoundError:
        tensors, metadata = {}, {"finished": False}
    except DamagedFile as error:
        raise NotReady(
            f"{what} cannot be read: {error}; remove that file, and train the run again"
        ) from error
    if metadata["finished"]:
        return model_weights(tensors), metadata
    if path.with_suffix(".diverged").exists():
        raise NotReady(f"{what} diverged; give another start")
    raise NotReady(
        f"{what} has not ended in {path.parent}: train it first, with refresh=True if it is "
        f"recorded"
    )


def _misfits(tensors, wanted):
    """Return the names of tensors that are missing, too many, of another form, or not finite."""
    return sorted(wanted.keys() ^ tensors.keys()) or [
        name
        for name, tensor in sorted(tensors.items())
        if (tensor.shape, tensor.dtype) != (wanted[name].shape, wanted[name].dtype)
        or not tensor.isfinite().all()
    ]


def model_weights(tensors):
    """Return a network's own state dict from the tensors of its run's checkpoint."""
    prefix = "model."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _error(kind, difference):
    """Return half the squared error, the absolute one, or one between the two, summed."""
    if kind == "squared":
        return difference.square().sum() / 2
    if kind == "charbonnier":
        return (difference.square() + CHARBONNIER**2).sqrt().sum()
    return difference.abs().sum()
