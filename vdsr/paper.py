"""What the paper reports, as data, and what our runs say to it."""

from dataclasses import fields
from importlib.resources import files
from math import inf, isfinite

import pandas as pd

from .model import VDSR, step_operations
from .train import TrainConfig

TABLES = {
    "figure3": "paper_figure3_depth.csv",  # read off the published plot, ±0.01 dB
    "table1": "paper_table1_residual.csv",
    "table2": "paper_table2_scales.csv",
    "table3": "paper_table3_benchmark.csv",
    "figures6_7": "paper_figures6_7.csv",
}


def table(name):
    """Return one of the paper's tables.

    Parameters
    ----------
    name : {"figure3", "table1", "table2", "table3", "figures6_7"}
        ``"figure3"``: PSNR on Set5 by scale and depth, one multi-scale network each.
        ``"table1"``: PSNR on Set5 ×2 by learning rate, network and epoch.
        ``"table2"``: PSNR on Set5 by the scales trained for and the scale tested.
        ``"table3"``: PSNR, SSIM and seconds by dataset, scale and method.
        ``"figures6_7"``: PSNR and SSIM of single images by method.

    Returns
    -------
    pandas.DataFrame
        Tidy, PSNR in dB.
    """
    with files("vdsr").joinpath(TABLES[name]).open() as file:
        return pd.read_csv(file)


def final(histories):
    """Return the rows of `vdsr.train_all` that belong to the last step of each run."""
    return histories[histories.step == histories.groupby("run").step.transform("max")]


def mean(groups):
    """Return the mean of each group of a groupby; not a number where one of its runs diverged."""
    return groups.agg(lambda values: values.mean(skipna=False))


def lead(one, other):
    """Return how far some runs are ahead of others, and whether by more than chance.

    Parameters
    ----------
    one, other : pandas.Series of float
        PSNR in dB, a value a seed; not a number where the run diverged.

    Returns
    -------
    lead : float
        The difference of the means in dB. What diverged is infinitely far behind.
    ahead : bool
        Whether that is above twice its standard error, which a single seed does not have.
    """
    if one.isna().any():
        return -inf, False
    if other.isna().any():
        return inf, True
    difference = float(one.mean() - other.mean())
    error = (one.sem() ** 2 + other.sem() ** 2) ** 0.5
    return difference, bool(difference > (2 * error if error > 0 else 0))


def span(values):
    """Return in words from where to where some differences go, in dB, and how many diverged."""
    known = [value for value in values if isfinite(value)]
    lost = len(values) - len(known)
    words = [f"{lost} diverged"] if lost else []
    if known:
        low, high = f"{min(known):+.2f}", f"{max(known):+.2f}"
        words.insert(0, f"{low} dB" if low == high else f"{low} to {high} dB")
    return "; ".join(words)


def fewest_seeds(scores):
    """Return how many seeds there are of the config that has the fewest.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `vdsr.train_all`, or columns of it.
    """
    config = [f.name for f in fields(TrainConfig) if f.name in scores and f.name != "seed"]
    if not config:
        return scores.seed.nunique()
    return int(scores.groupby(config, dropna=False).seed.nunique().min())


def beside(scores, reported, by):
    """Return the paper's values with ours beside them.

    Parameters
    ----------
    scores : pandas.DataFrame
        Ours: the columns of `by`, and psnr in dB; several rows of a kind are seeds.
    reported : pandas.DataFrame
        The paper's: the same columns, a row of a kind.
    by : list of str

    Returns
    -------
    pandas.DataFrame
        A row for each of the paper's: `by`, paper, ours (mean over seeds), sd, seeds, and
        difference, ours less the paper's. What was not run, or diverged, is not a number.
    """
    groups = scores.groupby(by).psnr
    ours = pd.DataFrame({"ours": mean(groups), "sd": groups.std(), "seeds": groups.size()})
    both = reported.set_index(by).psnr.rename("paper").to_frame().join(ours)
    both["difference"] = both.ours - both.paper
    return both.reset_index()


def as_table1(histories):
    """Return histories of the study of residual learning with Table 1's columns.

    Epochs are counted as the paper's: in a schedule of 8 epochs, the first is its tenth.
    """
    return histories.assign(
        network=histories.residual.map({True: "residual", False: "non-residual"}),
        epoch=80 * histories.epoch // histories.epochs,
    )


def as_table2(histories):
    """Return the final rows of the study of scales with Table 2's columns."""
    scores = final(histories)
    return scores.assign(train_scales=scores.scales.str.replace(" ", ","), test_scale=scores.scale)


def field_gains(scores):
    """Return what each wider field gains over the narrowest.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns scale, depth, field (pixels), psnr (dB); several rows of a kind are seeds.

    Returns
    -------
    list of tuple
        `lead`'s two values, of each scale, depth and wider field.
    """
    gains = []
    for _, case in scores.groupby(["scale", "depth"]):
        narrowest, *wider = (psnr for _, psnr in case.groupby("field").psnr)
        gains += [lead(psnr, narrowest) for psnr in wider]
    return gains


