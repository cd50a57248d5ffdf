"""What trainings by other optimisers are called, and how much work they took to reach a PSNR."""

import subprocess
from dataclasses import replace

import pandas as pd

from .. import ledger, machine
from ..config import run_id
from .evidence import SEEDS

# PSNR in dB on Set5 at ×2: SRCNN as the paper prints it, two steps on the way, and VDSR.
TARGETS = 36.66, 37.00, 37.27, 37.53

_ERRORS = {"squared": "squared error", "charbonnier": "Charbonnier error"}
_KEPT = {0.5: "fuller half of patches", 0.25: "fullest quarter of patches"}
_CHANGES = {
    "depth": "{:g} layers throughout".format,
    "batch_size": "batches of {:g}".format,
    "learning_rate": "rate {:g}".format,
    "momentum": "momentum {:g}".format,
    "error": _ERRORS.get,
    "average": lambda value: "weights averaged",
    "schedule": lambda value: "rate not lowered",
    "keep": _KEPT.get,
    "shrink": lambda value: "images shrunk as well",
    "augment": lambda value: "one orientation",
    "adam_rate": "outer layers at {:g}".format,
    "last_scale": lambda value: "last layer from zero",
}
_OPTIMISERS = {"muon": "Muon", "adam": "Adam", "sgd": "SGD with clipping"}


def names(configs):
    """Return what a reader calls each of some trainings: the optimiser, and what is changed.

    Parameters
    ----------
    configs : list of TrainConfig
        The first is what the others change one thing of, or the optimiser with its settings.

    Returns
    -------
    dict of str to str
        By run, and alike for its further seeds; without first halves, which others go on from.
    """
    start, found = configs[0], {}
    before = {run_id(config): config for config in configs}
    halves = set()
    for config in configs:
        changed = [field for field in _CHANGES if getattr(config, field) != getattr(start, field)]
        if "batch_size" in changed:  # to which the rate belongs, and is no change of its own
            changed.remove("learning_rate")
        other = config.optimizer != start.optimizer
        parts = [] if other else [_CHANGES[field](getattr(config, field)) for field in changed]
        if config.start:
            first = before[config.start]
            if first.schedule == "cosine":  # it had ended
                parts = ["trained on"]
            else:
                grown = first.depth < config.depth
                parts += [f"grown from {first.depth} layers" if grown else "in two halves"]
                halves.add(config.start)
        found[config] = ", ".join([_OPTIMISERS[config.optimizer], *parts])
    return {
        run_id(replace(config, seed=seed)): name
        for config, name in found.items()
        if run_id(config) not in halves
        for seed in range(SEEDS)
    }


def records(rows, speed):
    """Return the work after which each training first reached each of `TARGETS`.

    Parameters
    ----------
    rows : pandas.DataFrame
        From `vdsr.study.evidence.Evidence.rows`, of Set5 at ×2, with a column name.
    speed : float
        Of two cores, in TFLOP/s; not a number if it is not known.

    Returns
    -------
    pandas.DataFrame
        A row a training: its name, its commit and the day of that, empty where they are not
        known; then for each target two columns, work in PFLOP and hours of two cores, not a
        number where it was not reached.
    """
    commits = ledger.read()[0].set_index("run").commit
    columns = [("", "training"), ("", "commit"), ("", "day")]
    columns += [(f"{target:.2f} dB", unit) for target in TARGETS for unit in ("PFLOP", "hours")]
    lines = []
    for run, scores in rows.sort_values("step").groupby("run", sort=False):
        commit = commits.get(run, "").split(" then ")[0]
        works = [scores.tflop[scores.psnr >= target].min() for target in TARGETS]
        cells = [cell for work in works for cell in (work / 1000, work / speed / 3600)]
        lines.append([scores["name"].iloc[0], commit, _day(commit), *cells])
    return pd.DataFrame(lines, columns=pd.MultiIndex.from_tuples(columns))


def _day(commit):
    """Return the day of a commit, or nothing where its history is not at hand."""
    try:
        return machine.git("show", "-s", "--format=%cs", commit)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""
