"""Each study's closing sentence, computed from its rows."""

from dataclasses import fields

import pandas as pd

from .paper import fewest_seeds, field_gains, final, lead, mean, span, table
from .train import TrainConfig


def residual(scores):
    """Return in a sentence whether residual networks were sooner and better.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `vdsr.paper.as_table1`.
    """
    early, late = [], []
    for _, rows in scores[scores.epoch >= 10].groupby("learning_rate"):
        if rows.network.nunique() < 2:
            continue
        for leads, epoch in ((early, rows.epoch.min()), (late, rows.epoch.max())):
            at = rows[rows.epoch == epoch]
            plain = at.network == "non-residual"
            leads.append(lead(at[~plain].psnr, at[plain].psnr))
    if not early:
        return "Not run: it takes both kinds of network."
    seeds = fewest_seeds(scores)
    held = _held(sum(ahead for _, ahead in early + late), len(early + late))
    first, last = (span([value for value, _ in leads]) for leads in (early, late))
    return (
        f"{held}: residual networks lead early by {first}, and at the end by {last}, over "
        f"{len(early)} learning rate{'s' if len(early) > 1 else ''}.{_seeds(seeds)}"
    )


def departures(table, config, recipe):
    """Return in sentences how many cells are far from the paper's, and how the recipes differ.

    Parameters
    ----------
    table : pandas.DataFrame
        From `vdsr.paper.beside`.
    config, recipe : TrainConfig
        One of the runs in it, and the one that the paper preset has in its place.
    """
    gaps = table.difference.dropna()
    far = gaps[gaps.abs() > 0.1]
    if gaps.empty:
        return "There is nothing to compare with the paper's numbers."
    if far.empty:
        return f"All {len(gaps)} cells are within 0.1 dB of the paper's."
    changed = [
        f"{each.name} {getattr(config, each.name)} (there {getattr(recipe, each.name)})"
        for each in fields(config)
        if getattr(config, each.name) != getattr(recipe, each.name)
    ]
    suspects = f" What this preset does otherwise: {', '.join(changed)}." if changed else ""
    return (
        f"{len(far)} of {len(gaps)} cells are more than 0.1 dB from the paper's: "
        f"{span(far)}.{suspects}"
    )


def scales(scores, bicubic):
    """Return in sentences how one scale's network does at others, and one network at all.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `vdsr.paper.as_table2`.
    bicubic : dict of float to float
        PSNR in dB of interpolation, by scale, on the same images.
    """
    means = mean(scores.groupby(["train_scales", "test_scale"]).psnr).unstack("test_scale")
    single = {scale: f"{scale:g}" for scale in means if f"{scale:g}" in means.index}
    every = means.index[means.index.str.count(",") == 2]
    if len(single) < 2 or every.empty:
        return "Not run: it takes networks of single scales and one of all three."
    elsewhere = [
        means.loc[name, other] - bicubic[other]
        for scale, name in single.items()
        for other in single
        if other != scale
    ]
    leads = [means.loc[every[0], scale] - means.loc[name, scale] for scale, name in single.items()]
    below = sum(gain < 0 for gain in elsewhere)
    kept = sum(gain > -0.1 for gain in leads)
    lines = [
        f"- At scales it was not trained for, a single-scale network is {span(elsewhere)} from "
        f"bicubic, and below it in {below} of {len(elsewhere)} cases.",
        f"- One network for all is {span(leads)} from the single-scale ones, and not worse (by "
        f"0.1 dB or more) at {kept} of {len(leads)} scales.",
    ]
    between = [scale for scale in means if scale % 1]
    if between:
        gains = (f"{means.loc[every[0], s] - bicubic[s]:+.2f} dB at ×{s:g}" for s in between)
        lines.append(f"- Between its scales it is, from bicubic, {', '.join(gains)}.")
    return "\n".join([*lines, "", _seeds(fewest_seeds(scores)).strip()])


def field(scores):
    """Return in a sentence what a wider field was worth at equal depth.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns depth, field (pixels), scale, psnr (dB), seed.
    """
    gains = field_gains(scores)
    if not gains:
        return "Not run: it takes two fields of one depth."
    leads, ahead = zip(*gains, strict=True)
    better = sum(ahead)
    held = {0: "Context alone did not help", len(gains): "Context alone helped"}.get(
        better, "Context alone helped in part"
    )
    return (
        f"{held}: at equal depth and weights, wider fields are {span(leads)} from the narrowest, "
        f"and better in {better} of {len(gains)} cases.{_seeds(fewest_seeds(scores))}"
    )


