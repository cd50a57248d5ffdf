"""The ledger: every run has an identity, a checkpoint here, and rows in ``results/``.

A finished run is loaded, an interrupted one continues, a missing one is trained.
Checkpoints live in ``runs/`` (or the folder that ``VDSR_RUNS_DIR`` names); what is to be
kept is recorded in two tidy tables that are part of the project.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, fields
from functools import cache, lru_cache
from io import StringIO
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from .data import data_hash
from .train import TrainConfig, Trainer, load_checkpoint, load_metadata

# Raised when the training code changes its meaning, lest older runs pass for new ones.
RECIPE = 1

HISTORY = ("run", "step", "epoch", "train_loss", "dataset", "scale", "psnr", "ssim")

# The project's folder, if the package is used from a clone; else the one that is worked in.
_CLONE = Path(__file__).parents[1]
ROOT = _CLONE if (_CLONE / "pyproject.toml").exists() else Path.cwd()


class Busy(RuntimeError):
    """Another process is training the run."""


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes
    ----------
    id : str
        Hash of config, data and recipe.
    config : TrainConfig
    history : pandas.DataFrame
        One row a step × dataset × scale: run, step, epoch, train_loss (half the squared error
        of a pixel in [0, 1], mean over the epoch), dataset, scale, psnr (dB), ssim.
    record : dict
        Where the run comes from: commit, dirty, torch, device, arithmetic, steps, the seconds
        of training, evaluation not counted, and how it diverged, if it did.
    """

    id: str
    config: TrainConfig
    history: pd.DataFrame
    record: dict

    @property
    def diverged(self):
        """How the run ended if its loss or weights did not stay finite, else an empty string."""
        return self.record["diverged"]

    @property
    def model(self):
        """The trained network, on the CPU and in evaluation mode."""
        path = _checkpoint(self.id)
        if not load_metadata(path).get("finished"):
            raise FileNotFoundError(
                f"run {self.id} is recorded, but its weights are not on this machine; "
                f"vdsr.train(config, refresh=True) trains them again"
            )
        tensors, _ = load_checkpoint(path)
        model = self.config.network()
        model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items()})
        return model.eval()


def run_id(config):
    """Return the identity of a run: a hash of its config, its data and the recipe."""
    settings = {
        f.name: getattr(config, f.name)
        for f in fields(config)
        if f.metadata.get("before", ...) != getattr(config, f.name)
    }
    names = (config.train_set, *config.eval_sets)
    what = [RECIPE, settings, {name: data_hash(name) for name in names}]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def train(config, *, refresh=False, deadline=None):
    """Return a finished run: recorded, found on this machine, or trained now.

    Parameters
    ----------
    config : TrainConfig
    refresh : bool
        Train again from the start, whatever is recorded or begun.
    deadline : float, optional
        Value of `time.monotonic` at which to save the state and stop.

    Returns
    -------
    Run

    Raises
    ------
    OutOfTime
        When the deadline passes before the end; the next call goes on.
    FloatingPointError
        When the loss stops being finite.
    Busy
        When another process is training the run.
    """
    run = attempt(config, refresh=refresh, deadline=deadline)
    if run.diverged:
        raise FloatingPointError(run.diverged)
    return run


def attempt(config, *, refresh=False, deadline=None):
    """Do as `train`, but return a run that diverged, too: for studies, that is a result.

    From the divergence on, the scores in its history are not a number.
    """
    identity = run_id(config)
    if not refresh and (run := _recorded(identity, config)):
        return run
    path = _checkpoint(identity)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path.with_suffix(".lock")).acquire(timeout=0)
    except Timeout:
        raise Busy(f"run {identity} is being trained by another process") from None
    with lock:
        ended = path.with_suffix(".diverged")  # beside the last good checkpoint
        if refresh:
            path.unlink(missing_ok=True)
            ended.unlink(missing_ok=True)
        if not ended.exists() and not load_metadata(path).get("finished"):
            trainer = Trainer(config, path)
            trainer.record = _provenance(trainer)
            with tqdm(
                total=trainer.total_steps, initial=trainer.step, file=_terminal(), disable=None,
                desc=config.label, unit="step", dynamic_ncols=True,
            ) as progress:  # fmt: skip
                try:
                    trainer.fit(progress=progress, deadline=deadline)
                except FloatingPointError as error:
                    history = trainer.history + trainer.unscored()
                    state = trainer.state() | {"diverged": str(error), "history": history}
                    write_text(ended, json.dumps(state))
        metadata = json.loads(ended.read_text()) if ended.exists() else load_metadata(path)
    history = pd.DataFrame(metadata["history"], columns=HISTORY[1:])
    history.insert(0, "run", identity)
    record = metadata["record"] | {
        "steps": metadata["step"], "seconds": round(metadata["seconds"], 3),
        "diverged": metadata.get("diverged", ""),
    }  # fmt: skip
    return Run(identity, config, history, record)


def train_all(configs, *, refresh=False, missing="train"):
    """Return one tidy table of the histories of many runs.

    Parameters
    ----------
    configs : iterable of TrainConfig
    refresh : bool
        Train all of them again.
    missing : {"train", "skip"}
        Whether runs that are not recorded are found here or trained, or are left out.

    Returns
    -------
    pandas.DataFrame
        The rows of `Run.history`, with the fields of the run's config as further columns, and
        the seconds of training up to each row, in proportion to the whole. Without rows if
        there is none. The scores of a run that diverged are not a number from there on.

    Raises
    ------
    ValueError
        For other values of `refresh` and `missing`.
    """
    if missing not in ("train", "skip"):
        raise ValueError(f"missing must be 'train' or 'skip', got {missing!r}")
    if not isinstance(refresh, bool):
        raise ValueError(f"refresh must be true or false, got {refresh!r}")
    tables = []
    for config in configs:
        if missing == "skip":
            run = _recorded(run_id(config), config)
        else:
            run = attempt(config, refresh=refresh)
        if run is None:
            continue
        cells = {k: _cell(v) for k, v in asdict(run.config).items()}
        seconds = run.history.step * run.record["seconds"] / max(run.record["steps"], 1)
        tables.append(run.history.assign(seconds=seconds, **cells))
    if tables:
        return pd.concat(tables, ignore_index=True)
    names = (field.name for field in fields(TrainConfig))
    return pd.DataFrame(columns=[*HISTORY, "seconds", *names])


