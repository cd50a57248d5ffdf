"""Working through the missing runs, in order of value, here or on other machines as well."""

import sys
from concurrent.futures import CancelledError, as_completed
from dataclasses import replace
from functools import cache, partial
from math import gcd
from time import monotonic, time

import torch

from .. import ledger, machine, runs
from ..config import TrainConfig, run_id
from ..data import load_images
from ..model import step_operations
from ..train import OutOfTime, Trainer
from . import table3
from .studies import STUDIES

TERA = 1e12


def asked(names, preset, seeds=1):
    """Return the runs that some studies ask for, in order, each once.

    What several studies share is scored on all that any of them asks for.

    Parameters
    ----------
    names : iterable of str
    preset : str
    seeds : int
        How many seeds of each run, at least. One seed of every study comes before a second.

    Returns
    -------
    dict of str to TrainConfig
        By identity.
    """
    scoring = {}  # by identity of the first seed
    for config in (config for study in STUDIES.values() for config in study.runs(preset)):
        identity = run_id(replace(config, seed=0))
        other = scoring.get(identity, {})
        scoring[identity] = {
            "eval_sets": (*dict.fromkeys((*other.get("eval_sets", ()), *config.eval_sets)),),
            "eval_scales": (*sorted({*other.get("eval_scales", ()), *config.eval_scales}),),
            "eval_epochs": gcd(other.get("eval_epochs", 0), config.eval_epochs),
            "eval_steps": (*sorted({*other.get("eval_steps", ()), *config.eval_steps}),),
        }
    chosen = [config for name in names for config in STUDIES[name].runs(preset)]
    if "benchmark" in names:
        chosen += table3.trained(preset)
    chosen += [replace(c, seed=seed) for seed in range(1, seeds) for c in chosen if c.seed == 0]
    return {run_id(c): replace(c, **scoring[run_id(replace(c, seed=0))]) for c in chosen}


def missing(configs):
    """Return those of some runs, by identity, that are not recorded, or lack scores to be had."""
    known = set(ledger.read()[0].run)
    return {
        identity: config
        for identity, config in configs.items()
        if identity not in known or runs.can_add_scores(runs.recorded(config), config)
    }


def run(names, preset="paper", *, hours=None, seeds=1, executor=None):
    """Train and record the missing runs of some studies.

    Parameters
    ----------
    names : sequence of str
        Keys of `vdsr.study.studies.STUDIES`.
    preset : str
    hours : float, optional
        Time limit; a run in progress keeps its state and goes on next time.
    seeds : int
        How many seeds of each run.
    executor : concurrent.futures.Executor, optional
        What trains the runs, in other processes or on other machines: dask's, say, from
        `vdsr.study.cluster.executor`. They share nothing with this process but the images; rows
        and weights come home and are recorded here. By default this process trains them.

    Returns
    -------
    int
        Exit status: 0 when nothing is missing, 1 when something still is.

    Notes
    -----
    Several processes may work at once, one a GPU, say: each leaves alone what another trains.
    """
    deadline = None if hours is None else monotonic() + 3600 * hours
    if trouble := machine.commit()[1]:
        print(f"No result could be recorded: {trouble}.", file=sys.stderr)
        return 1
    queue = asked(names, preset, seeds)
    left = missing(queue)
    expected = forecast if executor is None else amount  # others may be faster than this machine
    print(f"{preset}: {len(queue) - len(left)} runs recorded, {len(left)} missing", flush=True)
    if left:
        print(expected(left.values()), flush=True)
    busy = 0
    trainings = _here(left, deadline) if executor is None else _on(executor, left, deadline)
    for identity, train in trainings:
        config = left[identity]
        try:
            finished = train()
        except OutOfTime as stop:
            print(f"{identity} {stop}; the same command goes on from there", flush=True)
            if executor is None:
                break
            continue
        except runs.Busy as stop:
            print(stop, flush=True)
            busy += 1
            continue
        except Exception as error:
            if executor is None:
                raise
            # What the other workers do must not be lost.
            print(f"{identity} {config.label} failed: {error}", file=sys.stderr, flush=True)
            continue
        ledger.record(finished, preset)
        del left[identity]
        last = finished.history[finished.history.step == finished.history.step.max()]
        scores = ", ".join(f"{r.dataset} ×{r.scale:g} {r.psnr:.2f} dB" for r in last.itertuples())
        rest = f"; {expected(left.values())}" if left else ""
        print(
            f"{identity} {config.label}: {finished.diverged or scores}; {len(left)} missing{rest}",
            flush=True,
        )
    if busy:
        print(f"left to other processes: {busy}; the same command looks for them again")
    if left:
        return 1
    if "benchmark" in names:
        table3.scores(preset, record=True, deadline=deadline)
        if deadline is not None and monotonic() > deadline and not table3.whole(preset):
            print("the benchmark's scores are not complete; the same command goes on from there")
            return 1
    return 0