def iterations(table, target):
    """Return in a sentence which length of training reaches the paper's PSNR.

    Parameters
    ----------
    table : pandas.DataFrame
        From `vdsr.paper.reach`.
    target : float
    """
    if table.empty:
        return "Not run."
    lines = []
    for row in table.itertuples():
        ends = f"ends at {row.last:.2f} dB, {row.last - target:+.2f} dB from the paper's"
        if pd.isna(row.last):
            ends = "diverges"
        when = table["reached after"][row.Index]
        got = "never reaches it" if pd.isna(when) else f"first reaches it after {when:,.0f} steps"
        lines.append(f"- {row.steps:,} steps: {got}, and {ends} ({row.by}).")
    return "\n".join(lines)


def srcnn(scores):
    """Return in sentences how SRCNN's three limits show beside VDSR.

    Parameters
    ----------
    scores : pandas.DataFrame
        Rows of `vdsr.train_all` with the columns name, scales, scale, step, seconds, psnr (dB),
        seed; SRCNN and VDSR.
    """
    if scores.empty or scores.architecture.nunique() < 2:
        return "Not run: it takes SRCNN and VDSR."
    last = final(scores)
    means = mean(last.groupby(["architecture", "scales", "scale"]).psnr)
    lines = []
    every = max(scores[scores.architecture == "VDSR"].scales, key=len)
    old = "SRCNN 9-1-5"
    for scale in sorted(scores.scale.unique()):
        single = means.get((old, f"{scale:g}", scale))
        if single is not None:
            gain = means["VDSR", every, scale] - single
            lines.append(f"- ×{scale:g}: VDSR ends {gain:+.2f} dB from SRCNN made for that scale.")
    multi = [
        means[old, every, scale] - means[old, f"{scale:g}", scale]
        for scale in sorted(scores.scale.unique())
        if {(old, every, scale), (old, f"{scale:g}", scale)} <= set(means.index)
    ]
    if multi:
        lines.append(f"- One SRCNN for all scales is {span(multi)} from those made for one.")
    three = scores[scores.scale == 3]
    best = three[three.architecture == old].psnr.max()
    ours = three[three.architecture == "VDSR"]
    above = ours[ours.psnr > best]
    if len(above):
        first = above.loc[above.step.idxmin()]
        theirs = three[(three.architecture == old) & (three.psnr == best)].iloc[0]
        which = (
            "VDSR's first score" if first.step == ours.step.min() else "VDSR's first score above it"
        )
        lines.append(
            f"- At ×3, SRCNN's best is {theirs.psnr:.2f} dB, after {theirs.step:,} steps and "
            f"{theirs.seconds:,.0f} s; {which} is {first.psnr:.2f} dB, after {first.step:,} steps "
            f"and {first.seconds:,.0f} s."
        )
    else:
        lines.append("- At ×3, VDSR does not pass SRCNN's best.")
    return "\n".join([*lines, "", _seeds(fewest_seeds(scores)).strip()])


def border(profile):
    """Return in a sentence what zero padding costs at the border.

    Parameters
    ----------
    profile : pandas.DataFrame
        From `vdsr.evaluate.border_profile`.
    """
    table = profile.pivot(index="distance", columns="method", values="psnr")
    cost = table["true surroundings"] - table["zero padding"]
    gain = table["zero padding"] - table["bicubic"]
    near = cost[cost > 0.1].index.max()
    reach = "nowhere" if pd.isna(near) else f"up to {near:g} pixels from the border"
    return (
        f"At the outermost pixel, padding with zeros costs {cost[0]:.2f} dB of what the true "
        f"surroundings would give, and leaves a gain of {gain[0]:+.2f} dB over bicubic; the mean "
        f"gain is {gain.mean():+.2f} dB. It costs more than 0.1 dB {reach}."
    )


