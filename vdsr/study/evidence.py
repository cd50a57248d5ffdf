"""What a study is made of: its runs as far as they are recorded, and what to ask of them."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from math import isnan

import pandas as pd

from .. import ledger
from ..config import TrainConfig, run_id
from ..evaluate import evaluate
from ..runs import train_all
from . import configs, paper, table3
from .findings import Noise

SEEDS = 3  # as many as are shown, if they are recorded
KIND = [f.name for f in fields(TrainConfig) if not f.metadata.get("scoring") and f.name != "seed"]


@dataclass(frozen=True)
class Study:
    """A question, the runs that answer it, and how they do.

    Attributes
    ----------
    name : str
        Its notebook's, too, if it has one.
    question : str
        A sentence for a newcomer.
    runs : callable
        Preset to list of TrainConfig.
    findings : callable
        `Evidence` to list of `vdsr.study.findings.Finding`; it trains and measures nothing.
    images : str
        The image set that answers, with the paper's images.
    page : bool
        Whether it has a notebook of its own.
    papers : bool
        Whether it asks about the paper; others are about recipes of today.
    more : callable
        Preset and missing to whatever the findings take beside the runs.
    others : callable
        Preset to runs of other studies whose networks are measured for this one.
    measure : callable, optional
        Preset and deadline (a value of `time.monotonic`, or None) to whether all is there that
        the networks are measured for; what is missing is measured and recorded.
    """

    name: str
    question: str
    runs: Callable
    findings: Callable
    images: str = "Set5"
    page: bool = True
    papers: bool = True
    more: Callable = field(default=lambda preset, missing: None)
    others: Callable = field(default=lambda preset: [])
    measure: Callable | None = None


@dataclass(frozen=True)
class Evidence:
    """A study's runs, as far as there are any; what a notebook starts from.

    Attributes
    ----------
    study : Study
    preset : str
    configs : list of TrainConfig
        The runs there should be.
    histories : pandas.DataFrame
        From `vdsr.train_all`, on all image sets; further seeds are there if they are recorded.
    missing : {"train", "skip"}
    """

    study: Study
    preset: str
    configs: list
    histories: pd.DataFrame
    missing: str

    @property
    def images(self):
        """The image set that answers."""
        return self.study.images if self.public else "samples-test"

    @property
    def public(self):
        """Whether the images are the paper's, so that its numbers can stand beside ours."""
        return table3.public(self.preset)

    @property
    def scales(self):
        """The scales that the study asks for, ascending."""
        return sorted({scale for config in self.configs for scale in config.eval_scales})

    @property
    def rows(self):
        """The histories' rows of the image set that answers, at the scales the study asks for.

        Runs that it shares may have been scored on more for others.
        """
        known = self.histories
        return known[(known.dataset == self.images) & known.scale.isin(self.scales)]

    @property
    def final(self):
        """The rows of the last step of each run."""
        return final(self.rows)

    @cached_property
    def noise(self):
        """What chance does to the end of a run of the paper's length, once that is recorded."""
        return self.noise_at(80)

    def noise_at(self, epoch, residual=True, rate=0.1):
        """Return what chance does to Table 1's network after some of the paper's 80 epochs.

        Or to its plain twin. None until all three seeds are recorded, since the spread of two
        runs is itself a matter of luck, and at a rate at which no seeds are asked for.
        """
        if self.preset != "paper":
            return None
        kind = residual, rate
        chosen = [c for c in configs.noise("paper") if (c.residual, c.learning_rate) == kind]
        rows = train_all(chosen, missing="skip")
        psnr = rows[(rows.dataset == "Set5") & (rows.epoch == epoch)].psnr
        return Noise.of(psnr) if chosen and len(psnr) == len(chosen) else None

    @cached_property
    def bicubic(self):
        """Interpolation's PSNR in dB on the images, by scale."""
        return bicubic(self.images, self.scales)

    @cached_property
    def more(self):
        """What the findings take beside the runs."""
        return self.study.more(self.preset, self.missing)

    @cached_property
    def findings(self):
        """What the runs say to the claims."""
        return self.study.findings(self)

    def finding(self, name):
        """Return one of the findings."""
        return next(finding for finding in self.findings if finding.name == name)

    @property
    def caption(self):
        """What the runs are, in sentences: how many, how long, on what, with how many seeds."""
        return caption(self)

    @property
    def gains(self):
        """The rows with the gain over bicubic interpolation in dB."""
        return self.rows.assign(gain=self.rows.psnr - self.rows.scale.map(self.bicubic))

    def beside(self, name, rows, by):
        """Return one of the paper's tables with our rows beside it, where the images are its own.

        Parameters
        ----------
        name : str
            As `vdsr.study.paper.table` takes it.
        rows : pandas.DataFrame
            Ours: the columns of `by`, and psnr in dB; several rows of a kind are seeds.
        by : list of str

        Returns
        -------
        pandas.DataFrame
            From `beside`.
        """
        return beside(rows if self.public else rows[:0], paper.table(name), by)

    def psnr(self, **chosen):
        """Return the PSNR of the final rows in which columns have the given values."""
        return pick(self.final, **chosen)


