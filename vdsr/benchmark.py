"""Table 3: every method that can be run, on every image set, by the paper's protocol."""

import json
import os
from dataclasses import asdict
from time import monotonic

import pandas as pd
import torch
from filelock import FileLock
from safetensors.torch import save_file

from . import runs
from .data import fetch, load_images
from .evaluate import evaluate
from .experiments import benchmark, preset_config, srcnn
from .model import load_matconvnet
from .train import load_metadata
from .upscale import PRETRAINED, load_pretrained

AUTHORS = "weights/VDSR_Official.mat"
SETS = ("Set5", "Set14", "B100", "Urban100")
BY = ["method", "run", "dataset", "scale"]
COLUMNS = [*BY, "image", "psnr", "ssim", "seconds", "commit", "torch", "device"]


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
    preset, _ = preset_config(preset)
    single = {c.scales: c for c in srcnn(preset) if c.architecture == "SRCNN 9-1-5" and not c.seed}
    later, recipe = benchmark(preset)
    table = {
        "bicubic": lambda scale: None,
        "SRCNN, ours": lambda scale: single[(scale,)],
        "VDSR, authors' weights": lambda scale: None,
        "VDSR, paper's recipe": lambda scale: recipe,
        "VDSR, later recipe": lambda scale: later,
    }
    if preset not in ("cpu", "paper"):  # those run without a download
        del table["VDSR, authors' weights"]
    return table


def trained(preset):
    """Return the configs of the networks among `methods`."""
    _, base = preset_config(preset)
    configs = [make(scale) for make in methods(preset).values() for scale in base.eval_scales]
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
    preset, base = preset_config(preset)
    known = recorded()
    tables = []
    for dataset in SETS if preset in ("cpu", "paper") else base.eval_sets:
        for method, config_of in methods(preset).items():
            for scale in base.eval_scales:
                config = config_of(scale)
                run = runs.run_id(config) if config else method
                rows = known[(known[BY] == [method, run, dataset, scale]).all(axis=1)]
                late = deadline is not None and monotonic() > deadline
                wanted = rows.empty and missing == "train" and not late
                if wanted and not (config and runs.attempt(config).diverged):
                    model = _model(method, config)
                    rows = measure(model, dataset, scale).assign(method=method, run=run)
                    if record:
                        _write(rows)
                tables.append(rows[COLUMNS])
    return pd.concat(tables, ignore_index=True)


def recorded():
    """Return ``results/benchmark.csv``, of which ``results/README.md`` explains the columns."""
    path = runs.ROOT / "results" / "benchmark.csv"
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(path, dtype={"commit": str})


def measure(model, dataset, scale):
    """Return `vdsr.evaluate`'s rows, timed warm, with the commit, torch and device."""
    images = load_images(dataset)
    first = next(iter(images))
    evaluate(model, {first: images[first]}, scale)
    rows = evaluate(model, images, scale).assign(dataset=dataset)
    device = "cuda" if model is not None and next(model.parameters()).is_cuda else "cpu"
    return rows.assign(
        commit=runs.commit()[0], torch=torch.__version__, device=runs.device_name(device)
    )


def _model(method, config):
    """Return a method's network, on a GPU if there is one."""
    if method == "bicubic":
        return None
    if config is None:
        model = load_matconvnet(fetch([AUTHORS])[0])
    elif load_metadata(PRETRAINED).get("run") == runs.run_id(config):
        model = load_pretrained()
    else:
        model = runs.train(config).model
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _write(rows):
    path = runs.ROOT / "results" / "benchmark.csv"
    with FileLock(path.with_name(".lock")):
        table = pd.concat([recorded(), rows[COLUMNS]], ignore_index=True)
        table = table.drop_duplicates([*BY, "image"], keep="last")  # another process's, say
        runs.write_text(path, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def release(preset):
    """Make the network that ships the best of the benchmark's own, as its validation says.

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
        If no such run is recorded.
    """
    best, score = None, -float("inf")
    for config in benchmark(preset):
        history = runs.train_all([config], missing="skip")
        if history.empty:
            continue
        psnr = history[history.step == history.step.max()].psnr.mean()
        if psnr > score:
            best, score = config, psnr
    if best is None:
        raise ValueError(f"no run of the benchmark is recorded with preset {preset}")
    run = runs.train(best)
    known = recorded()
    means = known[known.run == run.id].groupby(["dataset", "scale"]).psnr.mean()
    metadata = {
        "run": run.id, "preset": preset, "config": asdict(best), "record": run.record,
        "validation": {"images": best.eval_sets, "psnr": round(score, 3)},
        "psnr": {f"{d} x{s:g}": round(v, 3) for (d, s), v in means.items()},
    }  # fmt: skip
    part = PRETRAINED.with_suffix(".part")
    tensors = {k: v.contiguous() for k, v in run.model.state_dict().items()}
    save_file(tensors, part, {k: json.dumps(v) for k, v in metadata.items()})
    os.replace(part, PRETRAINED)
    return run.id