def iteration_budget(patches):
    """Return what "80 epochs (9960 iterations)" in "roughly 4 hours on GPU Titan Z" may mean.

    Parameters
    ----------
    patches : int
        What the 91 images at three scales are cut into.

    Returns
    -------
    pandas.DataFrame
        A row a reading: steps in all, the patches of an epoch that this takes, the patches there
        are, the whole training's petaflops, the rate in TFLOP/s to do that in 4 hours, and that
        rate over the card's peak of 8.1.
    """
    epochs, steps, batch, hours, peak = 80, 9_960, 64, 4, 8.1
    operations = step_operations(VDSR(), batch, 41)
    rows = {}
    for reading, total in (("9,960 in all", steps), ("9,960 an epoch", epochs * steps)):
        rate = total * operations / (3600 * hours) / 1e12
        rows[reading] = {
            "steps": total, "patches an epoch": total * batch // epochs, "there are": patches,
            "PFLOP": total * operations / 1e15, "TFLOP/s needed": rate, "of the peak": rate / peak,
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def reach(histories, target):
    """Return when each length of training first reaches a PSNR.

    Parameters
    ----------
    histories : pandas.DataFrame
        From `vdsr.train_all`, on one image set at one scale.
    target : float
        In dB.

    Returns
    -------
    pandas.DataFrame
        A row a number of epochs: steps in all, the mean of the best and last PSNR in dB, the
        steps after which the target was first reached (mean of the seeds that did, else not a
        number), and how many seeds did.
    """
    rows = {}
    for epochs, runs in histories.groupby("epochs"):
        seeds = runs.sort_values("step").groupby("run")
        first = runs[runs.psnr >= target].groupby("run").step.min()
        rows[epochs] = {
            "steps": runs.step.max(), "best": seeds.psnr.max().mean(),
            "last": seeds.psnr.nth(-1).mean(skipna=False), "reached after": first.mean(),
            "by": f"{len(first)} of {len(seeds)} seeds",
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("epochs").reset_index()


def depth_gain(histories):
    """Return what the deepest network gains over the shallowest, ours beside the paper's.

    Parameters
    ----------
    histories : pandas.DataFrame
        From `vdsr.train_all`; networks of different depth.

    Returns
    -------
    pandas.DataFrame
        By dataset and scale: the two depths; the gain in dB, mean over seeds, not a number if
        one diverged; its standard error, not a number with one seed; the paper's gain between
        the same depths, not a number where it has none; and the number of seeds. Without rows
        if there is no run.
    """
    scores = final(histories)
    shallow, deep = scores.depth.min(), scores.depth.max()
    ends = scores[scores.depth.isin([shallow, deep])]
    paper = table("figure3").set_index(["scale", "depth"]).psnr
    rows = []
    for (dataset, scale), group in ends.groupby(["dataset", "scale"]):
        by_depth = group.groupby("depth").psnr
        means, error = mean(by_depth), by_depth.sem()
        gain, spread = means[deep] - means[shallow], (error**2).sum(min_count=2) ** 0.5
        reported = paper.get((scale, deep)), paper.get((scale, shallow))
        known = dataset == "Set5" and None not in reported
        rows.append(
            {
                "dataset": dataset, "scale": scale, "from depth": shallow, "to depth": deep,
                "gain": gain, "standard error": spread,
                "paper's gain": reported[0] - reported[1] if known else float("nan"),
                "seeds": int(by_depth.size().min()),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def as_table3(scores, value):
    """Return Table 3, our columns and the paper's.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `vdsr.benchmark.scores`.
    value : {"psnr", "ssim", "seconds"}
        Averaged over the images of a set.

    Returns
    -------
    pandas.DataFrame
        A row an image set × scale, a column a method under "the paper" or "measured here"; not
        a number where it was not run.
    """
    reported = table("table3").pivot_table(value, ["dataset", "scale"], "method", sort=False)
    ours = scores.pivot_table(value, ["dataset", "scale"], "method", sort=False)
    both = {"measured here": ours, "the paper": reported}
    if not set(ours.index) & set(reported.index):  # other images cannot be compared
        del both["the paper"]
    return pd.concat(both, axis=1)


def with_table(readme, histories):
    """Return the README's text with its table drawn anew.

    Parameters
    ----------
    readme : str
        Holds the lines ``<!-- table -->`` and ``<!-- /table -->``.
    histories : dict of str to pandas.DataFrame
        By preset, what `vdsr.train_all` gives for the study of depth.
    """
    figure = table("figure3").set_index(["depth", "scale"]).psnr
    scores = {preset: final(h).groupby(["depth", "scale"]).psnr for preset, h in histories.items()}
    lines = [
        "| Set5, PSNR in dB | paper, Fig. 3 | " + " | ".join(f"`{p}`" for p in scores) + " |",
        "|---|---|" + "---|" * len(scores),
    ]
    for depth in (5, 10, 20):
        for scale in (2, 3, 4):
            cells = [f"{figure[depth, scale]:.2f}"]
            for group in scores.values():
                means, sd, n = mean(group), group.std(), group.size()
                key = depth, scale
                if key not in means:
                    cells.append("not run")
                elif pd.isna(means[key]):
                    cells.append("diverged")
                elif n[key] == 1:
                    cells.append(f"{means[key]:.2f} (1 seed)")
                else:
                    cells.append(f"{means[key]:.2f} ± {sd[key]:.2f} ({n[key]} seeds)")
            lines.append(f"| depth {depth}, ×{scale} | " + " | ".join(cells) + " |")
    return replaced(readme, "table", "\n".join(lines))


def replaced(text, name, block):
    """Return a text with what stands between ``<!-- name -->`` and ``<!-- /name -->`` replaced."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, rest = text.split(start)
    after = rest.split(end)[1]
    return f"{before}{start}\n{block}\n{end}{after}"
