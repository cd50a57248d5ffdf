"""Every study as a list of configs; nothing else in the project names a hyperparameter.

A preset says how much of the paper's recipe a run keeps:

smoke
    Seconds, for tests: two tiny networks, scikit-image's pictures.
quick
    Minutes on a CPU, scikit-image's pictures, narrow networks. It shows that everything works;
    one seed of it is too noisy to show what depth, say, is worth.
cpu
    The paper's data and network on a CPU: T91, a tenth of the epochs with the schedule
    shrunk alike, and batches of 16, so that it has two fifths of the updates. Five layers,
    but where depth is the question. Three seeds in Table 2, elsewhere one.
paper
    The paper's own recipe and data, three seeds.
"""

from dataclasses import replace

import torch

from .train import TrainConfig

PRESETS = {
    "smoke": TrainConfig(
        depth=3, width=4, batch_size=64, epochs=1, decay_epochs=1,
        train_set="samples-test", scales=(2, 3), eval_sets=("samples-test",), eval_scales=(2, 3, 4),
    ),
    "quick": TrainConfig(
        depth=5, width=16, batch_size=32, epochs=4, decay_epochs=1,
        train_set="samples-train", eval_sets=("samples-test",),
    ),
    "cpu": TrainConfig(batch_size=16, epochs=8, decay_epochs=2, eval_epochs=1),
    "paper": TrainConfig(),
}  # fmt: skip


SEEDS = {"smoke": 1, "quick": 1, "cpu": 1, "paper": 3}


def preset_config(preset):
    """Return the name of a preset, ``"auto"`` resolved, and the config its studies start from.

    Parameters
    ----------
    preset : {"auto", "smoke", "quick", "cpu", "paper"}
        ``"auto"`` is ``"paper"`` where there is a CUDA GPU and ``"quick"`` where there is none.

    Raises
    ------
    ValueError
        For any other name.
    """
    if preset == "auto":
        preset = "paper" if torch.cuda.is_available() else "quick"
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of auto, {', '.join(PRESETS)}; got {preset!r}")
    return preset, PRESETS[preset]


def caption(preset, configs, histories):
    """Return in a sentence what the runs of a study are: preset, length, data, depth, seeds.

    Parameters
    ----------
    preset : str
    configs : list of TrainConfig
        The runs there should be.
    histories : pandas.DataFrame
        From `vdsr.train_all`: the runs there are.
    """
    if histories.empty:
        return f"Preset {preset}: not run yet (0 of {len(configs)} runs)."
    done, seeds = histories.run.nunique(), histories.seed.nunique()
    steps = histories.groupby("run").step.max()
    length = " to ".join(f"{n:,}" for n in sorted({steps.min(), steps.max()}))
    first = configs[0]
    depths = sorted({c.depth for c in configs if c.architecture == "VDSR"})
    layers = f"{', '.join(map(str, depths[:-1]))} and {depths[-1]}" if depths[1:] else depths[0]
    return (
        f"Preset {preset}: {done} of {len(configs)} runs, of {length} steps of "
        f"{first.batch_size} patches from {first.train_set}, VDSR having {layers} layers, scored "
        f"on {', '.join(first.eval_sets)}; {seeds} seed{'s' if seeds > 1 else ''}."
    )


def depth(preset):
    """Return the runs of Figure 3: networks of growing depth, each for all three scales."""
    preset, base = preset_config(preset)
    # The ends and the middle first: an unfinished series then shows its shape.
    depths = {
        "smoke": (2, 3),
        "quick": (3, 5, 9),
        "cpu": (5, 20, 10),
        "paper": (5, 20, 10, 15, 12, 7, 17, 16, 6, 8, 9, 11, 13, 14, 18, 19),
    }[preset]
    return [replace(base, depth=d, seed=s) for s in range(SEEDS[preset]) for d in depths]


