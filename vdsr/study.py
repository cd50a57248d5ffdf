"""Working through the missing runs, in order of value, and showing what is recorded."""

import json
import sys
from functools import cache
from time import monotonic

import pandas as pd

from . import benchmark, claims, crops, paper, runs
from .data import load_images
from .evaluate import border_profile, evaluate
from .experiments import STUDIES, depth, scales, theta
from .model import VDSR
from .train import OutOfTime, TrainConfig, load_metadata
from .upscale import PRETRAINED, load_pretrained

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

    Notes
    -----
    Several processes may work at once, one a GPU, say: each leaves alone what another trains.
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
    configs = [c for n in names for c in STUDIES[n](preset)]
    if "benchmark" in names:
        configs += benchmark.trained(preset)
    configs.sort(key=lambda c: c.seed)
    queue = {runs.run_id(c): c for c in configs}  # what several studies share is done once
    known = set(runs.ledger()[0].run)
    missing = {k: c for k, c in queue.items() if k not in known}
    done = len(queue) - len(missing)
    print(f"{preset}: {done} runs recorded, {len(missing)} missing", flush=True)
    work = seconds = busy = 0
    for identity, config in list(missing.items()):
        if identity in set(runs.ledger()[0].run):  # by another process, meanwhile
            del missing[identity]
            continue
        try:
            run = runs.attempt(config, deadline=deadline, refresh=runs.is_dirty(identity))
        except OutOfTime as stop:
            print(f"{identity} {stop}; the same command goes on from there", flush=True)
            return 1
        except runs.Busy as stop:
            print(stop, flush=True)
            busy += 1
            continue
        runs.record(run, preset)
        del missing[identity]
        if not run.diverged:  # which ends early, and would make all look quick
            work += cost(config)
            seconds += run.record["seconds"]
        last = run.history[run.history.step == run.history.step.max()]
        scores = ", ".join(f"{r.dataset} ×{r.scale:g} {r.psnr:.2f} dB" for r in last.itertuples())
        rest = ""
        if work:
            left = sum(map(cost, missing.values())) / work * seconds / 3600
            rest = f", about {left:.1f} hours at this speed"
        print(
            f"{identity} {config.label}: {run.diverged or scores}; {len(missing)} missing{rest}",
            flush=True,
        )
    if busy:
        print(f"left to other processes: {busy}; the same command looks for them again")
        return 1
    if "benchmark" in names:
        benchmark.scores(preset, record=True, deadline=deadline)
        if deadline is not None and monotonic() > deadline:
            print("the benchmark's scores are not complete; the same command goes on from there")
            return 1
    return 0


def cost(config):
    """Return the work of a run, weights times pixels seen, for guessing how long it takes."""
    weights = sum(p.numel() for p in config.network().parameters())
    again = (config.patch_size / (config.patch_size - config.overlap)) ** 2
    turns = 8 if config.augment else 1
    pixels = _pixels(config.train_set) * len(config.scales) * again * turns
    return weights * config.epochs * pixels


@cache
def _pixels(dataset):
    return sum(image.shape[0] * image.shape[1] for image in load_images(dataset).values())


def shown(name):
    """Return the preset a study is shown by: ``paper`` once all of its first seed is recorded."""
    known = set(runs.ledger()[0].run)
    first = [config for config in STUDIES[name]("paper") if config.seed == 0]
    return "paper" if {runs.run_id(config) for config in first} <= known else "cpu"


def board():
    """Return the scoreboard of `vdsr.claims`, from what is recorded."""
    evidence = {}
    for name, study in STUDIES.items():
        preset = shown(name)
        if name == "benchmark":
            evidence[name] = preset, benchmark.scores(preset, missing="skip")
        else:
            evidence[name] = preset, runs.train_all(study(preset), missing="skip")
    preset, rows = evidence["ablation_scales"]
    bicubic = pd.read_csv(runs.ROOT / "results" / "bicubic.csv").set_index("scale").psnr
    evidence["ablation_scales"] = preset, rows.assign(bicubic=rows.scale.map(bicubic))
    border = pd.read_csv(runs.ROOT / "results" / "border.csv")
    evidence["border"] = load_metadata(PRETRAINED)["preset"], border
    return claims.scoreboard(evidence)