def further_seeds(configs):
    """Return some runs with other seeds, as far as these are shown, by identity."""
    listed = {run_id(config) for config in configs}
    seeds = [replace(config, seed=seed) for config in configs for seed in range(SEEDS)]
    others = {run_id(config): config for config in seeds}
    return {identity: config for identity, config in others.items() if identity not in listed}


def with_seeds(configs, histories):
    """Return the histories of some runs, and those of their further seeds that are recorded."""
    others = train_all([*further_seeds(configs).values()], missing="skip")
    tables = [table for table in (histories, others) if len(table)]
    return pd.concat(tables or [histories]).reset_index(drop=True)


def final(histories):
    """Return the rows of `vdsr.train_all` that belong to the last step of each run."""
    return histories[histories.step == histories.groupby("run").step.transform("max")]


def pick(rows, **chosen):
    """Return the PSNR of the rows in which columns have the given values, one a seed."""
    for column, value in chosen.items():
        rows = rows[rows[column] == value]
    return rows.psnr


def bicubic(images, scales):
    """Return interpolation's PSNR in dB by scale, as recorded or measured now."""
    known = ledger.table("bicubic")
    known = known[known.dataset == images].set_index("scale")
    return {
        scale: known.psnr[scale] if scale in known.index
        else evaluate(None, images, scale).psnr.mean()
        for scale in scales
    }  # fmt: skip


def caption(evidence):
    """Return in sentences what the runs of a study are, and what chance does if that is used."""
    rows, configs = evidence.histories, evidence.configs
    asked = {run_id(config) for config in configs}
    done = len(asked & set(rows.run))
    if not done:
        return f"None of the study's {len(asked)} runs is recorded."
    steps = rows.groupby("run").step.max()
    length = " to ".join(f"{n:,}" for n in sorted({steps.min(), steps.max()}))
    batches = sorted({*rows.batch_size})
    layers = sorted({*rows.depth[rows.architecture == "VDSR"]})
    depth = f", of {_list(layers)} layers" if layers else ""
    seeds = rows.groupby(KIND, dropna=False).seed.nunique()
    spread = f"{seeds.min()} to {seeds.max()}" if seeds.min() < seeds.max() else f"{seeds.max()}"
    sentences = [
        f"{done} of {len(asked)} runs{depth}, each of {length} steps of {_list(batches)} patches "
        f"from {configs[0].train_set}; scored on {evidence.images}; {spread} "
        f"seed{'s' if seeds.max() > 1 else ''} each."
    ]
    # Where no comparison of the page has a bar, a reader would take this one for theirs.
    bars = [case.bar for finding in evidence.findings for case in finding.cases if case.known]
    if evidence.noise and not (bars and all(map(isnan, bars))):
        bar, sd = evidence.noise.bar(1, 1), evidence.noise.sd
        sentences.append(
            f"How much does chance do? It was measured with one network, the residual network of "
            f"the paper's Table 1: ten layers, trained and scored at ×2, on Set5. Trained again "
            f"with other random numbers, it ends with a PSNR whose standard deviation is "
            f"{sd:.3f} dB ({evidence.noise.basis}). So few repetitions tell that only roughly. "
            f"To be safe, two single runs must differ by more than {bar:.2f} dB before the "
            f"difference counts. "
            f"Other networks, images and optimisers may vary more."
        )
    return " ".join(sentences)


def _list(items):
    *others, last = map(str, items)
    return f"{', '.join(others)} and {last}" if others else last


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
    means = groups.agg(lambda values: values.mean(skipna=False))
    ours = pd.DataFrame({"ours": means, "sd": groups.std(), "seeds": groups.size()})
    both = reported.set_index(by).psnr.rename("paper").to_frame().join(ours)
    both["difference"] = both.ours - both.paper
    return both.reset_index()
