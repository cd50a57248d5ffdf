"""Runs: what is recorded is loaded, what was interrupted goes on, what is missing is trained.

Checkpoints live in ``runs/``, or in the folder that ``VDSR_RUNS_DIR`` names.
"""

import os
import platform
import sys
import threading
from dataclasses import asdict, dataclass, fields
from numbers import Real
from pathlib import Path
from time import monotonic, time

import pandas as pd
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from . import ledger, machine
from .checks import shown, truth
from .config import TrainConfig, run_id
from .files import DamagedFile, replacing, save_checkpoint
from .patches import as_ratio
from .train import OutOfTime, Trainer, load_state, model_weights

HISTORY = [*ledger.COLUMNS["scores"]]
# A step uses all of a process's threads or its GPU, and settings of torch that all threads share.
_training = threading.Lock()


class Busy(RuntimeError):
    """Another process is training the run."""


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes
    ----------
    id : str
        Hash of what decides the weights: config, data and recipe.
    config : TrainConfig
    history : pandas.DataFrame
        One row a step × dataset × scale: run, step, epoch, train_loss (the config's error of
        a pixel in [0, 1], the squared one halved, mean since the epoch began), clipped (share of
        all gradient values, likewise), dataset, scale, psnr (dB), ssim.
    record : dict
        Where the run comes from: commit, torch, device, arithmetic, updates, the seconds of
        training, evaluation not counted, its work in TFLOP, the cores that others kept busy
        (the most of any minute), how it diverged, if it did, and why it cannot be recorded.
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
        if self.diverged:
            raise FileNotFoundError(f"run {self.id} has no network: {self.diverged}")
        try:
            tensors, metadata = load_state(checkpoint(self.id), self.id)
        except FileNotFoundError:
            metadata = {}
        except DamagedFile as error:
            raise DamagedFile(
                f"{error}; vdsr.train(config, refresh=True) trains the run again"
            ) from error
        if not metadata.get("finished"):
            raise FileNotFoundError(
                f"run {self.id} is recorded, but its weights are not on this machine; "
                f"vdsr.train(config, refresh=True) trains them again"
            )
        model = self.config.network()
        model.load_state_dict(model_weights(tensors))
        return model.eval()


def train(config, *, refresh=False, deadline=None):
    """Return a finished run: recorded, found on this machine, or trained now.

    Parameters
    ----------
    config : TrainConfig
        A run that was scored on fewer image sets or scales is scored on the others, too, as it
        is at its end, if its weights are on this machine.
    refresh : bool
        Train again from the start, whatever is recorded or begun. That stays as it is until the
        new training has ended; if it is interrupted, the same call goes on.
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
    vdsr.train.NotReady
        When the run that it goes on from has not ended on this machine.
    """
    run = attempt(config, refresh=refresh, deadline=deadline)
    if run.diverged:
        raise FloatingPointError(run.diverged)
    return run


def attempt(config, *, refresh=False, deadline=None):
    """Do as `train`, but return a run that diverged, too: for studies, that is a result.

    From the divergence on, the scores in its history are not a number.
    """
    truth("refresh", refresh)
    if not isinstance(deadline, (Real, type(None))):
        raise TypeError(
            f"deadline must be a value of time.monotonic(), such as time.monotonic() + 3600, or "
            f"None, got {shown(deadline)}"
        )
    if not refresh and (run := recorded(config)) and not can_add_scores(run, config):
        return run
    return _as_run(config, _end(config, refresh, deadline))


def serve(config, identity, until=None, start=None):
    """Train a run for another process, which need not share this one's folders and ledger.

    Parameters
    ----------
    config : TrainConfig
    identity : str
        The run's identity where it was asked for.
    until : float, optional
        Value of `time.time` at which to save the state and stop.
    start : bytes, optional
        The file of the run that it goes on from, to be kept here unless that has ended here.

    Returns
    -------
    suffix : str
        Of the file that the run has ended in.
    data : bytes
        That file, for `receive`: rows, record and weights, with a digest of them all.

    Raises
    ------
    ValueError
        If the run is another one here, or its code cannot be named.
    OutOfTime, Busy, vdsr.train.NotReady
        As `train` does.
    """
    with _training:
        if run_id(config) != identity:
            raise ValueError(
                f"run {identity} is {run_id(config)} on {platform.node()}: its images "
                f"{config.train_set} or its version of vdsr differ; copy them from the client"
            )
        if trouble := machine.commit()[1]:
            raise ValueError(f"no run of {platform.node()} could be recorded: {trouble}")
        left = None if until is None else until - time()
        if left is not None and left < 0:
            raise OutOfTime("was not begun in time")
        deadline = None if left is None else monotonic() + left
        if start is not None and not _load(checkpoint(config.start))[1].get("finished"):
            with replacing(checkpoint(config.start)) as part:
                part.write_bytes(start)
        state = _end(config, in_trouble(config), deadline)
        path = checkpoint(identity)
        path = path.with_suffix(".diverged") if "diverged" in state else path
        return path.suffix, path.read_bytes()


