"""What runs say to a claim: cases, one rule for leads, one verdict, and how these are shown."""

from dataclasses import dataclass
from math import inf, isfinite, isnan, nan

import pandas as pd
from scipy.stats import t as student

WORDS = {"all": "reproduced", "some": "partly reproduced", "none": "not reproduced"}
# What is too short, or whose chance is not known, cannot reproduce a claim, or refute it.
HINTS = {"all": "points that way", "some": "mixed so far", "none": "points the other way"}
TOLERANCE = 0.1  # dB; what is as good as something else may be this much worse


@dataclass(frozen=True)
class Noise:
    """How much the PSNR of a kind of run differs by chance.

    Attributes
    ----------
    sd : float
        Standard deviation over seeds in dB.
    freedom : int
        Its degrees of freedom.
    """

    sd: float
    freedom: int

    @property
    def basis(self):
        """What it rests on, in words."""
        return f"{self.freedom} repetition{'s' if self.freedom > 1 else ''} with another seed"

    @classmethod
    def of(cls, psnr):
        """Return the noise of some runs that differ in their seed alone.

        Parameters
        ----------
        psnr : pandas.Series of float
            In dB, a value a seed; of what diverged, not a number.

        Returns
        -------
        Noise or None
            None if there are fewer than two.
        """
        psnr = psnr.dropna()
        return cls(float(psnr.std()), len(psnr) - 1) if len(psnr) > 1 else None

    @classmethod
    def pooled(cls, groups):
        """Return the noise that several kinds of runs have in common, or None without any.

        Parameters
        ----------
        groups : list of pandas.Series of float
            As `of` takes them, one a kind.
        """
        parts = [part for part in map(cls.of, groups) if part]
        if not parts:
            return None
        freedom = sum(part.freedom for part in parts)
        squares = sum(part.sd**2 * part.freedom for part in parts)
        return cls((squares / freedom) ** 0.5, freedom)

    def bar(self, *seeds):
        """Return the difference in dB that chance exceeds one time in twenty, either way.

        Parameters
        ----------
        *seeds : int
            The number of seeds on either side of a difference between runs of this noise.
        """
        quantile = float(student.ppf(0.975, self.freedom))
        return quantile * self.sd * sum(1 / n for n in seeds) ** 0.5


def _bar(noises, seeds):
    """Return what chance does to a difference whose sides have noises of their own.

    Student's t for unequal variances (Welch 1947).
    """
    if None in noises:
        return nan
    parts = [noise.sd**2 / n for noise, n in zip(noises, seeds, strict=True)]
    share = sum(part**2 / noise.freedom for part, noise in zip(parts, noises, strict=True))
    if not share:
        return 0.0
    return float(student.ppf(0.975, sum(parts) ** 2 / share)) * sum(parts) ** 0.5


@dataclass(frozen=True)
class Case:
    """One comparison: a difference in dB that a claim says something about.

    Attributes
    ----------
    label : str
        What is compared, in a few words.
    ours : float
        Our difference; not a number where runs are missing, infinite where one side diverged.
    paper : float
        The paper's; not a number where it has none.
    bar : float
        What chance alone reaches; not a number where that is not known.
    seeds : int
        Of the side that has fewer.
    wants : {"above", "below", "level"}
        Whether the claim wants it above the bar, below its negative, or not lower than -0.1 dB.
    """

    label: str
    ours: float
    paper: float = nan
    bar: float = nan
    seeds: int = 1
    wants: str = "above"

    @property
    def known(self):
        """Whether there are runs."""
        return not isnan(self.ours)

    @property
    def holds(self):
        """Whether it is as claimed."""
        bar = 0 if isnan(self.bar) else self.bar
        if self.wants == "level":
            return self.ours > -TOLERANCE
        return self.ours > bar if self.wants == "above" else self.ours < -bar

    @property
    def answer(self):
        """Whether it is as claimed, in words; by its sign alone where chance is not known."""
        if not self.known:
            return "not run"
        word = "yes" if self.holds else "no"
        return f"{word}, by sign" if isnan(self.bar) and self.wants != "level" else word


def case(label, one, other, *, noise=None, paper=nan, wants="above"):
    """Return the comparison of some runs with others, or with a number.

    By their own spread if there are three seeds or more on both sides, else by that of a study of
    chance, if it has been made.

    Parameters
    ----------
    label : str
    one, other : pandas.Series of float, or float
        PSNR in dB, a value a seed; not a number where the run diverged, empty where it was not
        made. A number has no spread.
    noise : Noise or pair of Noise, optional
        Of both sides, or of each.
    paper, wants
        As in `Case`.
    """
    sides = [side for side in (one, other) if isinstance(side, pd.Series)]
    counts = [len(side) for side in sides]
    if not all(counts):
        return Case(label, nan, paper, wants=wants, seeds=0)
    lost = [isinstance(side, pd.Series) and side.isna().any() for side in (one, other)]
    if any(lost):
        ahead = wants == "below" if all(lost) else lost[1]  # where both diverged, it fails
        return Case(label, inf if ahead else -inf, paper, 0.0, min(counts), wants)
    means = [side.mean() if isinstance(side, pd.Series) else side for side in (one, other)]
    if min(counts) >= 3:
        noise = tuple(map(Noise.of, sides))
    if noise is None:
        bar = nan
    else:
        bar = _bar(noise, counts) if isinstance(noise, tuple) else noise.bar(*counts)
    return Case(label, float(means[0] - means[1]), paper, bar, min(counts), wants)


