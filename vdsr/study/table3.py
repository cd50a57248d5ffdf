"""Table 3: every method that can be run, on every image set, by the paper's protocol."""

from itertools import product
from time import monotonic

import pandas as pd
import torch

from .. import ledger, machine, networks, runs
from ..config import run_id, settings_of
from ..data import fetch, load_images
from ..evaluate import evaluate
from ..files import load_checkpoint, save_checkpoint
from ..model import load_matconvnet
from ..train import OutOfTime
from ..upscale import PRETRAINED, load_pretrained
from .configs import benchmark, preset_config, srcnn
from .paper import table
from .probes import border_profile

PAPERS_RECIPE = "VDSR, paper's recipe"
PUBLISHED = "VDSR, authors' weights"
LATER_RECIPE = "VDSR, later recipe"
ENSEMBLE = f"{LATER_RECIPE}, eight orientations"
AUTHORS = "weights/VDSR_Official.mat"
SETS = ("Set5", "Set14", "B100", "Urban100")
BY = ["method", "run", "dataset", "scale"]
SCALES = 2, 3, 4
COLUMNS = [*ledger.OTHERS["benchmark"]]


def public(preset):
    """Return whether a preset's images are the paper's."""
    return preset_config(preset)[0] == "paper"


def authors():
    """Return the network of the weights that the paper's authors published."""
    return load_matconvnet(*fetch([AUTHORS]))


def methods(preset):
    """Return what Table 3 compares here.

    Parameters
    ----------
    preset : str

    Returns
    -------
    dict of str to callable
        Name to a function of the scale that gives the config to be trained; or None, for what
        needs no training.
    """
    srcnns = [c for c in srcnn(preset) if "9-1-5" in c.architecture]
    later, recipe = benchmark(preset)
    # Its network for that scale alone, if there is one, else the one for all.
    single = {c.scales: c for c in srcnns}
    every = max(srcnns, key=lambda config: len(config.scales))
    compared = {
        "bicubic": lambda scale: None,
        "SRCNN, ours": lambda scale: single.get((scale,), every),
        PUBLISHED: lambda scale: None,
        PAPERS_RECIPE: lambda scale: recipe,
        LATER_RECIPE: lambda scale: later,
        ENSEMBLE: lambda scale: later,
    }
    if not public(preset):  # the others run without a download
        del compared[PUBLISHED]
    return compared


def trained(preset):
    """Return the configs of the networks among `methods`."""
    configs = [make(scale) for make in methods(preset).values() for scale in SCALES]
    return [config for config in configs if config]


def scores(preset, missing="train", record=False, deadline=None):
    """Return the scores of every method on every image.

    Parameters
    ----------
    preset : str
        Its image sets are the paper's four, or scikit-image's pictures for the small ones.
    missing : {"train", "skip"}
        Whether what is not in ``results/benchmark.csv`` is trained and measured, or left out.
    record : bool
        Whether to write down there what is measured.
    deadline : float, optional
        Value of `time.monotonic` past which nothing further is begun.

    Returns
    -------
    pandas.DataFrame
        A row a method × image set × scale × image: those, the run, psnr in dB, ssim, seconds,
        and the commit, torch and device that measured it. None of a network that diverged.
    """
    known = recorded()
    tables = []
    for method, config, run, dataset, scale in _cells(preset):
        rows = known[(known[BY] == [method, run, dataset, scale]).all(axis=1)]
        late = deadline is not None and monotonic() > deadline
        wanted = rows.empty and missing == "train" and not late
        if wanted and _trained(config, deadline):
            model = _model(method, config)
            rows = measure(model, dataset, scale, method == ENSEMBLE)
            rows = rows.assign(method=method, run=run)
            if record:
                ledger.extend("benchmark", rows, [*BY, "image"])
        tables.append(rows[COLUMNS])
    return pd.concat(tables, ignore_index=True)


def _trained(config, deadline):
    """Return whether a method's network is there: trained by now, and not diverged."""
    try:
        return config is None or not runs.attempt(config, deadline=deadline).diverged
    except OutOfTime:
        return False


def _sets(preset):
    """Return the image sets of the table."""
    return SETS if public(preset) else preset_config(preset)[1].eval_sets


def _cells(preset):
    """Yield method, config or None, run, image set and scale of all that is compared."""
    for dataset in _sets(preset):
        for method, config_of in methods(preset).items():
            for scale in SCALES:
                config = config_of(scale)
                yield method, config, run_id(config) if config else method, dataset, scale


