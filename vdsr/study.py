"""Working through the missing runs, in order of value, and showing what is recorded."""

import sys
from time import monotonic

import pandas as pd

from . import benchmark, claims, paper, pictures, runs
from .data import load_images
from .evaluate import border_profile
from .experiments import STUDIES, depth
from .train import OutOfTime
from .upscale import load_pretrained

# Notebooks without a study of their own.
EXTRA_PAGES = "resizing", "pictures", "upscale_your_photo"


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


def shown(name):
    """Return the preset that a study is shown by: ``paper`` once a run of it is recorded."""
    known = set(runs.ledger()[0].run)
    begun = any(runs.run_id(config) in known for config in STUDIES[name]("paper"))
    return "paper" if begun else "cpu"


def board():
    """Return the scoreboard of `vdsr.claims`, from what is recorded."""
    evidence = {}
    for name, study in STUDIES.items():
        preset = shown(name)
        if name == "benchmark":
            evidence[name] = preset, benchmark.scores(preset, missing="skip")
        else:
            evidence[name] = preset, runs.train_all(study(preset), missing="skip")
    border = runs.ROOT / "results" / "border.csv"
    if border.exists():
        evidence["border"] = evidence["benchmark"][0], pd.read_csv(border)
    return claims.scoreboard(evidence)


def readme(text):
    """Return the README's text with its tables drawn anew from what is recorded."""
    histories = {p: runs.train_all(depth(p), missing="skip") for p in ("cpu", "paper")}
    table = claims.as_markdown(board(), "results/notebooks/{}.ipynb")
    return paper.replaced(paper.with_table(text, histories), "scoreboard", table)


def publish():
    """Execute the notebooks on the recorded runs, renew the scoreboard and its copies; return 0.

    A study is shown by the ``paper`` preset as soon as one of its runs is recorded, before
    that by ``cpu``. Nothing is trained.
    """
    import nbformat  # these two are needed here alone, and not by importing the package
    import papermill

    results = runs.ROOT / "results"
    (results / "notebooks").mkdir(parents=True, exist_ok=True)
    for name in (*STUDIES, *EXTRA_PAGES):
        preset = shown(name if name in STUDIES else "benchmark")  # whose scores pictures show
        notebook = papermill.execute_notebook(
            runs.ROOT / "notebooks" / f"{name}.ipynb",
            None,
            {} if name == "upscale_your_photo" else {"preset": preset, "missing": "skip"},
        )
        for part in (notebook, *notebook.cells):  # paths and times of the day of this machine
            part.metadata.pop("papermill", None)
        runs.write_text(results / "notebooks" / f"{name}.ipynb", nbformat.writes(notebook))
    network = load_pretrained()
    profile = border_profile(network, load_images("Set5"), 3)
    runs.write_text(results / "border.csv", profile.to_csv(index=False, float_format="%.6g"))
    pictures.write_slider(results / "figures", network)
    table = claims.as_markdown(board(), "notebooks/{}.ipynb")
    runs.write_text(results / "scoreboard.md", table + "\n")
    path = runs.ROOT / "README.md"
    runs.write_text(path, readme(path.read_text(encoding="utf-8")))
    return 0
