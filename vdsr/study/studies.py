"""Every study as one record: its question, its runs, and what they say to the paper's claims."""

from dataclasses import replace
from math import nan

import pandas as pd

from ..checks import shown
from ..config import run_id
from ..model import receptive_field
from ..runs import train_all
from . import configs, paper, table3
from .cost import announce
from .evidence import SEEDS, Evidence, Study, final, pick, with_seeds
from .findings import Case, Finding, Noise, case


def load(name, preset="auto", *, refresh=False, missing="train"):
    """Return a study's evidence: recorded runs are loaded, missing ones are trained.

    Parameters
    ----------
    name : str
        A key of `STUDIES`.
    preset : {"auto", "smoke", "quick", "paper"}
        ``"auto"`` is ``"paper"`` where there is a CUDA GPU and ``"quick"`` elsewhere. ``"paper"``
        says on a CPU how many hours are missing before it starts.
    refresh : bool
        Train again what is already there.
    missing : {"train", "skip"}
        Whether to train what is missing, or to leave it out.

    Returns
    -------
    Evidence

    Raises
    ------
    TypeError
        If `refresh` is not True or False.
    ValueError
        For an unknown name or preset, another `missing`, or if that is "skip" and `refresh` True.
    """
    if not isinstance(name, str) or name not in STUDIES:
        raise ValueError(f"unknown study {shown(name)}; known are {', '.join(STUDIES)}")
    study = STUDIES[name]
    preset, _ = configs.preset_config(preset)
    chosen = study.runs(preset)
    if missing == "train" and preset == "paper":
        announce(chosen, refresh)
    histories = with_seeds(chosen, train_all(chosen, refresh=refresh, missing=missing))
    return Evidence(study, preset, chosen, histories, missing)


def as_table1(rows):
    """Return rows of the study of residual learning with Table 1's columns.

    Epochs are counted as the paper's: in a schedule of 8 epochs, the first is its tenth.
    """
    return rows.assign(
        network=rows.residual.map({True: "residual", False: "non-residual"}),
        epoch=80 * rows.epoch / rows.epochs,
    )


def as_table2(rows):
    """Return final rows of the study of scales with Table 2's columns."""
    return rows.assign(train_scales=rows.scales.str.replace(" ", ","), test_scale=rows.scale)


def as_field(rows):
    """Return rows with the side of the receptive field in pixels."""
    return rows.assign(field=list(map(receptive_field, rows.depth, rows.dilation)))


