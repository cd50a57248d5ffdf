"""Showing what is recorded: executed notebooks, scoreboard, numbers, provenance, README."""

import json
from dataclasses import replace

import pandas as pd

from .. import ledger, machine
from ..config import TrainConfig, run_id
from ..evaluate import evaluate
from ..files import load_checkpoint, write_text
from ..model import VDSR
from ..runs import train_all
from ..upscale import PRETRAINED, load_pretrained
from . import (
    bench,
    configs,
    corrections,
    crops,
    factors,
    fields,
    figures,
    findings,
    lessons,
    paper,
    table3,
)
from .evidence import final, further_seeds, with_seeds
from .queue import asked
from .studies import STUDIES, load

# Notebooks without a study of their own, and those of them that know no preset.
PLAIN_PAGES = (*lessons.PAGES, "upscale_your_photo")
EXTRA_PAGES = (*PLAIN_PAGES, "resizing", "pictures")


def board():
    """Return the scoreboard: each claim by runs of the paper's length."""
    return findings.board(_claims())


def board_figure():
    """Return the board's figure as SVG: each claim's effect in the paper and in its own runs."""
    figures.use_style()
    return figures.inline(
        figures.claims(_claims()),
        "A strip for each claim, over an axis of decibels. Crosses are the paper's differences, "
        "most of them to the right of zero. Below them circles with bars are ours, or the words "
        "not run.",
    )


def _claims():
    return [f for name in STUDIES for f in load(name, "paper", missing="skip").findings]


def numbers():
    """Return what the book's prose quotes, as text by name."""
    runs, _ = ledger.read()
    scores = table3.recorded()
    metadata = load_checkpoint(PRETRAINED)[1]
    whole = asked([name for name, study in STUDIES.items() if study.papers], "paper")
    del whole[run_id(configs.benchmark("paper")[0])]  # Table 3 shows it beside the paper's recipe
    more = further_seeds(whole.values())
    printed = paper.table("table3").set_index(["method", "dataset"]).sort_index().psnr
    reference = configs.reference("paper")[0]
    ends = {}
    for augment in (False, True):
        one = [replace(reference, augment=augment)]
        rows = final(with_seeds(one, train_all(one, missing="skip")))
        ends[augment] = rows[rows.dataset == "Set5"].groupby("scale").psnr.mean()
    noise = load("ablation_residual", "paper", missing="skip").noise
    theirs = paper.table("table1").query("learning_rate == 0.1 and network == 'residual'")
    authors = scores[(scores.method == "VDSR, authors' weights") & (scores.dataset == "Set14")]

    def triple(psnr):
        return " / ".join(f"{value:.2f}" for value in psnr) or "(not run)"

    return {
        "runs": f"{len(runs):,}",
        "paper_runs": f"{len(whole.keys() & {*runs.run}):,}",
        "paper_seeds": f"{len(more.keys() & {*runs.run}):,}",
        "paper_asked": f"{len(whole):,}",
        "hours": f"{runs.seconds.sum() / 3600:.1f}",
        "theta": figures.scientific(TrainConfig().theta),
        "weights": f"{sum(p.numel() for p in VDSR().parameters()):,}",
        "weights_without_biases": f"{sum(p.numel() for p in VDSR(bias=False).parameters()):,}",
        "paper_set14": triple(printed["VDSR", "Set14"]),
        "paper_set5": triple(printed["VDSR", "Set5"]),
        "srcnn_set5": triple(printed["SRCNN", "Set5"]),
        "reference_set5": triple(ends[False]),
        "turned_set5": triple(ends[True]),
        "chance": f"{noise.basis}, {noise.sd:.3f} dB" if noise else "(not run)",
        "bar": f"{noise.bar(1, 1):.2f} dB" if noise else "(not run)",
        "paper_reference": triple(theirs[theirs.epoch == 80].psnr),
        "authors_set14": triple(authors.groupby("scale").psnr.mean()),
        "shipped_run": metadata["run"],
        "shipped_set5": triple(v for k, v in metadata["psnr"].items() if k.startswith("Set5")),
    }