def numbers():
    """Return what the book's prose quotes, as text by name."""
    table, _ = runs.ledger()
    scores = benchmark.recorded()
    metadata = load_metadata(PRETRAINED)
    [collapsed] = [
        c for c in theta("cpu")
        if (c.depth, c.loss, c.theta, c.init, c.last_scale, c.clipping)
        == (20, "sum", 3e-4, "fan_out", 0.1, "adjustable")
    ]  # fmt: skip
    last = paper.final(runs.train_all([collapsed], missing="skip")).psnr
    gain = (last - evaluate(None, "BSD10", 3).psnr.mean()).mean()
    reported = paper.table("table3")
    reported = reported[(reported.method == "VDSR") & (reported.dataset == "Set14")]
    authors = scores[(scores.method == "VDSR, authors' weights") & (scores.dataset == "Set14")]

    def triple(psnr):
        return " / ".join(f"{value:.2f}" for value in psnr) or "(not run)"

    return {
        "runs": f"{len(table):,}",
        "paper_runs": f"{(table.preset == 'paper').sum():,}",
        "hours": f"{table.seconds.sum() / 3600:.1f}",
        "theta": "${} \\cdot 10^{{{}}}$".format(*map(int, f"{TrainConfig().theta:.0e}".split("e"))),
        "collapse": f"{round(gain, 2) + 0:+.2f}",  # not -0.00
        "weights": f"{sum(p.numel() for p in VDSR().parameters()):,}",
        "paper_set14": triple(reported.psnr),
        "authors_set14": triple(authors.groupby("scale").psnr.mean()),
        "shipped_run": metadata["run"],
        "shipped_preset": metadata["preset"],
        "shipped_set5": triple(v for k, v in metadata["psnr"].items() if k.startswith("Set5")),
    }


def provenance():
    """Return a Markdown table of what was run for each study, and what it cost."""
    table = runs.ledger()[0].set_index("run")
    lines = [
        "| study | preset | runs made | asked for | hours | hardware | torch | commits |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, study in STUDIES.items():
        for preset in ("cpu", "paper"):
            asked = [runs.run_id(config) for config in study(preset)]
            done = table.loc[[i for i in asked if i in table.index]]
            cells = [", ".join(sorted(set(done[c].astype(str)))) for c in ("device", "torch")]
            parts = {part[:7] for cell in done.commit for part in cell.split(" then ")}
            commits = ", ".join(f"`{part}`" for part in sorted(parts))
            hours = f"{done.seconds.sum() / 3600:.1f}"
            count = f"`{name}` | `{preset}` | {len(done)} | {len(asked)} | {hours}"
            lines.append(f"| {count} | {' | '.join(cells)} | {commits} |")
    return "\n".join(lines)


def readme(text):
    """Return the README's text with its tables drawn anew from what is recorded."""
    histories = {p: runs.train_all(depth(p), missing="skip") for p in ("cpu", "paper")}
    table = claims.as_markdown(board(), "results/notebooks/{}.ipynb")
    return paper.replaced(paper.with_table(text, histories), "scoreboard", table)


def publish():
    """Execute the notebooks on the recorded runs, renew the scoreboard and its copies; return 0.

    Each study is shown by the preset that `shown` says. Nothing is trained.
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
            for key in ("papermill", "execution"):
                part.metadata.pop(key, None)
        runs.write_text(results / "notebooks" / f"{name}.ipynb", nbformat.writes(notebook))
    bicubic = pd.concat(evaluate(None, "Set5", s) for s in scales("cpu")[0].eval_scales)
    table = bicubic.groupby(["dataset", "scale"]).psnr.mean().reset_index()
    runs.write_text(results / "bicubic.csv", table.to_csv(index=False, float_format="%.6g"))
    network = load_pretrained()
    profile = border_profile(network, load_images("Set5"), 3)
    runs.write_text(results / "border.csv", profile.to_csv(index=False, float_format="%.6g"))
    crops.write_slider(results / "figures", network)
    table = claims.as_markdown(board(), "notebooks/{}.ipynb")
    runs.write_text(results / "scoreboard.md", table + "\n")
    runs.write_text(results / "provenance.md", provenance() + "\n")
    runs.write_text(results / "numbers.json", json.dumps(numbers(), indent=1) + "\n")
    path = runs.ROOT / "README.md"
    runs.write_text(path, readme(path.read_text(encoding="utf-8")))
    return 0