def chosen_theta(evidence):
    """Return the θ that the search's rule picks; None until it is run, or if all diverged.

    The rule was written down before the runs: the highest gain on BSD10 at the end; and if others
    come within 0.02 dB of it, the middle one of these, the smaller of two middle ones.
    """
    reference = evidence.configs[0]
    candidates = [c for c in evidence.configs if replace(c, theta=reference.theta) == reference]
    ids = {run_id(replace(c, seed=seed)) for c in candidates for seed in range(SEEDS)}
    psnr = evidence.final[evidence.final.run.isin(ids)].groupby("theta").psnr.mean()
    if not {c.theta for c in candidates} <= set(psnr.index) or psnr.isna().all():
        return None
    close = sorted(psnr[psnr >= psnr.max() - 0.02].index)
    return close[(len(close) - 1) // 2]


def chosen_changes(evidence):
    """Return the settings that the search of `optimisers` changes in the long run, by name.

    The rule was written down before the runs: on BSD10, mean over the scales at the end, a change
    is taken if it gains 0.01 dB on the first training, and of several of one setting the best.
    Parts of a training, and other optimisers, are no changes of a setting.

    Returns
    -------
    dict or None
        None until all of them are recorded.
    """
    start = evidence.configs[0]
    ends = final(evidence.histories)
    psnr = ends[ends.dataset == "BSD10"].groupby("run").psnr.mean()
    best = {}
    for config in evidence.configs[1:]:
        changed = [name for name, value in vars(start).items() if getattr(config, name) != value]
        if len(changed) > 1:
            continue
        if {run_id(start), run_id(config)} - {*psnr.index}:
            return None
        [name], gain = changed, psnr[run_id(config)] - psnr[run_id(start)]
        if gain >= max(0.01, best.get(name, (0.0,))[0]):
            best[name] = gain, getattr(config, name)
    return {name: value for name, (_, value) in best.items()}


def epoch_lengths(rows):
    """Return how many of our steps each of the paper's points at a constant rate is worth.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of residual networks while their rate is the one they started at: learning_rate, step, and
        psnr in dB on Set5 at ×2; several rows of a step are averaged.

    Returns
    -------
    pandas.DataFrame
        A row a point of the paper's that was reached: learning_rate, epoch, psnr in dB, step
        (interpolated on a logarithmic axis), and their ratio, steps an epoch.
    """
    lengths = []
    for point in paper.table("figure4").itertuples():
        curve = rows[rows.learning_rate == point.learning_rate].groupby("step").psnr.mean()
        above = curve[curve >= point.psnr]
        if above.empty or above.index[0] == curve.index[0]:
            continue
        after = above.index[0]
        before = curve.index[curve.index < after][-1]
        share = (point.psnr - curve[before]) / (curve[after] - curve[before])
        step = before * (after / before) ** share
        row = {"learning_rate": point.learning_rate, "epoch": point.epoch, "psnr": point.psnr}
        lengths.append(row | {"step": step, "steps an epoch": step / point.epoch})
    columns = ["learning_rate", "epoch", "psnr", "step", "steps an epoch"]
    return pd.DataFrame(lengths, columns=columns)


def _no_claim(e):
    """Answer a question that the paper claims nothing about."""
    return []


def _residual(e):
    rows, printed = as_table1(e.rows), paper.table("table1")
    cases = []
    for rate in sorted({c.learning_rate for c in e.configs}, reverse=True):
        for epoch, when in ((10, "after an eighth"), (80, "at the end")):
            at = {"learning_rate": rate, "epoch": epoch}
            theirs = [pick(printed, network=n, **at) for n in ("residual", "non-residual")]
            ours = [pick(rows, network=n, **at) for n in ("residual", "non-residual")]
            gap = (
                theirs[0].iloc[0] - theirs[1].iloc[0] if e.public and all(map(len, theirs)) else nan
            )
            chance = tuple(e.noise_at(epoch, kind, rate) for kind in (True, False))
            cases.append(case(f"rate {rate:g}, {when}", *ours, noise=chance, paper=gap))
    early = pick(rows, network="residual", learning_rate=0.1, epoch=10)
    late = pick(rows, network="residual", learning_rate=0.001, epoch=80)
    fast = case("0.1 after an eighth, less 0.001 at the end", early, late,
                noise=(e.noise_at(10), e.noise_at(80, rate=0.001)),
                paper=36.90 - 36.52 if e.public else nan)  # fmt: skip
    return [
        _finding(e, "residual", "A network that predicts the residual learns faster, and ends "
                  "better, than one that predicts the image", "Table 1, Fig. 4", cases,
                  caution="early on, and at 0.1, smaller with a smaller θ"),
        _finding(e, "fast", "At a learning rate of 0.1, an eighth of the training gives more than "
                  "all of it at 0.001", "Table 1", [fast]),
    ]  # fmt: skip


def _finding(e, name, claim, source, cases, theirs="", caution=""):
    """Return a finding that its study's own page shows.

    Of what is to be said with care of the paper's length, nothing is known at another.
    """
    caution = caution if e.preset == "paper" else ""
    page = e.study.name
    return Finding(name, claim, source, page, tuple(cases), e.preset, theirs, caution=caution)


def _depth(e):
    depths = sorted({c.depth for c in e.configs})
    shallow, deep = depths[0], (20 if 20 in depths else depths[-1])
    printed = paper.table("figure3")
    cases = []
    for scale in e.configs[0].eval_scales:
        theirs = [pick(printed, scale=scale, depth=d) for d in (deep, shallow)]
        gap = theirs[0].iloc[0] - theirs[1].iloc[0] if e.public and all(map(len, theirs)) else nan
        ours = [e.psnr(scale=scale, depth=d) for d in (deep, shallow)]
        label = f"×{scale:g}, {deep} layers less {shallow}"
        cases.append(case(label, *ours, noise=e.noise, paper=gap))
    claim = f"Deeper networks are better: {deep} layers against {shallow}"
    caution = "our five layers end low, at ×2 above all"
    return [_finding(e, "depth", claim, "Fig. 3", cases, caution=caution)]


def _scales(e):
    rows, printed = as_table2(e.final), paper.table("table2")
    whole = (2, 3, 4)

    def cells(table, trained, tested):
        return pick(table, train_scales=trained, test_scale=tested)

    def theirs(one, other, scale):
        found = [cells(printed, name, scale) for name in (one, other)]
        return found[0].iloc[0] - found[1].iloc[0] if e.public and all(map(len, found)) else nan

    elsewhere = [
        case(f"trained for ×{a}, at ×{b}", cells(rows, f"{a}", b), cells(rows, f"{b}", b),
             noise=e.noise, paper=theirs(f"{a}", f"{b}", b), wants="below")
        for a in whole for b in whole if a != b
    ]  # fmt: skip
    one_for_all = [
        case(f"×{s}, three scales less one", cells(rows, "2,3,4", s), cells(rows, f"{s}", s),
             noise=e.noise, paper=theirs("2,3,4", f"{s}", s), wants="level")
        for s in whole
    ]  # fmt: skip
    between = []
    for s in (1.5, 2.5, 3.5):
        if s not in set(rows.test_scale):
            continue
        ours = cells(rows, "2,3,4", s)
        between.append(case(f"×{s}, less bicubic", ours, float(e.bicubic[s]), noise=e.noise))
        if s > 2:  # the ×3 network spoils what lies far below its scale, so that anything beats it
            label = f"×{s}, less the ×3 network"
            between.append(case(label, ours, cells(rows, "3", s), noise=e.noise))
    return [
        _finding(e, "elsewhere", "A network trained for one scale is worse at another scale than "
                  "the network trained for that", "Table 2", elsewhere),
        _finding(e, "one_for_all", "One network for three scales is as good as three networks",
                  "Table 2", one_for_all),
        _finding(e, "between", "One network also serves fractional scales, better than bicubic "
                  "and than the ×3 network", "Fig. 5", between, "pictures alone"),
    ]  # fmt: skip


def _context(e):
    rows = as_field(e.final)

    def chance(scale):
        """Return that of the networks for this scale that have three seeds, or Table 1's."""
        kinds = rows[rows.scales == f"{scale}"].groupby(["depth", "dilation"]).psnr
        return Noise.pooled([kind for _, kind in kinds if len(kind) >= SEEDS]) or e.noise

    def at(scale):
        fields, cases = {}, []
        noise = chance(scale) if e.noise else None
        for c in e.configs:
            if c.scales == (scale,):
                fields.setdefault(c.depth, set()).add(receptive_field(c.depth, c.dilation))
        for depth, (narrow, *wider) in sorted((d, sorted(sides)) for d, sides in fields.items()):
            for wide in wider:
                places = [{"depth": depth, "field": side} for side in (wide, narrow)]
                ours = [pick(rows, scales=f"{scale}", scale=scale, **place) for place in places]
                label = f"×{scale}, {depth} layers: {wide} pixels less {narrow}"
                cases.append(case(label, *ours, noise=noise))
        return cases

    return [
        _finding(e, name, f"At ×{scale} a field widened by dilation is better, at equal depth "
                 "and weights", "our test of §4.1", at(scale), "no run of it")
        for name, scale in (("context", 2), ("context4", 4))
    ]  # fmt: skip


def _clipping(e):
    def runs(kind, rate):
        """Return the PSNR of each run, its mean over the scales, at the best bound by BSD10."""
        rows = final(e.histories)
        rows = rows[(rows.clipping == kind) & (rows.learning_rate == rate)]
        choice = rows[rows.dataset == "BSD10"].groupby("theta").psnr.mean()
        rows = rows[(rows.dataset == e.images) & rows.scale.isin(e.scales)]
        if len(choice.dropna()):
            rows = rows[rows.theta == choice.idxmax()]
        return rows.groupby("run").psnr.agg(lambda values: values.mean(skipna=False))

    def unclipped():
        """Return the comparison with the largest rate at which SGD survives without clipping."""
        for rate in slow:
            found = runs("none", rate)
            if found.empty or found.notna().all():  # not made yet, or made and survived
                break
        return less(f"{rate:g}, no clipping, the largest that survives", rate, found)

    def less(text, rate, other):
        # One spread is of both sides at one rate. It does not speak for a side at another rate.
        chance = e.noise if rate == 0.1 else (e.noise, e.noise_at(80, rate=rate))
        return case(f"0.1, adjustable, less {text}", high, other, noise=chance)

    slow = sorted({c.learning_rate for c in e.configs if c.clipping == "none"}, reverse=True)[1:]
    high = runs("adjustable", 0.1)
    cases = [
        less("0.001, adjustable", 0.001, runs("adjustable", 0.001)),
        less("0.1, no clipping", 0.1, runs("none", 0.1)),
        less("0.1, values at a constant bound", 0.1, runs("value", 0.1)),
        less("0.1, the norm at a constant bound", 0.1, runs("norm", 0.1)),
        *([unclipped()] if slow else []),
    ]
    return [_finding(e, "clipping", "Adjustable clipping makes a learning rate of 0.1 safe, and "
                      "better than low rates or other clipping", "§3.2, with our test", cases,
                      "trains stably at 0.1, SRCNN at 1e-5")]  # fmt: skip


def _srcnn(e):
    profile = e.more.pivot(index="distance", columns="method", values="psnr")
    gain = profile["zero padding"] - profile["bicubic"]
    # The authors' own network says it, so that no chance of a training of ours is in it.
    border = Case("outermost pixel: gain over bicubic, less half the mean gain",
                  float(gain[0] - gain.mean() / 2), bar=0.0 if e.public else nan)  # fmt: skip
    rows = e.rows[e.rows.scale == 3]
    sides = [rows[rows.architecture == name] for name in ("VDSR", "SRCNN 9-1-5")]
    work = min(side.tflop.max() for side in sides)

    def then(side):
        """Return the PSNR of each seed at that work, of the better network where there are two."""
        last = side[side.tflop <= work].sort_values("tflop").groupby(["seed", "run"]).tail(1)
        return last.groupby("seed").psnr.max()

    race = case("×3, after equal work", *map(then, sides), noise=e.noise)
    return [
        _finding(e, "race", "Trained for ×3, the deep network learns faster than SRCNN",
                  "§1, §3.2", [race], "4 hours against days"),
        Finding("border", "Zero padding predicts border pixels well, too", "§3.1, our bound",
                e.study.name,
                (border,), e.preset, "stated without numbers",
                "the authors' weights" if e.public else ""),
    ]  # fmt: skip


def _benchmark(e):
    printed = paper.table("table3").set_index(["method", "dataset", "scale"]).psnr
    rivals = printed.drop(["VDSR", "bicubic"], level="method").groupby(["dataset", "scale"]).max()
    ours = e.more.groupby(["method", "dataset", "scale"]).psnr.mean()
    recipe = final(e.histories[e.histories.optimizer == "sgd"])
    cases = []
    for (dataset, scale), best in rivals.items():
        mine = ours[ours.index == (table3.PAPERS_RECIPE, dataset, scale)]
        if recipe.psnr.isna().any():  # it diverged, and nothing of it can be measured
            mine = recipe.psnr[-1:]
        label = f"{dataset} ×{scale}, less the best of the others"
        cases.append(case(label, mine, best, paper=printed["VDSR", dataset, scale] - best))
    return [_finding(e, "table3", "Trained on 291 images, it is better than A+, RFL, SelfEx and "
                      "SRCNN", "Table 3", cases)]  # fmt: skip


# Each is shown by the notebook of its name. They are run in this order.
STUDIES = {study.name: study for study in (
    Study("search_theta", "What must be chosen that the paper does not say?", configs.settings,
          _no_claim, images="BSD10"),
    Study("noise", "How much does chance alone change a run?", configs.noise, _no_claim,
          page=False),
    Study("ablation_residual", "Does it help to predict only what bicubic lost?",
          configs.residual, _residual),
    Study("optimiser_trials", "Which recipe of today suits this network?",
          configs.optimiser_trials, _no_claim, images="BSD10", page=False, papers=False),
    Study("suspects", "What may have been otherwise in the paper's Table 1?", configs.suspects,
          _no_claim, page=False),
    Study("ablation_iterations", "How long was the paper's epoch?", configs.epoch, _no_claim),
    Study("ablation_depth", "Do more layers help?", configs.depth, _depth),
    Study("theta_for_scales", "Does training for three scales want a smaller θ?",
          configs.theta_for_scales, _no_claim, images="BSD10", page=False),
    Study("shallow", "Can five layers serve three scales better than they do?", configs.shallow,
          _no_claim, page=False),
    Study("ablation_scales", "Can one network serve all scales?", configs.scales, _scales),
    Study("ablation_clipping", "What does adjustable clipping do?", configs.clipping, _clipping),
    Study("ablation_init", "Does it matter how the weights start, and whether there are biases?",
          configs.init, _no_claim),
    Study("ablation_receptive_field", "What is context worth?", configs.context, _context),
    Study("steady_context", "Is a wider field worth less in steady training, at ×4?",
          configs.steady_context, _no_claim, page=False),
    Study("srcnn", "Does the deep network overcome SRCNN's three limits?", configs.srcnn, _srcnn,
          more=table3.border),
    Study("benchmark", "How good is it on Table 3's images?", configs.benchmark, _benchmark,
          more=table3.scores, others=table3.trained, measure=table3.complete),
    Study("optimisers", "What would ten years of optimisers have changed?", configs.optimisers,
          _no_claim, papers=False),
)}  # fmt: skip
