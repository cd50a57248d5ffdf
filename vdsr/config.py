"""What is trained, how, and for how long: a training run's config, and its identity."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, field, fields
from math import cos, pi
from numbers import Real
from typing import Literal, get_args

from .checks import shown
from .data import data_hash, dataset_name, without_places
from .files import PRETRAINED, load_checkpoint
from .model import SRCNN, VDSR
from .patches import as_ratio

# Raised when the training code changes its meaning, lest older runs pass for new ones.
RECIPE = 2

ARCHITECTURES = {
    "VDSR": lambda c: VDSR(c.depth, c.width, c.residual, c.dilation, c.bias),
    "SRCNN 9-1-5": lambda c: SRCNN(middle=1),
    "SRCNN 9-5-5": lambda c: SRCNN(middle=5),
}
# Sides of the receptive fields of networks that train without padding, in pixels.
FIELDS = {"SRCNN 9-1-5": 13, "SRCNN 9-5-5": 17}


def _number(default, low, high, *, above=False, **metadata):
    """Return a field that holds a number from `low`, itself excluded if `above`, to `high`."""
    return field(default=default, metadata={"low": low, "high": high, "above": above, **metadata})


def _scoring(default, **metadata):
    """Return a field that decides what is measured, but nothing about the weights."""
    return field(default=default, metadata={"scoring": True, **metadata})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a training run; the defaults are the paper's.

    Sections are those of Kim et al. 2016. Where the paper is silent, the choice is this
    study's own, and the book says how it was made.

    `start` is the identity of a finished run, or ``"pretrained"`` for that of the network that
    comes with the package: its weights are the first ones, in place of random ones, and other
    patches are drawn than it saw. If it has fewer layers, hidden ones are added that change
    nothing at first.

    The last fields say what is scored and when. They decide nothing about the weights, and are
    no part of a run's identity.
    """

    # The network.
    architecture: Literal["VDSR", "SRCNN 9-1-5", "SRCNN 9-5-5"] = "VDSR"  # SRCNN is as published
    depth: int = _number(20, 2, 1000)  # §5.2
    width: int = _number(64, 1, 10_000)  # §3.1
    residual: bool = True  # §3.2
    bias: bool = True  # the authors' released weights have them, the text is silent
    dilation: int = _number(1, 1, 100)  # ours, to widen the field alone
    init: Literal["fan_in", "fan_out", "normal"] = "fan_out"  # §5.2 names He et al., not the fan
    last_scale: float = _number(0.1, 0, 1e6)  # ours: factor on the last layer's initial weights
    start: str | None = field(default=None, metadata={"before": None})  # ours: run to go on from

    # The patches.
    train_set: str = "T91"  # Tables 1 and 2, Figures 3 and 4; "T91+BSD200" in Table 3
    scales: tuple[float, ...] = (2, 3, 4)  # §3.2
    augment: bool = False  # §5.1: rotation and flip, with the 291 images
    shrink: bool = field(default=False, metadata={"before": False})  # ours: see `Patches`
    keep: float = _number(1.0, 0, 1, above=True, before=1.0)  # ours: see `Patches`
    patch_size: int = _number(41, 1, 10_000)  # §3.2
    overlap: int = _number(0, 0, 10_000)  # §3.2: pixels that neighbouring patches share
    batch_size: int = _number(64, 1, 10**9)  # §3.2

    # The schedule, in epochs or in steps.
    epochs: int | None = _number(80, 1, 10**9)  # §5.2
    steps: int | None = _number(None, 1, 10**9)  # ours: the length in steps, where epochs is None
    decay_epochs: int | None = _number(20, 1, 10**9)  # §5.2: the rate is divided by 10 this often
    schedule: Literal["decay", "constant", "cosine"] = "decay"  # §5.2; cosine: half a wave to 0

    # The update.
    optimizer: Literal["sgd", "adam", "muon"] = "sgd"  # §3.2
    learning_rate: float = _number(0.1, 0, 1e38, above=True)  # §5.2
    last_rate: float = _number(1.0, 0, 1e6, above=True)  # factor on the last layer's learning rate
    adam_rate: float = _number(1e-3, 0, 1e6, above=True)  # ours: of what Muon leaves to Adam
    momentum: float = _number(0.9, 0, 0.9999)  # §3.2
    weight_decay: float = _number(1e-4, 0, 1e3)  # §3.2
    average: float = _number(0.0, 0, 0.99999, before=0.0)  # ours: what a mean of weights keeps
    error: Literal["squared", "absolute", "charbonnier"] = "squared"  # §3.2
    loss: Literal["sum", "patch", "pixel"] = "patch"  # ours: what half the squared error is over
    clipping: Literal["adjustable", "value", "norm", "none"] = "adjustable"  # §3.2
    theta: float = _number(1e-4, 0, 1e30, above=True)  # ours: of a step, an entry, the norm
    precision: Literal["auto", "bf16", "float32"] = "auto"  # ours: bf16 where it is faster
    seed: int = _number(0, 0, 2**63 - 1)
    recipe: int = _number(RECIPE, 1, RECIPE)  # of the training code; older ones only show

    # What is scored: no part of the identity.
    eval_sets: tuple[str, ...] = _scoring(("Set5",))
    eval_scales: tuple[float, ...] = _scoring((2, 3, 4))
    eval_epochs: int = _scoring(1, low=0, high=10**9)  # how often; 0 is never
    eval_steps: tuple[int, ...] = _scoring(())  # at these steps as well; the end always is

    def __post_init__(self):
        """Refuse what cannot be trained, before anything is loaded."""
        for each in fields(self):
            object.__setattr__(self, each.name, _checked(each, getattr(self, each.name)))
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"steps must be given if epochs is None, and only then; "
                f"got epochs={self.epochs!r}, steps={self.steps!r}"
            )
        if (self.decay_epochs is None) == (self.schedule == "decay"):
            raise ValueError(
                f"decay_epochs must be given for schedule 'decay', and be None for others; "
                f"got {self.decay_epochs!r} for {self.schedule!r}"
            )
        if self.overlap >= self.patch_size:
            raise ValueError(
                f"overlap must be below patch_size, {self.patch_size}, got {self.overlap!r}"
            )
        if self.optimizer != "sgd" and self.clipping == "adjustable":
            raise ValueError(
                f"clipping must not be 'adjustable' with optimizer {self.optimizer!r}: that is for "
                f"'sgd', whose steps it bounds; give clipping='none'"
            )
        if self.clipping == "adjustable" and self.last_rate != 1:
            raise ValueError(
                f"last_rate must be 1 with clipping 'adjustable', whose bound is for one learning "
                f"rate, got {self.last_rate!r}"
            )
        if self.optimizer == "muon" and (self.architecture != "VDSR" or self.depth < 3):
            raise ValueError(
                f"optimizer must be 'sgd' or 'adam' for {self.label}: "
                f"'muon' needs a VDSR with hidden layers"
            )
        field = FIELDS.get(self.architecture, 1)
        if self.patch_size < field:
            raise ValueError(
                f"patch_size must be at least {field} for {self.architecture}, "
                f"which trains without padding, got {self.patch_size!r}"
            )
        if self.architecture == "VDSR" and 9 * self.width**2 * (self.depth - 2) > 10**9:
            raise ValueError(
                f"width must be smaller for a depth of {self.depth}, got {self.width!r}: that "
                f"would be more than 10**9 weights"
            )
        self.check_rates(1 if self.epochs else self.steps)

    def check_rates(self, steps_per_epoch):
        """Raise a ValueError if float32 cannot hold the learning rates of all steps."""
        largest = self.learning_rate * max(1.0, self.last_rate)
        last = self.rate_factor(self.total_steps(steps_per_epoch) - 1, steps_per_epoch)
        smallest = self.learning_rate * min(1.0, self.last_rate) * last
        bounded = self.clipping == "adjustable"  # by theta over the rate
        if largest > 1e38 or smallest < 1e-30 or self.theta / smallest > 1e30 or (
            bounded and self.theta / largest < 1e-38
        ):  # fmt: skip
            raise ValueError(
                f"learning_rate must stay in the range of float32, and theta over it, too, but "
                f"theta is {self.theta:g}, and it goes from {largest:g} to {smallest:g}; for a "
                f"schedule of 'decay', a larger decay_epochs or a shorter training helps"
            )

    @property
    def label(self):
        """What is trained, in a few words."""
        name = self.architecture if self.architecture != "VDSR" else f"VDSR of depth {self.depth}"
        return f"{name}, seed {self.seed}"

    @property
    def scored(self):
        """The image sets and scales that are scored, as pairs."""
        return [(name, scale) for name in self.eval_sets for scale in self.eval_scales]

    def network(self):
        """Return the network to be trained, its weights not yet initialised."""
        return ARCHITECTURES[self.architecture](self)

    def total_steps(self, steps_per_epoch):
        """Return the length of the training, for an epoch of so many steps."""
        return self.steps if self.epochs is None else self.epochs * steps_per_epoch

    def rate_factor(self, step, steps_per_epoch):
        """Return what the learning rates are multiplied by at a step.

        Kim et al. 2016, §5.2: a tenth every 20 epochs. Half a cosine falls from 1 to 0.
        """
        if self.schedule == "decay":
            return 0.1 ** (step // (self.decay_epochs * steps_per_epoch))
        if self.schedule == "constant":
            return 1.0
        return (1 + cos(pi * step / self.total_steps(steps_per_epoch))) / 2

    def eval_steps_in(self, steps_per_epoch):
        """Return the steps after which the network is scored, ascending, the last among them."""
        total = self.total_steps(steps_per_epoch)
        regular = range(0, total, self.eval_epochs * steps_per_epoch) if self.eval_epochs else ()
        return sorted(step for step in {*regular, *self.eval_steps, total} if 1 <= step <= total)


def run_id(config):
    """Return a run's identity: a hash of what decides its weights, its images among them.

    Where a folder of images is does not count.

    Fields that were added when runs had been recorded carry in ``metadata["before"]`` the value
    that those runs had, which leaves their identities as they are.

    Raises
    ------
    TypeError
        If it is no TrainConfig.
    """
    if not isinstance(config, TrainConfig):
        raise TypeError(f"config must be a vdsr.TrainConfig, got {shown(config)}")
    settings = {
        f.name: getattr(config, f.name)
        for f in fields(config)
        if not f.metadata.get("scoring")
        and not ("before" in f.metadata and f.metadata["before"] == getattr(config, f.name))
    }
    settings["train_set"] = without_places(config.train_set)
    what = [settings, data_hash(config.train_set)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def settings_of(config):
    """Return a config's fields as a dict that JSON keeps."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}


def _checked(each, value):
    """Return a field's value in its own type, or raise a ValueError that names the field."""
    kinds, rules = get_args(each.type), each.metadata
    if value is None and type(None) in kinds:
        return value
    if kinds and isinstance(kinds[0], str):
        if not isinstance(value, str) or value not in kinds:
            raise ValueError(f"{each.name} must be one of {kinds}, got {shown(value)}")
        return value
    if each.name == "start":
        return _start(value)
    if each.type is bool:
        if type(value) is not bool:
            raise ValueError(f"{each.name} must be True or False, got {shown(value)}")
        return value
    if each.type is str:
        return _image_set(each.name, value)
    if kinds and Ellipsis in kinds:
        try:  # texts are no lists, and sets and mappings have no order that is meant
            parts = None if isinstance(value, (str, bytes, Mapping, Set)) else [*value]
        except TypeError:
            parts = None
        if parts is None:
            raise ValueError(f"{each.name} must be a tuple, got {shown(value)}")
        parts = tuple(_element(each.name, kinds[0], one) for one in parts)
        if len({*parts}) < len(parts):
            raise ValueError(f"{each.name} must hold each of its values once, got {shown(value)}")
        if not parts and each.name == "scales":  # while nothing need be scored
            raise ValueError("scales must be factors of at least 1, got ()")
        return parts
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{each.name} must be a number, got {shown(value)}")
    low, high = rules["low"], rules["high"]
    if not low <= value <= high or (rules.get("above") and value == low):  # nor is NaN between
        least = "above" if rules.get("above") else "at least"
        raise ValueError(
            f"{each.name} must be {least} {low:g} and at most {high:g}, got {shown(value)}"
        )
    if each.type is float:
        return float(value) + 0.0  # a zero has no sign: equal configs are one run
    if value != int(value):
        raise ValueError(f"{each.name} must be a whole number, got {shown(value)}")
    return int(value)


def _element(name, kind, value):
    """Return an element of a tuple: equal configs are one run, be a scale 2, 2.0 or 2.001."""
    if kind is str:
        return _image_set(name, value)
    if isinstance(value, bool) or not isinstance(value, Real) or not 1 <= value <= 10**9:
        raise ValueError(f"{name} must be numbers from 1 to 1e+09, got {shown(value)}")
    if kind is int and value != int(value):
        raise ValueError(f"{name} must be whole numbers, got {shown(value)}")
    value = value if kind is int else as_ratio(value)
    return int(value) if value == int(value) else float(value)


def _image_set(name, value):
    """Return what stands for an image set or a folder in a config."""
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(
            f"{name} must be an image set's name or a folder's path, got {shown(value)}; images "
            f"of your own go into a folder first, as PNG files, say"
        )
    return dataset_name(value)


def _start(value):
    """Return a run's identity; what ships is named by its own, which a later one will not have."""
    if not isinstance(value, str) or not re.fullmatch("pretrained|[0-9a-f]{12}", value):
        raise ValueError(
            f"start must be None, 'pretrained' or the identity of a run, as its id says, "
            f"got {shown(value)}"
        )
    return load_checkpoint(PRETRAINED)[1]["run"] if value == "pretrained" else value
