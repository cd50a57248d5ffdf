"""Where the time goes: the shares of a training step, an enlargement and the cutting of patches."""

from collections import Counter
from cProfile import Profile
from pstats import Stats
from tempfile import TemporaryDirectory
from time import perf_counter

from torch.profiler import ProfilerActivity, profile

from .. import data
from ..evaluate import ieee_float32
from ..machine import one_thread
from ..patches import Patches, _cut, degrade_image
from ..upscale import upscale
from . import timings

CONVOLUTIONS = "convolutions of 64 channels"
ENDS = "first and last layer"
RELU = "ReLU"
REST = "the rest"


def _part(name, shapes):
    """Return which part of the work one of torch's operations is."""
    if "bmm" in name:  # the products of Winograd's algorithm
        return CONVOLUTIONS
    if "convolution" in name:
        return CONVOLUTIONS if [64, 64, 3, 3] in shapes else ENDS
    return RELU if name in ("aten::clamp_min_", "aten::threshold_backward") else REST


def _operations(task):
    """Return the shares of a task's time by what torch computes; Python's own is in the rest.

    The task must keep to its thread: torch's profiler sees no other.
    """
    task()  # what is slow once
    start = perf_counter()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as taken:
        task()
    total = perf_counter() - start
    parts = Counter()
    for event in taken.key_averages(group_by_input_shape=True):
        parts[_part(event.key, event.input_shapes)] += event.self_cpu_time_total / 1e6 / total
    shares = {part: parts[part] for part in (CONVOLUTIONS, ENDS, RELU)}
    return shares | {REST: 1 - sum(shares.values())}


def of_step(depth):
    """Return a function that profiles a training step on the CPU, in one thread."""

    def shares():
        with one_thread(), TemporaryDirectory() as folder, ieee_float32():
            trainer = timings._trainer(depth, folder)
            return _operations(lambda: trainer.advance(1))

    return shares


def of_enlarging():
    """Return the shares of enlarging a picture to a megapixel, in one thread."""
    with one_thread():
        small = timings.picture(timings.SIDE, timings.SIDE)
        return _operations(lambda: upscale(small, 2))


def of_patches():
    """Return the shares of cutting all patches by what is called."""
    named = {
        data.load_images: "decoding",
        data.luma: "luminance",
        degrade_image: "bicubic interpolation",
        _cut: "cutting",
    }
    taken = Profile()
    taken.runcall(Patches, *timings.TRAINING_SET, augment=True)
    stats = Stats(taken).get_stats_profile()
    shares = {
        part: stats.func_profiles[function.__name__].cumtime / stats.total_tt
        for function, part in named.items()
    }
    return shares | {REST: 1 - sum(shares.values())}
