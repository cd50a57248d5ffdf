"""Working through the missing runs, in order of value, and showing what is recorded."""

import sys
from time import monotonic

from . import benchmark, paper, runs
from .experiments import STUDIES, depth
from .train import OutOfTime

# Notebooks without a study of their own.
EXTRA_PAGES = "pictures", "upscale_your_photo"


def run(names, preset, hours=None):
    """Train and record the missing runs of some studies.

    Parameters
    ----------
    names : sequence of str
        Keys of `vdsr.experiments.STUDIES`.
    preset : str
    hours : float, optional
        Time limit; the run in progress keeps its state and goes on next time.

    Returns
    -------
    int
        Exit status: 0 when nothing is missing, 1 when something still is.
    """
    deadline = None if hours is None else monotonic() + 3600 * hours
    if runs.commit()[1]:
        print(
            "vdsr/ has changes that are not committed, so that no result could be recorded. "
            "Commit them first.",
            file=sys.stderr,
        )
        return 1
    # One seed of every study comes before a second of any.
    configs = sorted((c for n in names for c in STUDIES[n](preset)), key=lambda c: c.seed)
    queue = {runs.run_id(c): c for c in configs}  # what several studies share is done once
    known = set(runs.ledger()[0].run)
    missing = {k: c for k, c in queue.items() if k not in known}
    done = len(queue) - len(missing)
    print(f"{preset}: {done} runs recorded, {len(missing)} missing", flush=True)
    work = seconds = 0
    while missing:
        identity, config = next(iter(missing.items()))
        try:
            run = runs.attempt(config, deadline=deadline, refresh=runs.is_dirty(identity))
        except OutOfTime as stop:
            print(f"{identity} {stop}; the same command goes on from there", flush=True)
            return 1
        runs.record(run, preset)
        del missing[identity]
        work += cost(config)
        seconds += run.record["seconds"]
        last = run.history[run.history.step == run.history.step.max()]
        scores = ", ".join(f"{r.dataset} ×{r.scale:g} {r.psnr:.2f} dB" for r in last.itertuples())
        rest = sum(map(cost, missing.values())) / work * seconds / 3600
        print(
            f"{identity} depth {config.depth}, seed {config.seed}: {run.diverged or scores}; "
            f"{len(missing)} missing, about {rest:.1f} hours at this speed",
            flush=True,
        )
    if "benchmark" in names:
        benchmark.scores(preset, record=True, deadline=deadline)
        if deadline is not None and monotonic() > deadline:
            print("the benchmark's scores are not complete; the same command goes on from there")
            return 1
    return 0


def cost(config):
    """Return the work of a run in arbitrary units, for guessing how long it takes."""
    weights = sum(p.numel() for p in config.network().parameters())
    return weights * config.epochs * len(config.scales)


def publish():
    """Execute the notebooks on the recorded runs and renew the README's table; return 0.

    A study is shown by the ``paper`` preset as soon as one of its runs is recorded, before
    that by ``cpu``. Nothing is trained.
    """
    import nbformat  # these two are needed here alone, and not by importing the package
    import papermill

    (runs.ROOT / "results" / "notebooks").mkdir(parents=True, exist_ok=True)
    known = set(runs.ledger()[0].run)
    for name in (*STUDIES, *EXTRA_PAGES):
        study = STUDIES.get(name, STUDIES["benchmark"])  # whose scores the pictures show
        begun = any(runs.run_id(config) in known for config in study("paper"))
        parameters = {"preset": "paper" if begun else "cpu", "missing": "skip"}
        notebook = papermill.execute_notebook(
            runs.ROOT / "notebooks" / f"{name}.ipynb",
            None,
            {} if name == "upscale_your_photo" else parameters,
        )
        for part in (notebook, *notebook.cells):  # paths and times of the day of this machine
            part.metadata.pop("papermill", None)
        runs.write_text(
            runs.ROOT / "results" / "notebooks" / f"{name}.ipynb", nbformat.writes(notebook)
        )
    readme = runs.ROOT / "README.md"
    histories = {p: runs.train_all(depth(p), missing="skip") for p in ("cpu", "paper")}
    runs.write_text(readme, paper.with_table(readme.read_text(), histories))
    return 0
