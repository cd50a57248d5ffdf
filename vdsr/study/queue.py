"""Working through the missing runs, in order of value, here or on other machines as well."""

import sys
from concurrent.futures import CancelledError, as_completed
from dataclasses import replace
from functools import partial
from math import gcd
from time import monotonic, time

from .. import ledger, machine, runs
from ..config import run_id
from ..train import NotReady, OutOfTime
from .cost import amount, forecast, missing, to_train, work
from .studies import STUDIES


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
    studies = [STUDIES[name] for name in names]
    chosen = [config for study in studies for config in study.runs(preset)]
    chosen += [config for study in studies for config in study.others(preset)]
    # From one start, other seeds would not be independent. And a start at a rate that is not
    # lowered is the first half of another's training, which alone answers nothing.
    starts = {config.start for config in chosen}
    halves = {run_id(c) for c in chosen if c.schedule == "constant"} & starts
    repeated = [c for c in chosen if c.seed == 0 and not c.start and run_id(c) not in halves]
    chosen += [replace(c, seed=seed) for seed in range(1, seeds) for c in repeated]
    return {run_id(c): replace(c, **scoring[run_id(replace(c, seed=0))]) for c in chosen}


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
    machine.keep_memory()
    deadline = None if hours is None else monotonic() + 3600 * hours
    if trouble := machine.commit()[1]:
        print(f"No result could be recorded: {trouble}.", file=sys.stderr)
        return 1
    queue = asked(names, preset, seeds)
    left = missing(queue)
    expected = forecast if executor is None else amount  # others may be faster than this machine
    print(f"{preset}: {len(queue) - len(left)} runs recorded, {len(left)} missing", flush=True)
    if left:
        print(expected(to_train(left)), flush=True)
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
        except NotReady as stop:
            print(stop, flush=True)
            continue
        except ledger.DamagedLedger:  # in which nothing could be recorded
            raise
        except Exception as error:
            print(f"{identity} {config.label} failed: {error}", file=sys.stderr, flush=True)
            continue
        try:
            ledger.record(finished, preset)
        except ledger.DamagedLedger:
            raise
        except ValueError as error:
            print(error, file=sys.stderr, flush=True)
            continue
        del left[identity]
        last = finished.history[finished.history.step == finished.history.step.max()]
        scores = ", ".join(f"{r.dataset} ×{r.scale:g} {r.psnr:.2f} dB" for r in last.itertuples())
        rest = f"; {expected(to_train(left))}" if left else ""
        print(
            f"{identity} {config.label}: {finished.diverged or scores}; {len(left)} missing{rest}",
            flush=True,
        )
    if busy:
        print(f"left to other processes: {busy}; the same command looks for them again")
    complete = not left
    for name in names:
        measure = STUDIES[name].measure
        if not measure or left.keys() & asked([name], preset):
            continue
        if not measure(preset, deadline):
            print(f"{name} is not measured completely; the same command goes on from there")
            complete = False
    return 0 if complete else 1


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
    waiting, futures = {i: c for i, c in left.items() if i not in ended}, {}

    def submit(identity):
        config, start = waiting.pop(identity), None
        if config.start and (path := runs.checkpoint(config.start)).exists():
            start = path.read_bytes()
        futures[executor.submit(_served, config, identity, until, start)] = identity

    def go_on_from(identity):  # which is here now, or has failed
        for following in [i for i, c in waiting.items() if c.start == identity]:
            submit(following)

    for identity in [i for i, c in waiting.items() if c.start not in left]:
        submit(identity)
    for identity in ended:  # it lacks scores at most, and its weights are here
        yield identity, partial(_attempt, left[identity], deadline)
        go_on_from(identity)
    while futures:
        future = next(as_completed(futures))
        identity = futures.pop(future)
        yield identity, partial(_received, left[identity], identity, future)
        go_on_from(identity)


def _served(config, identity, until, start):
    """Return what `runs.serve` does, or what stopped the run: a worker would report a failure."""
    machine.keep_memory()
    try:
        return runs.serve(config, identity, until, start)
    except (OutOfTime, runs.Busy, NotReady) as stop:
        return stop


def _received(config, identity, future):
    try:
        answer = future.result()
    except CancelledError:
        raise ConnectionError("its workers' scheduler has ended") from None
    if isinstance(answer, Exception):
        raise answer
    return runs.receive(config, identity, *answer)


def overview(names, preset, seeds=1):
    """Return a table of what some studies have recorded, what is missing, and what that costs."""
    left = missing(asked(names, preset, seeds))
    lines = [f"{'study':26}{'recorded':>9}{'missing':>9}{'TFLOP':>9}"]
    for name in names:
        mine = asked([name], preset, seeds)
        gaps = {identity: config for identity, config in mine.items() if identity in left}
        total = sum(work(config) for config in to_train(gaps))
        lines.append(f"{name:26}{len(mine) - len(gaps):9}{len(gaps):9}{total:9,.0f}")
    lines.append(
        f"In all, each shared run counted once: {len(left)} missing"
        + (f", {forecast(to_train(left))}." if left else ".")
    )
    return "\n".join(lines)