def receive(config, identity, suffix, data):
    """Return a run that `serve` has trained elsewhere, and keep its file as if trained here.

    Parameters
    ----------
    config : TrainConfig
    identity : str
        The run's, as `serve` was given it: a folder of images may be another one by now.
    suffix, data
        From `serve`.

    Raises
    ------
    vdsr.files.DamagedFile
        If the data are not what was sent, or another run's.
    """
    path = checkpoint(identity).with_suffix(suffix)
    with replacing(path) as part:
        part.write_bytes(data)
        what = f"what arrived is not the end of run {identity}"
        try:
            _, state = load_state(part, identity)
        except DamagedFile as error:
            raise DamagedFile(f"{what}: {error}") from error
        if not _ended(state):
            raise DamagedFile(what)
    if "diverged" not in state:
        path.with_suffix(".diverged").unlink(missing_ok=True)  # of an earlier training
    return _as_run(config, state)


def has_ended(config):
    """Return whether a run's end is on this machine, so that nothing is left to be trained."""
    path = checkpoint(run_id(config))
    return any(_ended(_load(each)[1]) for each in (path.with_suffix(".diverged"), path))


def _ended(state):
    return "diverged" in state or bool(state.get("finished"))


def _end(config, refresh, deadline):
    """Return the state that a run ends in, which its file holds: loaded, or trained to now."""
    path = checkpoint(run_id(config))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"runs cannot be kept in {path.parent}: {error.strerror}; let VDSR_RUNS_DIR name a "
            f"folder of yours"
        ) from error
    try:
        lock = FileLock(path.with_suffix(".lock")).acquire(timeout=0)
    except Timeout:
        raise Busy(f"run {path.stem} is being trained by another process") from None
    with lock:
        ended = path.with_suffix(".diverged")  # beside the last good checkpoint
        again = path.with_suffix(".again")
        if _load(again)[1].get("finished"):  # and was killed before it took its place
            _replace(path, ended, again)
            return _go_on(config, path, ended, deadline)
        if refresh:
            return _train_again(config, path, ended, again, deadline)
        if again.exists() and not path.exists() and not ended.exists():
            os.replace(again, path)  # begun where there was nothing to be kept
        if ended.exists():
            try:
                return load_state(ended, path.stem)[1]
            except DamagedFile as error:
                _set_aside(ended, error)
        return _go_on(config, path, ended, deadline)


def _train_again(config, path, ended, again, deadline):
    """Train a run from the start beside what is there of it, which its end then replaces."""
    trouble = machine.commit()[1]
    if config.start:
        trouble = trouble or _record(checkpoint(config.start)).get("trouble")
    if _record(again).get("trouble") and not trouble:  # which a new start would not have
        again.unlink()
    state = _go_on(config, again, ended, deadline)
    if "diverged" not in state:
        _replace(path, ended, again)
    elif again.exists():
        os.replace(again, path)
    else:  # it diverged before its first checkpoint
        path.unlink(missing_ok=True)
    return state


def _replace(path, ended, again):
    """Let what was trained again take its place; a kill in between leaves it to be found."""
    ended.unlink(missing_ok=True)
    os.replace(again, path)


def _record(path):
    return _load(path)[1].get("record", {})


def _as_run(config, state):
    """Return a run from the state that it ended in, which knows on what images it was trained."""
    identity = state["run"]
    history = pd.DataFrame(state["history"], columns=HISTORY[1:])
    history.insert(0, "run", identity)
    record = state["record"] | {
        "updates": state["step"], "seconds": round(state["seconds"], 3),
        "tflop": state["tflop"], "diverged": state.get("diverged", ""),
    }  # fmt: skip
    return Run(identity, config, history, record)