def theta(preset):
    """Return the search for what the paper leaves open: θ, the loss's normalisation, the init.

    Scored on BSD10, which is in no training and no test set. The first series trains twenty
    layers for ×3 alone. Its winner proved unsteady at ×2, so the second series, of five layers,
    looks at all three scales, and decides.
    """
    preset, base = preset_config(preset)
    first = {
        "loss": "sum", "theta": 1e-4, "clipping": "adjustable",
        "init": "fan_out", "last_scale": 0.1,
    }  # fmt: skip
    if preset in ("cpu", "paper"):
        # One scale makes an epoch a third as long, and with it the whole schedule.
        first |= {"scales": (3,), "eval_sets": ("BSD10",), "eval_scales": (3,), "eval_epochs": 4}
    second = first | {
        "depth": 5, "scales": base.scales, "eval_scales": base.eval_scales, "eval_epochs": 1,
        "epochs": base.epochs // 2, "decay_epochs": base.decay_epochs // 2,
    }  # fmt: skip
    changes = (
        {},
        {"theta": 3e-5},
        {"init": "fan_in"},
        {"loss": "patch"},
        {"theta": 3e-4},
        {"last_scale": 1.0},
        {"clipping": "norm", "theta": 0.4},
        {"theta": 1e-5},
    )
    runs = [replace(base, **first | change) for change in changes]
    if preset in ("cpu", "paper"):
        changes = (
            {"loss": "patch"},
            {"loss": "patch", "theta": 3e-5},
            {"theta": 3e-5},
            {"loss": "patch", "theta": 3e-4},
            {},
            {"theta": 1e-5},
            {"loss": "patch", "theta": 1e-3},
        )
        runs += [replace(base, **second | change) for change in changes]
    return runs


def residual(preset):
    """Return the runs of Table 1 and Figure 4: with and without residual learning, at ×2.

    At each of three learning rates, as the paper, for its claim is about high ones. In float32:
    the output of a plain network is the image itself, which bf16 would round to a grey level.
    """
    preset, base = preset_config(preset)
    depth = {"smoke": 3, "paper": 10}.get(preset, 5)
    base = replace(base, depth=depth, scales=(2,), eval_scales=(2,), precision="float32")
    rates = (0.1, 0.01) if preset == "smoke" else (0.1, 0.01, 0.001)
    return [
        replace(base, residual=residual, learning_rate=rate, seed=seed)
        for seed in range(SEEDS[preset])
        for rate in rates
        for residual in (True, False)
    ]


def scales(preset):
    """Return the runs of Table 2 and Figure 5: networks for one, two and three scales.

    Each is scored at whole and fractional scales, those it was trained for or not.
    """
    preset, base = preset_config(preset)
    base = replace(base, eval_scales=(1.5, 2, 2.5, 3, 3.5, 4))
    if preset != "paper":
        base = replace(base, depth=3 if preset == "smoke" else 5)
    seeds = 3 if preset == "cpu" else SEEDS[preset]  # one such network takes two minutes
    subsets = ((2, 3, 4), (3,), (2,), (4,), (2, 3), (2, 4), (3, 4))
    return [replace(base, scales=subset, seed=seed) for seed in range(seeds) for subset in subsets]


def receptive_field(preset):
    """Return runs that widen the receptive field at equal depth and weights, by dilation."""
    preset, base = preset_config(preset)
    kinds = {
        "smoke": ((3, 1), (3, 2)),
        "quick": ((5, 1), (5, 2), (5, 4)),
        "cpu": ((5, 1), (5, 2), (5, 4)),
        "paper": ((5, 1), (5, 2), (5, 3), (5, 4), (10, 1), (10, 2), (10, 3)),
    }[preset]
    return [
        replace(base, depth=depth, dilation=dilation, seed=seed)
        for seed in range(SEEDS[preset])
        for depth, dilation in kinds
    ]


def clipping(preset):
    """Return runs under four kinds of clipping, at three learning rates.

    The constant bound is what the adjustable one is at a rate of 0.1; that of the norm is
    public code's. Without clipping there is no θ.
    """
    preset, base = preset_config(preset)
    if preset == "cpu":
        base = replace(base, depth=5)
    kinds = (
        {"clipping": "adjustable"},
        {"clipping": "none"},
        {"clipping": "value", "theta": base.theta / 0.1},
        {"clipping": "norm", "theta": 0.4},
    )
    return [
        replace(base, learning_rate=rate, seed=seed, **kind)
        for seed in range(SEEDS[preset])
        for rate in (0.1, 0.01, 0.001)
        for kind in kinds
    ]


