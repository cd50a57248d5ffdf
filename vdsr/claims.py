"""The paper's claims, and the rules by which recorded rows answer them."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import pandas as pd

from .model import receptive_field
from .paper import as_table1, as_table2, depth_gain, field_gains, final, table
from .train import TrainConfig

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
        seeds = _seeds(scores)
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


def _seeds(scores):
    """Return how many seeds there are of the config that has the fewest."""
    if "seed" not in scores:
        return 1
    config = [f.name for f in fields(TrainConfig) if f.name in scores and f.name != "seed"]
    if not config:
        return scores.seed.nunique()
    return int(scores.groupby(config, dropna=False).seed.nunique().min())


def _grade(good, of):
    """Return the verdict if that many of some cases are as claimed."""
    return HOLDS if good == of else PARTLY if good else FAILS


def _range(values):
    low, high = f"{min(values):+.2f}", f"{max(values):+.2f}"
    return f"{low} dB" if low == high else f"{low} to {high} dB"


def _high_rate(histories):
    last = final(histories)
    kinds = last.groupby(["learning_rate", "clipping"]).psnr.agg(lambda s: s.mean(skipna=False))
    at_high, at_low = (kinds.get((rate, "adjustable")) for rate in (0.1, 0.001))
    bare = kinds.get((0.1, "none"), "missing")
    if at_high is None or at_low is None or isinstance(bare, str):
        return None
    stable = bool(pd.notna(at_high) and at_high > at_low)
    needed = bool(pd.isna(bare) or bare < at_high - 0.1)
    ours = (
        f"0.1 ends {at_high - at_low:+.2f} dB from 0.001; without clipping it "
        + ("diverges" if pd.isna(bare) else f"ends {bare - at_high:+.2f} dB from that")
    )  # fmt: skip
    return _grade(stable + (stable and needed), 2), "trains stably at 0.1, SRCNN at 1e-5", ours


def _depth(histories):
    gains = depth_gain(histories)
    if gains.empty or (gains["from depth"] == gains["to depth"]).all():
        return None
    better = (gains.gain > 2 * gains["standard error"].fillna(0)).sum()
    reported = gains["paper's gain"]
    ends = f"D={gains['from depth'][0]} to {gains['to depth'][0]}"
    return (
        _grade(better, len(gains)),
        f"{_range(reported)} ({ends})",
        f"{_range(gains.gain)}, better at {better} of {len(gains)} scales",
    )


def _field(histories):
    scores = final(histories)
    gains = field_gains(scores.assign(field=receptive_field(scores.depth, scores.dilation)))
    if not gains:
        return None
    better = sum(gain > 0 for gain in gains)
    return (
        _grade(better, len(gains)),
        "no run of it",
        f"{_range(gains)} by dilation alone, better in {better} of {len(gains)} cases",
    )


def _table1(histories):
    scores = as_table1(histories)
    ours = scores.groupby(["network", "learning_rate", "epoch"]).psnr.mean()
    theirs = table("table1").set_index(["network", "learning_rate", "epoch"]).psnr
    return ours, theirs


def _fast(histories):
    ours, theirs = _table1(histories)
    early, late = ("residual", 0.1, 10), ("residual", 0.001, 80)
    if not {early, late} <= set(ours.index):
        return None
    lead = ours[early] - ours[late]
    return (
        HOLDS if lead > 0 else FAILS,
        f"{theirs[early] - theirs[late]:+.2f} dB ({theirs[early]:.2f}, {theirs[late]:.2f})",
        f"{lead:+.2f} dB ({ours[early]:.2f}, {ours[late]:.2f})",
    )


def _residual(histories):
    ours, theirs = (x.unstack("network") for x in _table1(histories))
    ours = ours.reindex(columns=["residual", "non-residual"]).dropna()
    if ours.empty:
        return None
    leads, paper = (x["residual"] - x["non-residual"] for x in (ours, theirs))
    ends = [i for i in ours.index if i[1] in (10, 80) and i in paper.index]
    leads, paper = leads[ends], paper[ends]
    better = (leads > 0).sum()
    return (
        _grade(better, len(leads)),
        _range(paper),
        f"{_range(leads)}, ahead in {better} of {len(leads)} (early and late, by rate)",
    )


def _table2(histories):
    cells = ["train_scales", "test_scale"]
    ours = as_table2(histories).groupby(cells).psnr.mean().unstack()
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
        return lost, f"{_range(gains)} from bicubic, below it in {below} of {len(cells)} cells"

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
    return _grade(kept, 3), _range(paper), f"{_range(leads)}, no worse at {kept} of 3 scales"


def _fractions(histories):
    ours, _ = _table2(histories)
    scales = [1.5, 2.5, 3.5]
    if not {"3", "2,3,4"} <= set(ours.index) or not set(scales) <= set(ours):
        return None
    bicubic = histories.groupby("scale").bicubic.first()
    leads = [ours.loc["2,3,4", s] - ours.loc["3", s] for s in scales]
    gains = [ours.loc["2,3,4", s] - bicubic[s] for s in scales]
    better = sum(min(pair) > 0 for pair in zip(leads, gains, strict=True))
    return (
        _grade(better, 3),
        "pictures alone",
        f"{_range(leads)} from the ×3 network, {_range(gains)} from bicubic; "
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
    three = histories[histories.scale == 3]
    new, old = (three[three.architecture == name] for name in ("VDSR", "SRCNN 9-1-5"))
    time = min(new.seconds.max(), old.seconds.max())
    new, old = new[new.seconds <= time].psnr, old[old.seconds <= time].psnr
    if new.empty or old.empty:
        return None
    lead = new.max() - old.max()
    return (
        HOLDS if lead > 0 else FAILS,
        "4 hours against days",
        f"{lead:+.2f} dB from SRCNN's best at ×3, after {time:,.0f} s of training each",
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
        f"{_range(theirs['VDSR'] - rivals)} from the best of the others",
        f"{_range(leads)}, better in {better} of {len(leads)} cells",
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