@dataclass(frozen=True)
class Finding:
    """A claim, and what the records say to it.

    Attributes
    ----------
    name : str
        For looking it up.
    claim : str
        A sentence in our words.
    source : str
        Where in the paper it stands.
    page : str
        The notebook that shows it.
    cases : tuple of Case
    preset : str
        Which runs.
    theirs : str
        What the paper offers where it has no numbers for the cases.
    network : str
        What was measured, where that is no run of a preset.
    caution : str
        Words without which the differences would mislead.
    """

    name: str
    claim: str
    source: str
    page: str
    cases: tuple
    preset: str
    theirs: str = ""
    network: str = ""
    caution: str = ""

    @property
    def verdict(self):
        """One word for all cases; "not run" as long as one has no runs."""
        if not self.cases or not all(case.known for case in self.cases):
            return "not run"
        good = sum(case.holds for case in self.cases)
        answer = "all" if good == len(self.cases) else "some" if good else "none"
        whole = self.preset == "paper" or self.network
        judged = whole and not any(isnan(case.bar) for case in self.cases)
        return (WORDS if judged else HINTS)[answer]

    @property
    def seeds(self):
        """Of the case that has fewest."""
        return min((case.seeds for case in self.cases), default=0)

    def row(self):
        """Return the scoreboard's row: claim, source, page, paper, ours, verdict, basis."""
        known = [case for case in self.cases if case.known]
        ours = basis = ""
        if self.verdict != "not run":
            good = sum(case.holds for case in known)
            count = f"; holds in {good} of {len(known)}" if len(known) > 1 else ""
            label = f"{known[0].label}: " if len(known) == 1 else ""
            ours = f"{label}{span([case.ours for case in known])}{count}"
            ours += f"; {self.caution}" if self.caution else ""
            runs = f"`{self.preset}`, {self.seeds} seed{'s' if self.seeds > 1 else ''}"
            basis = self.network or runs
        reported = [case.paper for case in self.cases if not isnan(case.paper)]
        return {
            "claim": self.claim, "source": self.source, "page": self.page,
            "paper": span(reported) if reported else self.theirs, "ours": ours,
            "verdict": self.verdict, "basis": basis,
        }  # fmt: skip

    def table(self):
        """Return the cases as a table: differences in dB, and whether each is as claimed."""
        columns = ["case", "paper", "ours", "chance reaches", "seeds", "as claimed"]
        rows = [(c.label, c.paper, c.ours, c.bar, c.seeds, c.answer) for c in self.cases]
        return pd.DataFrame(rows, columns=columns).set_index("case")

    def shown(self):
        """Return `table` as a page shows it: with signs, and in words where a side diverged."""
        table = self.table()
        bar = "chance reaches"
        table[bar] = table[bar].mask(table.ours.abs() == inf)  # it has no part in the answer then
        style = table.style.format(precision=2, na_rep="–")
        return style.format(_in_words, ["paper", "ours"], na_rep="–")

    def number(self, label=""):
        """Return differences as text for a sentence: from the smallest to the largest.

        Parameters
        ----------
        label : str
            Part of the labels of the cases that are meant; all by default.
        """
        known = [case.ours for case in self.cases if label in case.label and case.known]
        return span(known) or "(not run)"


def signed(value):
    """Return a difference as text, to two decimals, or to three where two would be zero."""
    return f"{value:+.2f}" if round(value, 2) else f"{value:+.3f}"


def _in_words(value):
    return signed(value) if isfinite(value) else ("other diverged" if value > 0 else "diverged")


def span(values):
    """Return in words from where to where some differences go, in dB, and which side diverged."""
    known = [value for value in values if isfinite(value)]
    words = diverged(values)
    if known:
        low, high = signed(min(known)), signed(max(known))
        words.insert(0, f"{low} dB" if low == high else f"{low} to {high} dB")
    return "; ".join(words)


def diverged(values):
    """Return in words how many of some differences are none, and which side diverged."""
    sides = {"where the other diverged": values.count(inf), "diverged": values.count(-inf)}
    return [f"{count} {side}" for side, count in sides.items() if count]


def board(findings):
    """Return the scoreboard of some findings, a row each."""
    return pd.DataFrame([finding.row() for finding in findings])


def as_markdown(table, link):
    """Return the scoreboard as a Markdown table.

    Parameters
    ----------
    table : pandas.DataFrame
        From `board`.
    link : str
        What a page's name is put into, such as ``"notebooks/{}.ipynb"``.
    """
    lines = ["| claim | verdict | here | the paper |", "|---|---|---|---|"]
    for row in table.itertuples():
        ours = f"{row.ours} ({row.basis})" if row.basis else ""
        lines.append(
            f"| [{row.claim}]({link.format(row.page)}) ({row.source}) | **{row.verdict}** "
            f"| {ours} | {row.paper} |"
        )
    return "\n".join(lines)