def clipping(scores):
    """Return in a sentence what adjustable clipping is worth at each learning rate.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns learning_rate, clipping, psnr (dB, not a number where the run diverged), seed.
    """
    adjustable = scores.clipping == "adjustable"
    if scores.empty or adjustable.all() or not adjustable.any():
        return "Not run: it takes adjustable clipping and another kind."
    means = mean(scores.groupby(["learning_rate", "clipping"]).psnr)
    lines = []
    for rate, kinds in means.groupby(level=0, sort=False):
        kinds = kinds.droplevel(0)
        if "adjustable" not in kinds or len(kinds) == 1:
            continue
        ours = kinds["adjustable"]
        others = ", ".join(
            f"{kind} {'diverges' if pd.isna(psnr) else f'{psnr - ours:+.2f} dB'}"
            for kind, psnr in kinds.drop("adjustable").items()
        )
        stands = "adjustable clipping diverges" if pd.isna(ours) else "against adjustable clipping"
        lines.append(f"- At learning rate {rate:g}, {stands}: {others}.")
    return "\n".join([*lines, "", _seeds(fewest_seeds(scores)).strip()])


def clipped(magnitudes):
    """Return in a sentence how much is clipped at the first and the last learning rate.

    Parameters
    ----------
    magnitudes : pandas.DataFrame
        From `vdsr.train.gradient_magnitudes`.
    """
    last = magnitudes[magnitudes.step == magnitudes.step.max()].ratio
    return (
        f"After {magnitudes.step.max()} steps {100 * (last > 1).mean():.0f} % of all values are "
        f"clipped. Were the same gradient still there when the rate has been divided by 1,000, "
        f"and the bound is as many times wider, it would be {100 * (last > 1000).mean():.2f} %."
    )


def init(scores):
    """Return in a sentence which initialisation ended best, and by how much.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns init, last_scale, psnr (dB), seed.
    """
    means = mean(scores.groupby(["init", "last_scale"]).psnr).sort_values()
    lost = means.index[means.isna()]
    means = means.dropna()
    if len(means) < 2:
        return "Not run: it takes two initialisations."
    (best, best_scale), (worst, worst_scale) = means.index[-1], means.index[0]
    return (
        f"Of {len(means)} initialisations, {best} with the last layer times {best_scale:g} ends "
        f"best, {means.iloc[-1] - means.iloc[-2]:.2f} dB before the next; {worst} with the last "
        f"layer times {worst_scale:g} ends {means.iloc[-1] - means.iloc[0]:.2f} dB behind."
        + "".join(f" {name} with it times {scale:g} diverges." for name, scale in lost)
        + _seeds(fewest_seeds(scores))
    )


def _held(good, of):
    """Return the words for a claim that held in some cases; `vdsr.claims` has the verdict."""
    return "Pointing the paper's way" if good == of else "Mixed" if good else "Not seen"


def _seeds(seeds):
    """Return the sentence that a verdict on few seeds must end with."""
    return " One seed cannot tell a gain from chance." if seeds == 1 else f" {seeds} seeds."


def depth(gains):
    """Return in a sentence whether depth paid, from `vdsr.paper.depth_gain`'s table."""
    if gains.empty or (gains["from depth"] == gains["to depth"]).all():
        return "Not run: it takes networks of at least two depths."
    better = gains[gains.gain > 2 * gains["standard error"].fillna(0)]
    first = gains.iloc[0]
    seeds = int(gains.seeds.min())
    ends = f"from depth {first['from depth']} to {first['to depth']}"
    return (
        f"{_held(len(better), len(gains))}: {ends} the PSNR rises at "
        f"{len(better)} of {len(gains)} scales"
        f"{'' if seeds == 1 else ' by more than twice the standard error'}; the change is "
        f"{span(gains.gain)}.{_seeds(seeds)}"
    )