def is_dirty(identity):
    """Return whether a run was begun here by code that is not committed."""
    path = _checkpoint(identity)
    ended = path.with_suffix(".diverged")
    state = json.loads(ended.read_text()) if ended.exists() else load_metadata(path)
    return state.get("record", {}).get("dirty", False)


def record(run, preset):
    """Write a run into ``results/runs.csv`` and ``results/scores.csv``.

    Parameters
    ----------
    run : Run
    preset : str
        The preset it belongs to.

    Raises
    ------
    ValueError
        If the run was made by code that is not committed.
    """
    if run.record["dirty"]:
        raise ValueError(
            f"run {run.id} was made by code that is not committed and cannot be recorded; "
            f"commit the changes in vdsr/ and use make study, which trains it again"
        )
    cells = {k: _cell(v) for k, v in asdict(run.config).items()}
    row = pd.DataFrame([{"run": run.id, "preset": preset, **cells, **run.record}])
    (ROOT / "results").mkdir(exist_ok=True)
    with FileLock(ROOT / "results" / ".lock"):
        # A run counts as recorded once it is in runs.csv, so its scores go first.
        for name, rows in (("scores", run.history), ("runs", row)):
            path = ROOT / "results" / f"{name}.csv"
            # All as text, so that rewriting the file changes no digit of an older row.
            rows = pd.read_csv(StringIO(rows.to_csv(index=False, float_format="%.6g")), dtype=str)
            if path.exists():
                old = pd.read_csv(path, dtype=str)
                rows = pd.concat([old[old.run != run.id], rows], ignore_index=True)
            write_text(path, rows.to_csv(index=False, lineterminator="\n"))


def ledger():
    """Return what is recorded as two tables: one row a run, and its scores.

    Returns
    -------
    runs, scores : pandas.DataFrame
        ``results/README.md`` explains the columns.
    """
    paths = [ROOT / "results" / f"{name}.csv" for name in ("runs", "scores")]
    return tuple(_read(p, p.stat().st_mtime_ns if p.exists() else None) for p in paths)


@lru_cache(maxsize=4)
def _read(path, changed):
    if changed is None:
        return pd.DataFrame(columns=["run"])
    return pd.read_csv(path, dtype=dict.fromkeys(("run", "commit", "scales", "eval_scales"), str))


def _recorded(identity, config):
    runs, scores = ledger()
    if not (runs.run == identity).any():
        return None
    row = runs[runs.run == identity].iloc[0].to_dict()
    record = {k: row[k] for k in row if k not in ("run", "preset", *asdict(config))}
    record["diverged"] = record.get("diverged") if isinstance(record.get("diverged"), str) else ""
    history = scores[scores.run == identity].reset_index(drop=True)
    return Run(identity, config, history, record)


def _checkpoint(identity):
    folder = Path(os.environ.get("VDSR_RUNS_DIR") or ROOT / "runs")
    return folder / f"{identity}.safetensors"


def write_text(path, text):
    """Write a file that appears whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _cell(value):
    """Return a config's value as one cell of a table."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else value


def _provenance(trainer):
    """Return where a run comes from; a resumed one keeps what its earlier parts came from."""
    name, dirty = commit()
    now = {
        "commit": name, "dirty": dirty, "torch": torch.__version__,
        "device": device_name(trainer.device), "arithmetic": "bf16" if trainer.bf16 else "float32",
    }  # fmt: skip
    before = trainer.record or now
    joined = {
        k: before[k] if str(before[k]).endswith(str(now[k])) else f"{before[k]} then {now[k]}"
        for k in now
    }
    return joined | {"dirty": before["dirty"] or now["dirty"]}


@cache  # the code that runs is the one that was there when it was first asked
def commit():
    """Return the project's commit and whether the package differs from it.

    Where there is no git, in a copied tree, ``VDSR_COMMIT`` says which commit it is a copy of.
    """
    git, quiet = ["git", "-C", str(ROOT)], {"text": True, "stderr": subprocess.DEVNULL}
    try:
        top = subprocess.check_output([*git, "rev-parse", "--show-toplevel"], **quiet).strip()
        if not os.path.samefile(top, _CLONE):
            raise FileNotFoundError(f"{top} is another project")
        name = subprocess.check_output([*git, "rev-parse", "--short=10", "HEAD"], **quiet)
        status = subprocess.check_output([*git, "status", "--porcelain", "--", "vdsr"], **quiet)
    except (OSError, subprocess.CalledProcessError):  # not a clone
        copied = os.environ.get("VDSR_COMMIT")
        return copied or "unknown", not copied
    return name.strip(), bool(status)


def device_name(device):
    """Return what hardware a torch device, or its name, is."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


def _cpu_name():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _terminal():
    """Return the terminal, even inside a notebook kernel, which takes over standard error."""
    copy = getattr(sys.stderr, "_original_stdstream_copy", None)  # ipykernel's
    return sys.stderr if copy is None else os.fdopen(os.dup(copy), "w")
