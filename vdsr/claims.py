"""The paper's claims, and the rules by which recorded rows answer them."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import pandas as pd

from .model import receptive_field
from .paper import (
    as_table1,
    as_table2,
    depth_gain,
    fewest_seeds,
    field_gains,
    final,
    lead,
    mean,
    span,
    table,
)

HOLDS, PARTLY, FAILS = "reproduced", "partly reproduced", "not reproduced"
# One seed, or a shortened training, can point a way. It cannot reproduce a claim, or refute it.
HINTS = {HOLDS: "points that way", PARTLY: "mixed so far", FAILS: "points the other way"}


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes
    ----------
    text : str
        In our words.
    source : str
        Where in the paper it stands.
    study : str
        The study that answers it, which is its notebook's name, too.
    rule : callable
        Takes the study's rows; returns a verdict, the paper's numbers and ours, as text; or None
        where runs are missing.
    """

    text: str
    source: str
    study: str
    rule: Callable


def scoreboard(evidence):
    """Return every claim with what the records say to it.

    Parameters
    ----------
    evidence : dict of str to tuple
        By study: the preset shown, and its rows. Those are `vdsr.train_all`'s, with the column
        bicubic, interpolation's PSNR at that scale, for ``"ablation_scales"``; of
        ``"benchmark"``, `vdsr.benchmark.scores`'; of ``"border"``,
        `vdsr.evaluate.border_profile`'s.

    Returns
    -------
    pandas.DataFrame
        A row a claim: claim, source, page, paper, ours, verdict, basis (preset and seeds).
    """
    rows = []
    for claim in CLAIMS:
        preset, scores = evidence.get(claim.study, ("", pd.DataFrame()))
        answer = None if scores.empty else claim.rule(scores)
        verdict, theirs, ours = answer or ("not run", "", "")
        seeds = fewest_seeds(scores) if "seed" in scores else 1
        basis = f"`{preset}`, {seeds} seed{'s' if seeds > 1 else ''}" if answer else ""
        if answer and (preset != "paper" or seeds < 3):
            verdict = HINTS[verdict]
        rows.append(
            {
                "claim": claim.text, "source": claim.source,
                "page": PAGES.get(claim.study, claim.study),
                "paper": theirs, "ours": ours, "verdict": verdict, "basis": basis,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _grade(good, of):
    """Return the verdict if that many of some cases are as claimed."""
    return HOLDS if good == of else PARTLY if good else FAILS


def _cells(scores, by):
    """Return the PSNR of each seed, by cell of a table."""
    return dict(list(scores.groupby(by).psnr))


def _high_rate(histories):
    kind = ["learning_rate", "clipping"]
    runs = mean(final(histories).groupby([*kind, "run"]).psnr)  # over the scales
    kinds = _cells(runs.reset_index(), kind)
    high, low, bare = (0.1, "adjustable"), (0.001, "adjustable"), (0.1, "none")
    if not {high, low, bare} <= set(kinds):
        return None
    gain, pays = lead(kinds[high], kinds[low])
    worth, _ = lead(kinds[high], kinds[bare])
    return (
        _grade(pays + (pays and worth > 0.1), 2),
        "trains stably at 0.1, SRCNN at 1e-5",
        f"0.1 ends {span([gain])} from 0.001; without clipping it "
        + ("diverges" if worth == inf else f"ends {span([-worth])} from that"),
    )


def _depth(histories):
    gains = depth_gain(histories)
    if gains.empty or (gains["from depth"] == gains["to depth"]).all():
        return None
    better = (gains.gain > 2 * gains["standard error"].fillna(0)).sum()
    reported = gains["paper's gain"]
    ends = f"D={gains['from depth'][0]} to {gains['to depth'][0]}"
    return (
        _grade(better, len(gains)),
        f"{span(reported)} ({ends})",
        f"{span(gains.gain)}, better at {better} of {len(gains)} scales",
    )


def _field(histories):
    scores = final(histories)
    gains = field_gains(scores.assign(field=receptive_field(scores.depth, scores.dilation)))
    if not gains:
        return None
    leads, ahead = zip(*gains, strict=True)
    better = sum(ahead)
    return (
        _grade(better, len(gains)),
        "no run of it",
        f"{span(leads)} by dilation alone, better in {better} of {len(gains)} cases",
    )


def _table1(histories):
    by = ["network", "learning_rate", "epoch"]
    return _cells(as_table1(histories), by), table("table1").set_index(by).psnr


def _fast(histories):
    ours, theirs = _table1(histories)
    early, late = ("residual", 0.1, 10), ("residual", 0.001, 80)
    if not {early, late} <= set(ours):
        return None
    gain, ahead = lead(ours[early], ours[late])
    return (
        HOLDS if ahead else FAILS,
        f"{theirs[early] - theirs[late]:+.2f} dB ({theirs[early]:.2f}, {theirs[late]:.2f})",
        f"{span([gain])} ({ours[early].mean():.2f}, {ours[late].mean():.2f})",
    )


def _residual(histories):
    ours, theirs = _table1(histories)
    ends = [
        (rate, epoch)
        for kind, rate, epoch in ours
        if kind == "residual" and epoch in (10, 80) and ("non-residual", rate, epoch) in ours
    ]
    if not ends:
        return None
    leads, ahead = zip(
        *(lead(ours["residual", *end], ours["non-residual", *end]) for end in ends), strict=True
    )
    paper = [theirs["residual", *end] - theirs["non-residual", *end] for end in ends]
    return (
        _grade(sum(ahead), len(ends)),
        span(paper),
        f"{span(leads)}, ahead in {sum(ahead)} of {len(ends)} (early and late, by rate)",
    )


def _table2(histories):
    cells = ["train_scales", "test_scale"]
    ours = mean(as_table2(histories).groupby(cells).psnr).unstack()
    return ours, table("table2").set_index(cells).psnr.unstack()


def _elsewhere(histories):
    """Count cells worse than the network of that scale; of bicubic it says "in many tests"."""
    ours, theirs = _table2(histories)
    cells = [(f"{a}", b) for a in (2, 3, 4) for b in (2, 3, 4) if a != b]
    if not {a for a, _ in cells} <= set(ours.index):
        return None

    def answer(psnr, bicubic):
        lost = sum(psnr.loc[a, b] < psnr.loc[f"{b}", b] - 0.1 for a, b in cells)
        gains = [psnr.loc[a, b] - bicubic[b] for a, b in cells]
        below = sum(gain < 0 for gain in gains)
        return lost, f"{span(gains)} from bicubic, below it in {below} of {len(cells)} cells"

    lost, ours = answer(ours, histories.groupby("scale").bicubic.first())
    return (
        _grade(lost, len(cells)),
        answer(theirs, theirs.loc["bicubic"])[1],
        f"worse than the network of that scale in {lost} of {len(cells)}; {ours}",
    )


def _one_for_all(histories):
    ours, theirs = _table2(histories)
    if not {"2", "3", "4", "2,3,4"} <= set(ours.index):
        return None
    leads, paper = (
        [x.loc["2,3,4", s] - x.loc[f"{s}", s] for s in (2, 3, 4)] for x in (ours, theirs)
    )
    kept = sum(lead > -0.1 for lead in leads)
    return _grade(kept, 3), span(paper), f"{span(leads)}, no worse at {kept} of 3 scales"


def _fractions(histories):
    ours, _ = _table2(histories)
    scales = [1.5, 2.5, 3.5]
    if not {"3", "2,3,4"} <= set(ours.index) or not set(scales) <= set(ours):
        return None
    bicubic = histories.groupby("scale").bicubic.first()
    leads = [ours.loc["2,3,4", s] - ours.loc["3", s] for s in scales]
    gains = [ours.loc["2,3,4", s] - bicubic[s] for s in scales]
    better = sum(a > 0 and b > 0 for a, b in zip(leads, gains, strict=True))
    return (
        _grade(better, 3),
        "pictures alone",
        f"{span(leads)} from the ×3 network, {span(gains)} from bicubic; "
        f"better than both at {better} of 3 scales",
    )


def _border(profile):
    psnr = profile.pivot(index="distance", columns="method", values="psnr")
    gain = psnr["zero padding"] - psnr["bicubic"]
    cost = psnr["true surroundings"] - psnr["zero padding"]
    return (
        HOLDS if gain[0] > 0.5 * gain.mean() else PARTLY if gain[0] > 0 else FAILS,
        "border pixels predicted well, too",
        f"outermost pixel {gain[0]:+.2f} dB over bicubic, {cost[0]:.2f} dB short of what its true "
        f"surroundings would give",
    )


def _sooner(histories):
    """Compare at the longest time that both were trained for, whatever each would still gain."""
    three = histories[(histories.scale == 3) & histories.psnr.notna()]
    new, old = (three[three.architecture == name] for name in ("VDSR", "SRCNN 9-1-5"))
    time = min(new.seconds.max(), old.seconds.max())
    new, old = (x[x.seconds <= time].groupby("seed").psnr.max() for x in (new, old))
    if new.empty or old.empty:
        return None
    gain, ahead = lead(new, old)
    return (
        HOLDS if ahead else FAILS,
        "4 hours against days",
        f"{span([gain])} from SRCNN's best at ×3, after {time:,.0f} s of training each",
    )


def _better(scores):
    ours = scores.groupby(["method", "dataset", "scale"]).psnr.mean()
    theirs = table("table3").set_index(["method", "dataset", "scale"]).psnr
    rivals = theirs.drop(["VDSR", "bicubic"], level="method").groupby(["dataset", "scale"]).max()
    if "VDSR, paper's recipe" not in ours.index:
        return None
    leads = (ours["VDSR, paper's recipe"] - rivals).dropna()
    better = (leads > 0).sum()
    return (
        _grade(better, len(leads)),
        f"{span(theirs['VDSR'] - rivals)} from the best of the others",
        f"{span(leads)}, better in {better} of {len(leads)} cells",
    )


# Where the answer is not on a page of the study's own name.
PAGES = {"border": "srcnn"}

CLAIMS = (
    Claim("A learning rate of 0.1 is safe and pays, through adjustable clipping", "§3.2",
          "ablation_clipping", _high_rate),
    Claim("The deeper, the better", "Fig. 3", "ablation_depth", _depth),
    Claim("A wider context pays", "§4.1", "ablation_receptive_field", _field),
    Claim("At 0.1, a tenth of the training beats all of it at 0.001", "Table 1",
          "ablation_residual", _fast),
    Claim("Residual learning is sooner and better", "Table 1, Fig. 4",
          "ablation_residual", _residual),
    Claim("A network for one scale fails at others", "Table 2", "ablation_scales", _elsewhere),
    Claim("One network for all scales is as good as three", "Table 2", "ablation_scales",
          _one_for_all),
    Claim("One network serves the scales between, too", "Fig. 5", "ablation_scales", _fractions),
    Claim("Zero padding works at the border", "§3.1", "border", _border),
    Claim("Trains faster than SRCNN", "§1, §3.2", "srcnn", _sooner),
    Claim("Better than A+, RFL, SelfEx and SRCNN", "Table 3", "benchmark", _better),
)  # fmt: skip


def as_markdown(board, link):
    """Return the scoreboard as a Markdown table.

    Parameters
    ----------
    board : pandas.DataFrame
        From `scoreboard`.
    link : str
        What a page's name is put into, such as ``"notebooks/{}.ipynb"``.
    """
    lines = ["| the paper's claim | the paper | here | verdict |", "|---|---|---|---|"]
    for row in board.itertuples():
        ours = f"{row.ours} ({row.basis})" if row.basis else ""
        lines.append(
            f"| [{row.claim}]({link.format(row.page)}) ({row.source}) | {row.paper} | {ours} "
            f"| **{row.verdict}** |"
        )
    return "\n".join(lines)
