"""What the paper reports, as data, and what our runs say to it."""

from importlib.resources import files

import pandas as pd

from .train import TrainConfig

TABLES = {
    "figure3": "paper_figure3_depth.csv",  # read off the published plot, ±0.01 dB
    "table3": "paper_table3_benchmark.csv",
}


def table(name):
    """Return one of the paper's tables.

    Parameters
    ----------
    name : {"figure3", "table3"}
        ``"figure3"``: PSNR on Set5 by scale and depth, one multi-scale network each.
        ``"table3"``: PSNR, SSIM and seconds by dataset, scale and method.

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


def depth_gain(histories):
    """Return what the deepest network gains over the shallowest, ours beside the paper's.

    Parameters
    ----------
    histories : pandas.DataFrame
        From `vdsr.train_all`; networks of different depth.

    Returns
    -------
    pandas.DataFrame
        By dataset and scale: the two depths, the gain in dB, mean over seeds; its standard
        error, not a number with one seed; the paper's gain between the same depths, not a
        number where it has none; and the number of seeds. Without rows if there is no run.
    """
    scores = final(histories)
    shallow, deep = scores.depth.min(), scores.depth.max()
    ends = scores[scores.depth.isin([shallow, deep])]
    paper = table("figure3").set_index(["scale", "depth"]).psnr
    rows = []
    for (dataset, scale), group in ends.groupby(["dataset", "scale"]):
        by_depth = group.groupby("depth").psnr
        mean, error = by_depth.mean(), by_depth.sem()
        gain, spread = mean[deep] - mean[shallow], (error**2).sum(min_count=2) ** 0.5
        reported = paper.get((scale, deep)), paper.get((scale, shallow))
        known = dataset == "Set5" and None not in reported
        rows.append(
            {
                "dataset": dataset, "scale": scale, "from depth": shallow, "to depth": deep,
                "gain": gain, "standard error": spread,
                "paper's gain": reported[0] - reported[1] if known else float("nan"),
                "seeds": int(by_depth.count().min()),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def depth_verdict(gains):
    """Return in a sentence whether depth paid, from `depth_gain`'s table."""
    if gains.empty or (gains["from depth"] == gains["to depth"]).all():
        return "Not run: it takes networks of at least two depths."
    better = gains[gains.gain > 2 * gains["standard error"].fillna(0)]
    held = {0: "Not reproduced", len(gains): "Reproduced"}.get(len(better), "Partly reproduced")
    first = gains.iloc[0]
    seeds = int(gains.seeds.min())
    caveat = " One seed cannot tell a gain from chance." if seeds == 1 else ""
    return (
        f"{held}: from depth {first['from depth']} to {first['to depth']} the PSNR rises at "
        f"{len(better)} of {len(gains)} scales"
        f"{'' if seeds == 1 else ' by more than twice the standard error'}, by "
        f"{gains.gain.min():.2f} to {gains.gain.max():.2f} dB "
        f"({seeds} seed{'s' if seeds > 1 else ''}).{caveat}"
    )


def setting_verdict(scores, bicubic):
    """Return in a sentence which setting won the search, and whether it is the default.

    Parameters
    ----------
    scores : pandas.DataFrame
        A row a setting: columns named as fields of `vdsr.TrainConfig`, and psnr in dB.
    bicubic : float
        PSNR in dB of interpolation alone, on the same images.
    """
    rule = scores[scores.clipping == "adjustable"]
    if rule.empty:
        return "Not run."
    best = rule.loc[rule.psnr.idxmax()]
    settings = best.drop("psnr")
    default = all(getattr(TrainConfig(), name) == value for name, value in settings.items())
    others = scores[scores.clipping != "adjustable"].psnr.max()
    return (
        f"Of {len(rule)} settings with adjustable clipping, the best is "
        f"{', '.join(f'{name} {value}' for name, value in settings.items())}: "
        f"{best.psnr:.2f} dB, {best.psnr - bicubic:.2f} dB above bicubic; the worst "
        f"is {best.psnr - rule.psnr.min():.2f} dB below it. "
        + ("" if pd.isna(others) else f"Other clipping reaches {others:.2f} dB. ")
        + f"It is {'' if default else 'not '}the default. One seed, so that differences of a "
        f"few hundredths of a decibel decide nothing."
    )


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
                mean, sd, n = group.mean(), group.std(), group.count()
                key = depth, scale
                if key not in mean:
                    cells.append("not run")
                elif n[key] == 1:
                    cells.append(f"{mean[key]:.2f} (1 seed)")
                else:
                    cells.append(f"{mean[key]:.2f} ± {sd[key]:.2f} ({n[key]} seeds)")
            lines.append(f"| depth {depth}, ×{scale} | " + " | ".join(cells) + " |")
    before, rest = readme.split("<!-- table -->")
    after = rest.split("<!-- /table -->")[1]
    return before + "\n".join(["<!-- table -->", *lines, "<!-- /table -->"]) + after