def _here(left, deadline):
    """Yield each missing run's identity, and a function that trains it, as its turn comes."""
    for identity, config in list(left.items()):
        if identity not in missing({identity: config}):  # another process was here meanwhile
            del left[identity]
            continue
        yield identity, partial(_attempt, config, deadline)


def _attempt(config, deadline):
    return runs.attempt(config, deadline=deadline, refresh=runs.in_trouble(config))


def _on(executor, left, deadline):
    """Yield each missing run's identity as it ends, and a function that returns the run."""
    until = None if deadline is None else time() + deadline - monotonic()
    ended = [i for i, c in left.items() if runs.has_ended(c) and not runs.in_trouble(c)]
    futures = {
        executor.submit(_served, config, identity, until): identity
        for identity, config in left.items()
        if identity not in ended
    }
    for identity in ended:  # it lacks scores at most, and its weights are here
        yield identity, partial(_attempt, left[identity], deadline)
    for future in as_completed(futures):
        identity = futures[future]
        yield identity, partial(_received, left[identity], future)


def _served(config, identity, until):
    """Return what `runs.serve` does, or what stopped the run: a worker would report a failure."""
    try:
        return runs.serve(config, identity, until)
    except (OutOfTime, runs.Busy) as stop:
        return stop


def _received(config, future):
    try:
        answer = future.result()
    except CancelledError:
        raise ConnectionError("its workers' scheduler has ended") from None
    if isinstance(answer, Exception):
        raise answer
    return runs.receive(config, *answer)


def announce(configs, refresh):
    """Say on a CPU how long some runs will take, before they start."""
    if torch.cuda.is_available():
        return
    left = {run_id(c): c for c in configs}
    left = left if refresh else missing(left)
    if left:
        print(f"{len(left)} runs of the paper's length are missing: {forecast(left.values())}. "
              f"They can be interrupted, and go on from where they were.")  # fmt: skip


def forecast(configs):
    """Return in words how much work some runs are, and how long this machine takes for it."""
    hours = sum(map(work, configs)) / rate() / 3600
    return f"{amount(configs)}, about {hours:,.1f} hours of training on this machine"


def amount(configs):
    """Return in words how much work some runs are."""
    return f"{sum(map(work, configs)):,.0f} TFLOP"


def work(config):
    """Return the floating-point operations of a whole training run, in TFLOP."""
    steps_per_epoch = patches(config) // config.batch_size
    operations = step_operations(config.network(), config.batch_size, config.patch_size)
    return config.total_steps(steps_per_epoch) * operations / TERA


def patches(config):
    """Return the number of patches of an epoch, without cutting them."""
    size, stride = config.patch_size, config.patch_size - config.overlap
    count = 0
    for height, width in _shapes(config.train_set):
        for scale in config.scales:
            sides = (int(n // scale * scale) for n in (height, width))
            rows, columns = (max(0, (n - size) // stride + 1) for n in sides)
            count += rows * columns
    return count * (8 if config.augment else 1)


@cache
def _shapes(dataset):
    return [image.shape[:2] for image in load_images(dataset).values()]


@cache
def rate():
    """Return this machine's rate of training in TFLOP/s: three steps of ten layers, measured."""
    config = TrainConfig(depth=10, scales=(2,), train_set="samples-test", eval_sets=())
    trainer = Trainer(config, machine.ROOT / "runs" / "not kept")
    trainer._begin(0, 0)
    trainer._advance(1)
    start = monotonic()
    trainer._advance(2)
    trainer.measures.sum().item()  # waits for a GPU
    return 2 * trainer.operations / TERA / (monotonic() - start)


def overview(names, preset, seeds=1):
    """Return a table of what some studies have recorded, what is missing, and what that costs."""
    left = missing(asked(names, preset, seeds))
    lines = [f"{'study':26}{'recorded':>9}{'missing':>9}{'TFLOP':>9}"]
    for name in names:
        mine = asked([name], preset, seeds)
        gaps = [config for identity, config in mine.items() if identity in left]
        total = sum(work(config) for config in gaps)
        lines.append(f"{name:26}{len(mine) - len(gaps):9}{len(gaps):9}{total:9,.0f}")
    lines.append(
        f"In all, each shared run counted once: {len(left)} missing"
        + (f", {forecast(left.values())}." if left else ".")
    )
    return "\n".join(lines)