def init(preset):
    """Return runs from three initialisations, with the last layer as drawn and made smaller."""
    preset, base = preset_config(preset)
    if preset == "cpu":
        base = replace(base, depth=5)
    kinds = (("fan_out", 0.1), ("fan_in", 0.1), ("fan_out", 1.0), ("fan_in", 1.0), ("normal", 1.0))
    return [
        replace(base, init=mode, last_scale=last_scale, seed=seed)
        for seed in range(SEEDS[preset])
        for mode, last_scale in kinds
    ]


def srcnn(preset):
    """Return SRCNN by its own recipe, for one scale and for three, and the VDSR to compare.

    Dong et al. 2014: 33×33 patches at a stride of 14, no padding, σ = 0.001, plain squared
    error, and a last layer that learns ten times more slowly than the others. Their errors are
    summed over a patch and averaged over the batch.
    """
    preset, base = preset_config(preset)
    [vdsr, *_] = [c for c in depth(preset) if c.depth == max(d.depth for d in depth(preset))]
    own = {
        "architecture": "SRCNN 9-1-5", "init": "normal", "last_scale": 1.0, "patch_size": 33,
        "overlap": 19, "learning_rate": 1e-4, "last_rate": 0.1, "weight_decay": 0.0,
        "loss": "patch", "clipping": "none", "decay_epochs": 10_000,
    }  # fmt: skip
    if preset == "paper":  # they took 800 million patches, days; this is less than a tenth
        own |= {"batch_size": 128, "epochs": 1000, "eval_epochs": 20}
    base = replace(base, **own)
    long = replace(base, architecture="SRCNN 9-5-5")
    return [
        replace(config, seed=seed)
        for seed in range(SEEDS[preset])
        for config in (
            vdsr,
            replace(base, scales=(3,)),
            base,
            replace(base, scales=(2,)),
            replace(base, scales=(4,)),
            replace(long, scales=(3,)),
        )
    ]


def iterations(preset):
    """Return runs of the paper's length, and of ten times that.

    The residual network of Table 1 at its highest rate, which the paper has at 36.90 dB after a
    tenth of its training.
    """
    preset, _ = preset_config(preset)
    [base, *_] = residual(preset)
    factor = 10 if preset in ("cpu", "paper") else 3
    longer = replace(
        base, epochs=factor * base.epochs, decay_epochs=factor * base.decay_epochs,
        eval_epochs=1 if preset == "smoke" else factor,
    )  # fmt: skip
    return [
        replace(config, seed=seed) for seed in range(SEEDS[preset]) for config in (base, longer)
    ]


def benchmark(preset):
    """Return the networks of Table 3: the paper's recipe, and one of ten years later.

    Both see the 291 images. The later recipe is Adam, its rate falling along a half cosine
    from a two-hundredth of the paper's. The images of scikit-image show how training goes; the
    last state is what is kept.
    """
    preset, base = preset_config(preset)
    base = replace(base, eval_sets=("samples-test",))
    if preset in ("cpu", "paper"):
        base = replace(base, train_set="T91+BSD200", augment=preset == "paper")
    adam = {"optimizer": "adam", "clipping": "none", "learning_rate": 5e-4, "weight_decay": 0.0}
    later = replace(base, **adam)
    if preset == "cpu":  # an epoch is seven times as long as T91's
        base = replace(base, epochs=4, decay_epochs=1)
        later = replace(later, epochs=3)
    return [later, base]


# Each is asked by the notebook of its name. They are run in this order: what answers the paper's
# own tables first, and what takes hours last.
STUDIES = {
    "ablation_depth": depth,
    "ablation_residual": residual,
    "ablation_scales": scales,
    "ablation_iterations": iterations,
    "ablation_receptive_field": receptive_field,
    "ablation_clipping": clipping,
    "ablation_init": init,
    "search_theta": theta,
    "srcnn": srcnn,
    "benchmark": benchmark,
}