def recorded():
    """Return ``results/benchmark.csv``, of which ``results/README.md`` explains the columns."""
    return ledger.table("benchmark")


def measure(model, dataset, scale, ensemble=False):
    """Return `vdsr.evaluate`'s rows, timed warm, with the commit, torch and device.

    A network computes in float32, on a CPU by Winograd's algorithm in one thread if the images
    are large together, and once or in all eight orientations of the image.
    """
    images = load_images(dataset)
    device = torch.device("cpu") if model is None else next(model.parameters()).device
    # A GPU chooses its algorithms anew for each shape, a CPU once.
    warm = images if device.type == "cuda" else dict([next(iter(images.items()))])
    pixels = sum(image.shape[0] * image.shape[1] for image in images.values())
    with networks.fastest(model, "float32", pixels) as (network, _):
        network = networks.Ensemble(network) if ensemble else network
        evaluate(network, warm, scale)
        rows = evaluate(network, images, scale).assign(dataset=dataset)
        name = machine.device_name(device)  # with the number of threads that there is here
    return rows.assign(commit=machine.commit()[0], torch=torch.__version__, device=name)


def border(preset, missing):
    """Return how well a network predicts each ring of pixels inside a border, at ×3.

    With the paper's images it is the authors' own network, and otherwise the one that ships.

    Parameters
    ----------
    preset, missing
        As in `scores`; with the paper's images it is recorded in ``results/border.csv``.

    Returns
    -------
    pandas.DataFrame
        From `vdsr.study.probes.border_profile`.
    """
    path = machine.ROOT / "results" / "border.csv"
    if public(preset) and path.exists():
        return ledger.table("border")
    return measured_border(preset)


def measured_border(preset):
    """Return what `border` does, measured now."""
    if public(preset):
        return border_profile(authors(), load_images("Set5"), 3)
    return border_profile(load_pretrained(), load_images("samples-test"), 3)


def _model(method, config):
    """Return a method's network, on a GPU if there is one."""
    if method == "bicubic":
        return None
    if config is None:
        model = authors()
    elif load_checkpoint(PRETRAINED)[1].get("run") == run_id(config):
        model = load_pretrained()
    else:
        model = runs.train(config).model
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def release(preset):
    """Make the network that ships the best of the benchmark's own, as its validation says.

    That is the first of the image sets that score it while it is trained: no test set.

    Parameters
    ----------
    preset : str
        Whose runs to choose from. Each must be recorded and have its weights on this machine.

    Returns
    -------
    str
        The run that ships.

    Raises
    ------
    ValueError
        If no such run is recorded, or the best one is not measured on Table 3's images.
    """
    best, score = None, -float("inf")
    for config in benchmark(preset):
        history = runs.train_all([config], missing="skip")
        if history.empty:
            continue
        history = history[history.dataset == config.eval_sets[0]]
        psnr = history[history.step == history.step.max()].psnr.mean()
        if psnr > score:
            best, score = config, psnr
    if best is None:
        raise ValueError(f"no run of the benchmark is recorded with preset {preset}")
    run = runs.train(best)
    known = recorded()
    known = known[(known.run == run.id) & (known.method != ENSEMBLE)]
    measured = {*zip(known.dataset, known.scale, strict=True)}
    lacking = [place for place in product(_sets(preset), SCALES) if place not in measured]
    if lacking:
        dataset, scale = lacking[0]
        raise ValueError(
            f"run {run.id} has no rows of {dataset} ×{scale} in results/benchmark.csv: measure it "
            f"first, by `vdsr study benchmark`"
        )
    means = known.groupby(["dataset", "scale"]).psnr.mean()
    metadata = {
        "run": run.id, "preset": preset, "config": settings_of(best), "record": run.record,
        "validation": {"images": best.eval_sets[0], "psnr": round(score, 3)},
        "psnr": {f"{d} x{s:g}": round(v, 3) for (d, s), v in means.items()},
    }  # fmt: skip
    save_checkpoint(PRETRAINED, run.model.state_dict(), metadata)
    return run.id


def as_table3(scores, value):
    """Return Table 3, our columns and the paper's.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `scores`.
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


def complete(preset, deadline):
    """Measure and record the scores that are missing, and return whether there are all.

    A network that diverged has nothing to be measured.
    """
    scores(preset, record=True, deadline=deadline)
    known = {tuple(row) for row in recorded()[BY].drop_duplicates().itertuples(index=False)}
    return all(
        (method, run, dataset, scale) in known
        or (config and (made := runs.recorded(config)) and made.diverged)
        for method, config, run, dataset, scale in _cells(preset)
    )