def provenance():
    """Return a Markdown table of what was run for each study, and what it cost."""
    table = ledger.read()[0].set_index("run")
    lines = [
        "| study | made | asked for | further seeds | hours | TFLOP | hardware | arithmetic "
        "| commits |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, study in STUDIES.items():
        wanted = {run_id(config) for config in study.runs("paper")}
        further = further_seeds(study.runs("paper")).keys() & table.index
        done = table.loc[[i for i in table.index if i in wanted | further]]
        device, arithmetic, commits = (
            sorted({part for cell in done[column] for part in cell.split(" then ")})
            for column in ("device", "arithmetic", "commit")
        )
        cells = "; ".join(device), "; ".join(arithmetic)
        commits = ", ".join(f"`{commit[:7]}`" for commit in commits)
        counts = f"{len(done) - len(further)} | {len(wanted)} | {len(further)}"
        hours = f"{done.seconds.sum() / 3600:.1f}"
        work = f"{done.tflop.sum():,.0f}"
        cells = counts, hours, work, *cells, commits
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _around(text):
    """Return the README's text before and after its scoreboard, with the lines that mark it."""
    start, end = "<!-- scoreboard -->", "<!-- /scoreboard -->"
    if not (text.count(start) == text.count(end) == 1):
        raise ValueError(f"README.md needs one line {start} and one {end}, with the table between")
    before, rest = text.split(start)
    _, after = rest.split(end)
    return before + start, end + after


def readme(text, board):
    """Return the README's text with its scoreboard drawn anew, from `board`'s table."""
    before, after = _around(text)
    table = findings.as_markdown(board, "results/notebooks/{}.ipynb")
    return f"{before}\n{table}\n{after}"


def publish(names=None):
    """Execute notebooks on the recorded runs, and renew what the book and README draw from them.

    Each study is shown by what is recorded of its runs of the paper's length. Nothing is trained.

    Parameters
    ----------
    names : sequence of str, optional
        Of notebooks; all by default.

    Returns
    -------
    int
        Exit status 0.

    Raises
    ------
    ValueError
        For an unknown notebook, or outside a clone of the project, before anything is written.
    """
    pages = [*(name for name, study in STUDIES.items() if study.page), *EXTRA_PAGES]
    if unknown := set(names or ()) - set(pages):
        raise ValueError(f"unknown notebook {', '.join(sorted(unknown))}; known are {pages}")
    if not (machine.ROOT / "notebooks").is_dir():
        raise ValueError(
            f"publishing needs a clone of the project, and {machine.ROOT} has no notebooks/"
        )
    path = machine.ROOT / "README.md"
    _around(path.read_text(encoding="utf-8"))  # or it is refused, before the work
    try:
        import nbformat  # these two are needed here alone, and not by importing the package
        import papermill
    except ImportError:
        raise ImportError(
            "publishing needs what `pip install -c constraints.txt -e '.[notebooks]'` brings"
        ) from None

    results = machine.ROOT / "results"
    scored = {pair for config in asked(STUDIES, "paper").values() for pair in config.scored}
    bicubic = [evaluate(None, *pair) for pair in sorted(scored) if pair[0] != "samples-test"]
    means = pd.concat(bicubic).groupby(["dataset", "scale"]).psnr.mean().reset_index()
    write_text(results / "bicubic.csv", means.to_csv(index=False, float_format="%.6g"))
    network = load_pretrained()
    profile = table3.measured_border("paper")
    write_text(results / "border.csv", profile.to_csv(index=False, float_format="%.6g"))
    crops.write_slider(results / "figures", network)
    fields.update()
    corrections.update()
    factors.update()
    for name in names or pages:
        notebook = papermill.execute_notebook(
            machine.ROOT / "notebooks" / f"{name}.ipynb",
            None,
            {} if name in PLAIN_PAGES else {"preset": "paper", "missing": "skip"},
        )
        for part in (notebook, *notebook.cells):  # paths and times of the day of this machine
            for key in ("papermill", "execution"):
                part.metadata.pop(key, None)
            if "injected-parameters" in part.metadata.get("tags", []):
                part.metadata.tags.append("remove-cell")  # the study's caption says what is shown
        write_text(results / "notebooks" / f"{name}.ipynb", nbformat.writes(notebook))
    table = board()
    write_text(results / "scoreboard.md", findings.as_markdown(table, "notebooks/{}.ipynb") + "\n")
    write_text(results / "figures" / "board.svg", board_figure() + "\n")
    write_text(results / "provenance.md", provenance() + "\n")
    tables = bench.table(), bench.machines(), bench.profile_table()
    write_text(results / "bench.md", "\n\n".join(tables) + "\n")
    write_text(results / "numbers.json", json.dumps(numbers(), indent=1) + "\n")
    write_text(path, readme(path.read_text(encoding="utf-8"), table))
    return 0