def _go_on(config, path, ended, deadline):
    """Train a run to its end from wherever it is; return the state that it ends in."""
    try:
        trainer = Trainer(config, path)
    except DamagedFile as error:
        _set_aside(path, error)
        trainer = Trainer(config, path)
    if trainer.finished:
        trainer.rescore()
        return trainer.state()
    trainer.record |= _provenance(trainer)
    with tqdm(
        total=trainer.total_steps, initial=trainer.step, file=_terminal(), disable=None,
        desc=config.label, unit="step", dynamic_ncols=True,
    ) as progress:  # fmt: skip
        try:
            trainer.fit(progress=progress, deadline=deadline)
        except FloatingPointError as error:
            history = trainer.history + trainer.unscored()
            state = trainer.state() | {"diverged": str(error), "history": history}
            save_checkpoint(ended, {}, state)
            return state
    return trainer.state()


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
        The rows of `Run.history`, with the run's settings as further columns, and the seconds
        and the work in TFLOP of training up to each row, in proportion to the whole; what the run
        went on from counts, and they are not a number where that is not known. Without rows if
        there is none. The scores of a run that diverged are not a number from there on.

    Raises
    ------
    TypeError
        If `refresh` is not True or False.
    ValueError
        For another `missing`, or if it is "skip" and `refresh` True.
    """
    if not isinstance(missing, str) or missing not in ("train", "skip"):
        raise ValueError(f"missing must be 'train' or 'skip', got {shown(missing)}")
    truth("refresh", refresh)
    if refresh and missing == "skip":
        raise ValueError("with missing='skip' nothing is trained: leave out refresh=True")
    if isinstance(configs, TrainConfig):
        raise TypeError("configs must be several, in a list; vdsr.train takes a single one")
    names = [field.name for field in fields(TrainConfig) if not field.metadata.get("scoring")]
    tables = []
    for config in configs:
        run = recorded(config) if missing == "skip" else attempt(config, refresh=refresh)
        if run is None:
            continue
        cells = {name: ledger.cell(getattr(run.config, name)) for name in names}
        share = run.history.step / max(run.record["updates"], 1)
        work = {k: share * run.record[k] + _before(config, k) for k in ("seconds", "tflop")}
        tables.append(run.history.assign(**work, **cells))
    if tables:
        return pd.concat(tables, ignore_index=True)
    return pd.DataFrame(columns=[*HISTORY, "seconds", "tflop", *names])


def _before(config, what):
    """Return the seconds or the work of all that a run went on from, or not a number."""
    known, total = ledger.read()[0].set_index("run"), 0.0
    start = config.start
    while start:
        if start in known.index:
            total, start = total + known[what][start], known.start[start]
        else:  # never recorded, but perhaps made here
            state = _load(checkpoint(start))[1]
            total += state.get(what, float("nan"))
            start = state.get("config", {}).get("start")
    return total


def recorded(config):
    """Return a run as the ledger has it, or None."""
    runs, scores = ledger.read()
    identity = run_id(config)
    if not (runs.run == identity).any():
        return None
    row = runs[runs.run == identity].iloc[0].to_dict()
    left_out = {*asdict(config), "run", "preset", "scores"}
    record = {k: row[k] for k in ledger.COLUMNS["runs"] if k not in left_out}
    history = scores[scores.run == identity].reset_index(drop=True)
    return Run(identity, config, history, record | {"trouble": ""})


def network_here(config):
    """Return a recorded run's network if its weights are on this machine, and None otherwise.

    A run that diverged has none.
    """
    run = recorded(config)
    return run.model if run and not run.diverged and has_ended(config) else None


def can_add_scores(run, config):
    """Return whether a run's end lacks scores that a config asks for, and its weights are here."""
    last = run.history[run.history.step == run.history.step.max()]
    # The ledger has six digits of a scale, of 10/3, say.
    known = {(name, as_ratio(scale)) for name, scale in zip(last.dataset, last.scale, strict=True)}
    lacks = not {(name, as_ratio(scale)) for name, scale in config.scored} <= known
    return lacks and bool(_load(checkpoint(run.id))[1].get("finished"))


def in_trouble(config):
    """Return whether a run was begun here by code that cannot be named."""
    path = checkpoint(run_id(config))
    return any(_record(each).get("trouble") for each in (path.with_suffix(".diverged"), path))


def checkpoint(identity):
    """Return the path of a run's checkpoint."""
    folder = Path(os.environ.get("VDSR_RUNS_DIR") or machine.ROOT / "runs").expanduser()
    return folder / f"{identity}.safetensors"


def _load(path):
    """Return a checkpoint's tensors and metadata, empty if there is none or it is damaged."""
    try:
        return load_state(path, path.stem)
    except (FileNotFoundError, DamagedFile):
        return {}, {}


def _set_aside(path, error):
    """Rename a damaged file, which only the one that holds the run's lock may do."""
    aside = path.with_name(path.name + ".damaged")
    os.replace(path, aside)
    print(f"{error}. It is now {aside.name}, and the run does without it.", file=sys.stderr)


def _provenance(trainer):
    """Return where a run comes from; a resumed one keeps what its earlier parts came from."""
    name, trouble = machine.commit()
    now = {
        "commit": name, "torch": torch.__version__, "device": machine.device_name(trainer.device),
        "arithmetic": trainer.arithmetic,
    }  # fmt: skip
    before = trainer.record
    joined = {}
    for key, value in now.items():
        origins = before[key].split(" then ") if key in before else []
        joined[key] = " then ".join(origins if origins[-1:] == [value] else [*origins, value])
    return joined | {"trouble": before.get("trouble") or trouble}


def _terminal():
    """Return the terminal, even inside a notebook kernel, which takes over standard error."""
    copy = getattr(sys.stderr, "_original_stdstream_copy", None)  # ipykernel's
    return sys.stderr if copy is None else os.fdopen(os.dup(copy), "w")
