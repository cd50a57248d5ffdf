"""How fast is it? Ratios, each taken side by side in one run, so that they travel between machines.

Every row of the table is measured by itself: what is timed and what it is held against take turns,
and the ratio of each turn is one value. What else the machine does slows both.
"""

import os
import sys
from dataclasses import dataclass
from datetime import date
from statistics import median
from subprocess import CalledProcessError
from time import sleep

import pandas as pd
import torch

from .. import ledger, machine
from ..files import write_text
from . import configs, profiles, timings


@dataclass(frozen=True)
class Row:
    """What is measured against what.

    Attributes
    ----------
    name : str
        By which the command knows it.
    what, against : str
        In a reader's words.
    goal : str
        Such as ``≥ 2.3`` or ``≤ 1.3``, of the unit.
    unit : str
        ``×`` for a ratio, ``s`` or ``GiB`` for what has nothing to be held against.
    measure : callable
        Returns the values, one a round.
    device : {"cpu", "cuda"}
        Where it can be measured.
    profile : callable, optional
        Returns the share of the time that each part of it takes.
    """

    name: str
    what: str
    against: str
    goal: str
    unit: str
    measure: object
    device: str = "cpu"
    profile: object = None


def main(names=()):
    """Measure rows, all but the longest by default, print them and keep them.

    They are in results/bench.csv, and in results/bench_profiles.csv is where the time goes.

    Returns
    -------
    int
        Exit status: 1 if a row could not be measured, which stops no other.

    Raises
    ------
    ValueError
        For an unknown row, or one of another kind of device, before anything is measured.
    """
    known = {row.name: row for row in ROWS}
    if unknown := set(names) - set(known):
        raise ValueError(f"unknown row {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    here = conditions()
    if lost := [name for name in names if known[name].device != here["kind"]]:
        raise ValueError(
            f"row {lost[0]} is measured on {known[lost[0]].device}, and this is {here['kind']}: "
            f"leave it out, or go to such a machine; CUDA_VISIBLE_DEVICES= hides a GPU"
        )
    if here["others"] > 0.1:
        print(f"Others keep {here['others']:.1f} cores busy: the ratios will be uncertain.")
    print(f"{here['device']}, {here['instructions']}, torch {here['torch']}, "
          f"its matrix product {here['product']:.2f} TFLOP/s")  # fmt: skip
    status = 0
    for row in ROWS:
        if row.name not in names and (names or row.name in LONGEST):
            continue
        if row.device != here["kind"]:
            continue
        try:
            values = row.measure()
        except (CalledProcessError, ImportError, OSError) as error:
            said = getattr(error, "stderr", None) or getattr(error, "stdout", None) or ""
            print(f"{row.name} could not be measured: {error}\n{said[-1000:]}", file=sys.stderr)
            status = 1
            continue
        low, middle, high = min(values), median(values), max(values)
        print(f"{row.name:16} {middle:8.3g} {row.unit} ({low:.3g} to {high:.3g}, goal {row.goal}) "
              f"{row.what} / {row.against}", flush=True)  # fmt: skip
        keep("bench", [{"row": row.name, "value": middle, "low": low, "high": high,
                        "rounds": len(values), "date": f"{date.today():%Y-%m-%d}",
                        **here}])  # fmt: skip
        if row.profile:
            shares = row.profile().items()
            print(", ".join(f"{part} {share:.0%}" for part, share in shares), flush=True)
            parts = [{"row": row.name, "part": part, "share": share} for part, share in shares]
            keep("bench_profiles", parts)
    return status


def conditions():
    """Return what a ratio is to be judged by: the machine, its speed, and what else it does."""
    load = machine.OtherLoad()
    sleep(2)
    others = load.cores
    device = timings.device()
    return {
        "kind": device.type, "device": machine.device_name(device), "cores": os.cpu_count(),
        "threads": torch.get_num_threads(), "instructions": machine.instructions(),
        "torch": torch.__version__,
        "arithmetic": "bf16" if machine.bf16_is_fast(device) else "float32",
        "product": round(timings.product() / 1e12, 4), "others": round(others, 2),
        "commit": machine.commit()[0],
    }  # fmt: skip


def keep(name, values):
    """Put what was measured of a row into a table in results/, in place of what is there of it."""
    path = machine.ROOT / "results" / f"{name}.csv"
    new = pd.DataFrame(values)
    if path.exists():
        old = ledger.table(name)
        new = pd.concat([old[~old.row.isin(new.row)], new], ignore_index=True)
    order = {row.name: i for i, row in enumerate(ROWS)}
    new = new.sort_values("row", key=lambda names: names.map(order), kind="stable")
    write_text(path, new.to_csv(index=False, float_format="%.4g"))


def table():
    """Return a Markdown table of all rows as they are recorded in results/bench.csv."""
    recorded = ledger.table("bench").set_index("row")
    lines = [
        "| what | against | goal | measured | rounds | cores others used |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        cells = "not measured | |"
        if row.name in recorded.index:
            r = recorded.loc[row.name]
            spread = f" ({_short(r.low)} to {_short(r.high)})" if r.rounds > 1 else ""
            met = "" if _met(row.goal, r.value) else " missed"
            cells = f"{_short(r.value)} {row.unit}{spread}{met} | {r.rounds:.0f} | {r.others:g}"
        lines.append(f"| {row.what} | {row.against} | {row.goal} {row.unit} | {cells} |")
    return "\n".join(lines)


def machines():
    """Return a Markdown table of the machines that the recorded rows were measured on."""
    names = ["device", "cores", "threads", "instructions", "torch", "arithmetic"]
    lines = ["| device | cores | threads | instructions | torch | format | its matrix product |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for key, group in ledger.table("bench").groupby(names, sort=False):
        rates = f"{group['product'].min():.2f} to {group['product'].max():.2f} TFLOP/s"
        lines.append(f"| {' | '.join(map(str, key))} | {rates} |")
    return "\n".join(lines)


def profile_table():
    """Return a Markdown table of where the time goes, in the rows of which that is recorded."""
    recorded = ledger.table("bench_profiles")
    lines = ["| what | where its time goes |", "|---|---|"]
    for row in ROWS:
        shares = recorded[recorded.row == row.name]
        if len(shares):
            parts = ", ".join(f"{part} {share:.0%}" for _, part, share in shares.to_numpy())
            lines.append(f"| {row.what} | {parts} |")
    return "\n".join(lines)


def _short(value):
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _met(goal, value):
    sign, bound = goal.split()
    return value >= float(bound) if sign == "≥" else value <= float(bound)


LONGEST = "tests", "gpu-291"
PRODUCT = "the machine's matrix product, as rates"
PLAIN = "a plain float32 loop over a DataLoader, as times"
ROWS = (
    Row("enlarge", "enlarging a colour picture to 1 megapixel",
        "float32 in PyTorch's own layout, the same tiles", "≥ 3.0", "×",
        timings.enlarge_against_plain, profile=profiles.of_enlarging),
    Row("enlarge-onnx", "the same", "ONNX Runtime, float32, the same cores and tiles",
        "≥ 1.5", "×", timings.enlarge_against_onnx),
    Row("enlarge-file", "enlarging a file to 12 megapixels, colour and files included", PRODUCT,
        "≥ 0.85", "×", timings.enlarge_file),
    Row("enlarge-sizes", "a megapixel of 12", "a megapixel of 1, as times", "≤ 1.1", "×",
        timings.enlarge_sizes),
    Row("memory", "peak memory of a 12-megapixel photograph ×2", "beyond picture and result",
        "≤ 1", "GiB", timings.memory),
    Row("step-20", "training step of 20 layers, 64 patches, all in", PRODUCT,
        "≥ 0.95", "×", timings.step_against_product(20), profile=profiles.of_step(20)),
    Row("step-10", "training step of 10 layers", PRODUCT,
        "≥ 0.90", "×", timings.step_against_product(10), profile=profiles.of_step(10)),
    Row("step-5", "training step of 5 layers", PRODUCT,
        "≥ 0.90", "×", timings.step_against_product(5), profile=profiles.of_step(5)),
    Row("step-plain", "training step of 20 layers", PLAIN,
        "≥ 2.3", "×", timings.plain_against_step),
    Row("step-srcnn", "training step of 20 layers", "SRCNN's, as work a second",
        "≥ 1.0", "×", timings.step_against_srcnn),
    Row("patches", "cutting 291 images into 54,192 patches", "decoding the same files, as times",
        "≤ 2", "×", timings.patches_against_decoding, profile=profiles.of_patches),
    Row("scoring", "scoring Set14 at three scales, metrics included", "the network's own time",
        "≤ 1.3", "×", timings.scoring_against_network),
    Row("import", "`import vdsr`", "what `import torch` takes of it", "≤ 0.3", "s",
        timings.import_beyond_torch),
    Row("book", "`jupyter-book build book/`", "", "≤ 30", "s", timings.book(again=0)),
    Row("book-again", "the same, nothing changed", "", "≤ 10", "s", timings.book(again=1)),
    Row("tests", "`make test`, without data", "", "≤ 4", "min", timings.quick_tests),
    Row("gpu-enlarge", "enlarging a colour picture to 1 megapixel on a GPU", "",
        "≤ 20", "ms", timings.enlarge_a_megapixel, "cuda"),
    Row("gpu-step", "training step on a GPU, 20 layers", PRODUCT,
        "≥ 0.45", "×", timings.step_against_product(20), "cuda"),
    Row("gpu-step-plain", "the same", PLAIN, "≥ 8", "×", timings.plain_against_step, "cuda"),
    Row("gpu-literal", "Table 1's training on a GPU, 80 epochs of T91", "", "≤ 0.42", "min",
        timings.whole_run(lambda: configs.reference("paper")[0]), "cuda"),
    Row("gpu-291", "Table 3's training on a GPU, by the paper's recipe", "", "≤ 15", "min",
        timings.whole_run(lambda: configs.benchmark("paper")[1]), "cuda"),
)  # fmt: skip