def settings(scores):
    """Return a sentence for each series of the search: its winner, and where the default stands.

    Parameters
    ----------
    scores : pandas.DataFrame
        A row a setting: columns named as fields of `vdsr.TrainConfig`, and gain, the PSNR over
        that of bicubic interpolation in dB. A series is one depth and set of scales.
    """
    default = TrainConfig()
    lines = []
    for (depth, scales), series in scores.groupby(["depth", "scales"], sort=False):
        rule = series[series.clipping == "adjustable"]
        varied = [c for c in series if c not in ("depth", "scales", "gain", "clipping")]
        best = rule.loc[rule.gain.idxmax()]
        kept = rule[(rule[varied] == [getattr(default, c) for c in varied]).all(axis=1)].gain
        stands = f"{best.gain - kept.iloc[0]:.2f} dB below it" if len(kept) else "not among them"
        others = series[series.clipping != "adjustable"].gain
        lost = int(rule.gain.isna().sum())
        lines.append(
            f"- Depth {depth}, trained for ×{scales.replace(' ', ' ×')}: of {len(rule)} settings "
            f"with adjustable clipping, the best is "
            f"{', '.join(f'{c} {best[c]}' for c in varied)}, {best.gain:+.2f} dB over "
            f"bicubic; the worst is at {round(rule.gain.min(), 2) + 0:+.2f} dB. The default is "
            f"{stands}."
            + (f" {lost} diverged." if lost else "")
            + (f" Clipping the norm instead: {others.max():+.2f} dB." if len(others) else "")
        )
    if not lines:
        return "Not run."
    return "\n".join([*lines, "", "One seed each: a few hundredths of a decibel decide nothing."])


def resizing(gap):
    """Return in sentences how far other libraries' resizing is from MATLAB's.

    Parameters
    ----------
    gap : pandas.DataFrame
        Differences in PSNR from MATLAB's in dB: rows method × resizer, a column a scale.
    """
    worst = gap.abs().max(axis=1).unstack("method", sort=False)
    alike = worst.index[(worst < 0.05).all(axis=1)]
    lines = [f"- Within 0.05 dB of MATLAB's in everything: {', '.join(alike) or 'none'}."]
    for name in worst.index:
        if name not in alike:
            rows = gap.xs(name, level="resizer")
            ends = zip(rows.index, rows.min(axis=1), rows.max(axis=1), strict=True)
            parts = [f"{method} {low:+.2f} to {high:+.2f} dB" for method, low, high in ends]
            lines.append(f"- {name}: {', '.join(parts)}.")
    return "\n".join(lines)


def benchmark(scores):
    """Return in sentences how our networks stand beside others, over Table 3's cells.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `vdsr.benchmark.scores`.
    """
    cells = ["dataset", "scale", "method"]
    ours = scores.groupby(cells)[["psnr", "ssim"]].mean().unstack("method")
    printed = table("table3").set_index(cells)[["psnr", "ssim"]].unstack("method")
    printed = printed.reindex(ours.index)
    means, reported = ours.psnr, printed.psnr
    authors, lines = "VDSR, authors' weights", []
    rivals = {
        "bicubic": means.get("bicubic"), "SRCNN, ours": means.get("SRCNN, ours"),
        "SRCNN as the paper prints it": reported["SRCNN"], authors: means.get(authors),
    }  # fmt: skip
    recipe = "VDSR, paper's recipe"
    rivals[recipe] = means.get(recipe)
    for method in (recipe, "VDSR, later recipe"):
        for rival, theirs in rivals.items():
            if method in means and theirs is not None and rival != method:
                leads = (means[method] - theirs).dropna()
                if len(leads):
                    lines.append(
                        f"- {method}, against {rival}: better in {int((leads > 0).sum())} of "
                        f"{len(leads)} cells, by {span(leads)}."
                    )
    if not lines:
        return "Not run: it takes a network of ours."
    for method, name in (("bicubic", "bicubic"), (authors, "VDSR")):
        if method not in means:
            continue
        gaps = ours.xs(method, axis=1, level="method") - printed.xs(name, axis=1, level="method")
        gaps = gaps.abs().dropna()
        if len(gaps):
            lines.append(
                f"- The protocol: {method}, in {len(gaps)} cells, is at most {gaps.psnr.max():.3f} "
                f"dB and {gaps.ssim.max():.4f} of SSIM from what the paper prints."
            )
    seconds = scores.groupby(cells).seconds.mean().unstack("method")
    if {authors, "SRCNN, ours"} <= set(seconds) and scores.device.nunique() == 1:
        ratio = (seconds[authors] / seconds["SRCNN, ours"]).dropna()
        lines.append(
            f"- Speed: twenty layers take {ratio.min():.0f} to {ratio.max():.0f} times as long as "
            f"SRCNN's three, by the same library on the same machine."
        )
    return "\n".join(lines)
