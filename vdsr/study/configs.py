"""The runs of each study; nothing else in the project says what a study changes.

A preset says where the runs come from:

smoke
    Seconds, for tests: tiny networks, pictures inside scikit-image.
quick
    Minutes on a CPU, the same pictures, narrow networks. It shows that everything works, and
    answers nothing.
paper
    The paper's own recipe, data and length.

All questions about §3.2 of the paper start from one run: Table 1's residual network at a learning
rate of 0.1, of ten layers, for ×2. What several studies ask for is one run.
"""

from dataclasses import replace

import torch

from ..checks import shown
from ..config import TrainConfig, run_id

PRESETS = {
    "smoke": TrainConfig(
        depth=3, width=4, epochs=1, decay_epochs=1, train_set="samples-test", scales=(2, 3),
        eval_sets=("samples-test",), eval_scales=(2, 3, 4),
    ),
    "quick": TrainConfig(
        depth=5, width=16, batch_size=32, epochs=4, decay_epochs=1, train_set="samples-train",
        eval_sets=("samples-test",),
    ),
    "paper": TrainConfig(eval_epochs=10),
}  # fmt: skip

RATES = 0.1, 0.01, 0.001

# The bounds of constant clipping that BSD10 chose among those at a rate of 0.1, to be used at
# the others; a kind is missing until its runs are recorded.
CHOSEN_BOUNDS = {"value": 0.001, "norm": 0.04}

# What BSD10 chose in `optimisers` for the long run, by the rule of `studies.chosen_changes`, once
# all of that search is recorded.
CHOSEN_CHANGES = {}

# So many steps of ten layers are the work of one of twenty; a test holds it to the operations.
STEPS_OF_TEN = 2.246


def preset_config(preset):
    """Return the name of a preset, ``"auto"`` resolved, and the config its studies start from.

    Parameters
    ----------
    preset : {"auto", "smoke", "quick", "paper"}
        ``"auto"`` is ``"paper"`` where there is a CUDA GPU and ``"quick"`` where there is none.

    Raises
    ------
    ValueError
        For any other name.
    """
    if preset == "auto":
        preset = "paper" if torch.cuda.is_available() else "quick"
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(f"preset must be one of auto, {', '.join(PRESETS)}; got {shown(preset)}")
    return preset, PRESETS[preset]


def reference(preset):
    """Return Table 1's residual network at a learning rate of 0.1, and whether it is the paper's.

    It is scored on Set5 for the paper's numbers and on BSD10 for choices, after every fifth epoch
    and at first more often.
    """
    preset, base = preset_config(preset)
    base = replace(base, scales=(2,), eval_scales=(2,))
    if preset != "paper":
        return base, False
    sets = ("BSD10", "Set5")
    return replace(
        base, depth=10, eval_sets=sets, eval_epochs=5, eval_steps=(20, 41, 82, 164)
    ), True


def settings(preset):
    """Return the search for what §3.2 leaves open: θ, the loss's normalisation, He's fan.

    θ is chosen first, by the gain on BSD10 at the end of training: the highest; and if others
    come within 0.02 dB of it, the middle one of these, the smaller of two middle ones.
    """
    base, whole = reference(preset)
    base = replace(base, theta=3e-5)  # from which the search starts, whatever it then chose
    thetas = (3e-5, 1e-4, 1e-5, 3e-4, 1e-3) if whole else (3e-5, 1e-4)
    runs = [replace(base, theta=theta) for theta in thetas]
    runs += [replace(base, loss="sum", theta=theta) for theta in (3e-5, 1e-4)[: len(thetas) - 1]]
    return [*runs, replace(base, init="fan_in")]


def residual(preset):
    """Return the runs of Table 1 and Figure 4: with and without residual learning, at ×2."""
    base, whole = reference(preset)
    return [
        replace(base, learning_rate=rate, residual=kind)
        for rate in (RATES if whole else RATES[:2])
        for kind in (True, False)
    ]


def suspects(preset):
    """Return runs of Table 1 with what may have been otherwise in the paper.

    The search for θ was made with the residual network; the plain one may want another. A loss
    summed over the batch has 64 times the gradients. Eight orientations make an epoch eight times
    as long. From a last layer that is not made smaller a plain network does not start black.
    """
    base, whole = reference(preset)
    plain = replace(base, residual=False)
    thetas = (3e-5, 1e-5, 3e-4) if whole else (3e-5,)
    runs = [replace(plain, theta=theta) for theta in thetas]
    summed = ((False, 0.1), (True, 0.01), (True, 0.001), (False, 0.01), (False, 0.001))
    runs += [
        replace(base, loss="sum", residual=kind, learning_rate=rate)
        for kind, rate in summed[: len(summed) if whole else 1]
    ]
    longer = ((True, 0.001), (False, 0.1))
    runs += [
        replace(base, augment=True, residual=kind, learning_rate=rate)
        for kind, rate in longer[: len(longer) if whole else 0]
    ]
    lower = (0.001, 0.01) if whole else ()
    runs += [replace(plain, theta=1e-5, learning_rate=rate) for rate in lower]
    return [*runs, replace(plain, learning_rate=RATES[-1], init="fan_in", last_scale=1.0)]


def noise(preset):
    """Return Table 1's runs with further seeds: what chance alone does to each kind of network.

    Those at a rate of 0.1 come first, since other studies take their chance from the reference.
    """
    whole = reference(preset)[1]
    table = residual(preset)
    groups = (table[:2], table[2:]) if whole else (table[:2],)
    return [
        replace(config, seed=seed)
        for group in groups
        for seed in ((0, 1, 2) if whole else (0, 1))
        for config in group
    ]


def epoch(preset):
    """Return runs that show how many of our steps the paper's epoch is worth.

    Three constant learning rates, scored at steps that are spaced evenly on a logarithmic axis;
    and the reference on all eight orientations of the patches, for as many epochs.
    """
    base, whole = reference(preset)
    total = 3000 if whole else 12
    places = sorted({round(total ** (k / 24)) for k in range(10, 25)})
    constant = replace(
        base, epochs=None, steps=total, schedule="constant", decay_epochs=None,
        eval_epochs=0, eval_steps=tuple(places),
    )  # fmt: skip
    rates = RATES if whole else RATES[:2]
    return [
        *(replace(constant, learning_rate=rate) for rate in rates),
        base,
        replace(base, augment=True, eval_steps=()),
    ]


def depth(preset):
    """Return the runs of Figure 3: networks of growing depth, each for all three scales."""
    preset, base = preset_config(preset)
    # The ends and the middle first: an unfinished series then shows its shape.
    depths = {"smoke": (2, 3), "quick": (3, 5, 9), "paper": (5, 10, 20, 15, 7, 12, 17)}
    return [replace(base, depth=d) for d in depths[preset]]


def theta_for_scales(preset):
    """Return runs that ask whether training for three scales wants a smaller θ than for one.

    θ was chosen with networks for ×2. The cheapest depths come first. BSD10 decides, by the mean
    over the scales.
    """
    preset, base = preset_config(preset)
    if preset != "paper":
        return [replace(base, theta=theta) for theta in (1e-4, 3e-5)]
    base = replace(base, eval_sets=("BSD10", "Set5"))
    kinds = (5, 3e-5), (10, 3e-5), (5, 1e-5), (10, 1e-5), (20, 3e-5), (5, 1e-4), (10, 1e-4)
    return [replace(base, depth=depth, theta=theta) for depth, theta in (*kinds, (20, 1e-4))]


def shallow(preset):
    """Return five layers for three scales, by three optimisers, and for each scale alone.

    By the paper's recipe this network of Figure 3 ends two decibels below the paper at ×2. If
    another optimiser brings the same layers further on the same patches, in as many steps or in a
    quarter of them, too few weights are not the reason. The paper does not say that the networks
    of Figure 3 were trained for three scales; if each was trained for one, ours for one tell.
    """
    preset, base = preset_config(preset)
    quarter = {}
    if preset == "paper":
        base = replace(base, depth=5, eval_sets=("BSD10", "Set5"))
        quarter = {"epochs": 20, "decay_epochs": 5, "eval_epochs": 5}
    adam = replace(base, optimizer="adam", learning_rate=1e-3, clipping="none", weight_decay=0.0)
    muon = replace(adam, optimizer="muon", learning_rate=0.01, momentum=0.95, **quarter)
    alone = [replace(base, scales=(scale,), eval_scales=(scale,)) for scale in (2, 3, 4)]
    return [base, adam, muon, *alone]


def scales(preset):
    """Return the runs of Table 2 and Figure 5: networks for one, two and three scales.

    Each is scored at whole and fractional scales, those it was trained for or not.
    """
    preset, base = preset_config(preset)
    base = replace(base, eval_scales=(1.5, 2, 2.5, 3, 3.5, 4))
    subsets = ((2, 3, 4), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4))
    return [replace(base, scales=subset) for subset in subsets]


def clipping(preset):
    """Return runs under four kinds of clipping.

    At a rate of 0.1 the constant bounds on values are the first three that the adjustable one
    passes through in the paper's schedule, and those on the norm are public code's 0.4, a tenth
    and ten times that. The smallest did best of both, so that one of a tenth of it was added. At
    other rates each has the bound that BSD10 chose. Without clipping, smaller rates were to be
    tried as well, until one does not diverge: 1e-4 was the first.
    """
    base, whole = reference(preset)
    adjustable = [replace(base, learning_rate=rate) for rate in (RATES if whole else RATES[:1])]
    bounds = {
        "value": [*(base.theta / rate for rate in RATES), base.theta],
        "norm": [0.4, 0.04, 4.0, 0.004],
    }  # fmt: skip
    runs = [
        replace(base, clipping=kind, theta=theta)
        for kind, thetas in bounds.items()
        for theta in (thetas if whole else thetas[:1])
    ]
    runs += [
        replace(base, learning_rate=rate, clipping="none")
        for rate in ((*RATES, 1e-4) if whole else RATES[:1])
    ]
    runs += [
        replace(base, learning_rate=rate, clipping=kind, theta=theta)
        for rate in (0.001, 0.01)
        for kind, theta in CHOSEN_BOUNDS.items()
        if whole
    ]
    return adjustable + runs


def init(preset):
    """Return runs from three initialisations, with a last layer made smaller or not; no biases."""
    base, _ = reference(preset)
    kinds = (("fan_out", 0.1), ("fan_in", 0.1), ("fan_out", 1.0), ("fan_in", 1.0), ("normal", 1.0))
    runs = [replace(base, init=mode, last_scale=last_scale) for mode, last_scale in kinds]
    return [*runs, replace(base, bias=False)]


def context(preset):
    """Return runs that widen the receptive field at equal depth and weights, by dilation.

    At ×2, where near pixels have the most to say, and at ×4, which the paper's argument is about.
    """
    base, whole = reference(preset)
    kinds = {2: ((3, 1), (3, 2)), 4: ((3, 1), (3, 2))}
    if whole:
        kinds[2] = (10, 1), (10, 2), (10, 3), (5, 1), (5, 2), (5, 4)
        kinds[4] = (5, 1), (5, 2), (5, 4), (10, 1), (10, 2)
    return [
        replace(base, depth=depth, dilation=dilation, scales=(scale,), eval_scales=(scale,))
        for scale, networks in kinds.items()
        for depth, dilation in networks
    ]


def steady_context(preset):
    """Return the narrowest two fields of the shallowest network at ×4, trained in other ways.

    In `context` five layers without dilation trained unsteadily at ×4, and those with dilation
    did not. If a smaller θ, other seeds or Muon, in a quarter of the steps, make them equal, the
    wider field had bought a steady training there.
    """
    whole = preset_config(preset)[0] == "paper"
    two = [config for config in context(preset) if config.scales == (4,)][:2]
    muon = {
        "optimizer": "muon", "learning_rate": 0.01, "momentum": 0.95, "clipping": "none",
        "weight_decay": 0.0, "epochs": 20, "decay_epochs": 5, "eval_steps": (),
    }  # fmt: skip
    return [
        *(replace(config, theta=3e-5) for config in two),
        *(replace(config, seed=seed) for seed in (1, 2) if whole for config in two),
        *(replace(config, **muon) for config in two if whole),
    ]


def srcnn(preset):
    """Return SRCNN by its own recipe, for one scale and for three, and the VDSRs to compare.

    Dong et al. 2014: 33×33 patches at a stride of 14, no padding, σ = 0.001, plain squared
    error, and a last layer that learns ten times more slowly than the others. Their errors are
    summed over a patch and averaged over the batch. Both take as many updates, since three
    scales give three times the patches. VDSR is Table 2's, for ×3 and for three scales.
    """
    preset, base = preset_config(preset)
    base = replace(
        base, architecture="SRCNN 9-1-5", init="normal", last_scale=1.0, patch_size=33, overlap=19,
        learning_rate=1e-4, last_rate=0.1, weight_decay=0.0, clipping="none", schedule="constant",
        decay_epochs=None,
    )  # fmt: skip
    epochs = base.epochs, base.epochs
    if preset == "paper":  # theirs took 800 million patches, and days; this takes 16 million
        base, epochs = replace(base, batch_size=128, eval_epochs=50), (750, 250)
    both = [replace(base, scales=(3,), epochs=epochs[0]), replace(base, epochs=epochs[1])]
    return [*both, *(c for c in scales(preset) if c.scales in ((3,), (2, 3, 4)))]


def optimiser_trials(preset):
    """Return short trainings from which the later recipe is chosen, all of equal work.

    The first is where the search starts: Muon and the absolute error. Each of the others changes
    one thing, but for the paper's update and Adam's, which come with settings of their own, and
    larger batches, which come with higher rates. The last ones are in two halves, the first with
    all layers, or with ten; and of ten layers throughout, to tell growing from being small.
    """
    preset, start, adam, sgd = _recipes(preset)
    steps, averaged = start.steps, {"average": 0.98}
    changes = [
        {"learning_rate": 0.0025}, {"learning_rate": 0.01}, {"momentum": 0.9}, {"momentum": 0.98},
        {"batch_size": 32, "steps": steps // 2, "learning_rate": 0.007},
        {"batch_size": 64, "steps": steps // 4, "learning_rate": 0.01},
        {"error": "squared"}, {"error": "charbonnier"},
        averaged, {"schedule": "constant", **averaged},
        {"keep": 0.5}, {"keep": 0.25}, {"shrink": True}, {"augment": not start.augment},
        {"adam_rate": 3e-4}, {"adam_rate": 3e-3}, {"last_scale": 0.0},
    ]  # fmt: skip
    parts = [*_halves(start)]
    if preset == "paper":
        parts += [*_grown(start), replace(start, depth=10, steps=round(STEPS_OF_TEN * steps))]
    return [start, adam, sgd, *(replace(start, **change) for change in changes), *parts]


def _halves(config):
    """Return a training's first half, at a rate that is not lowered, and what goes on from it.

    The mean of its weights goes on, with the memory of a sixth of the steps, or of two.
    """
    steps = config.steps // 2
    memory = max(2, steps / 6)
    half = replace(config, steps=steps, schedule="constant", average=1 - 1 / memory)
    return half, replace(config, steps=steps, start=run_id(half))


def _grown(config):
    """Return `_halves` of which the first has ten layers, and more steps, for as much work."""
    half, later = _halves(config)
    half = replace(half, depth=10, steps=round(STEPS_OF_TEN * half.steps))
    return half, replace(later, start=run_id(half))


def _recipes(preset):
    """Return the preset's name, and short trainings by Muon, Adam and the paper's update."""
    preset, base = preset_config(preset)
    steps = 600 if preset == "paper" else 8
    if preset == "paper":
        base = replace(base, train_set="T91+BSD190", augment=True, eval_sets=("BSD10", "Set5"))
    base = replace(base, batch_size=16, epochs=None, steps=steps, eval_epochs=0, weight_decay=0.0)
    annealed = {"schedule": "cosine", "decay_epochs": None, "clipping": "none"}
    start = replace(base, **annealed, optimizer="muon", learning_rate=0.005, momentum=0.95,
                    error="absolute")  # fmt: skip
    adam = replace(start, optimizer="adam", learning_rate=5e-4, momentum=0.9)
    sgd = replace(base, schedule="cosine", decay_epochs=None, weight_decay=1e-4)
    return preset, start, adam, sgd


def optimisers(preset):
    """Return trainings sixteen times as long, of full batches, for the settings of a long run.

    A choice made on 600 steps need not hold for many thousands. `studies.chosen_changes` says
    which changes are taken into the long run. Adam, at a rate that is higher as the batch is
    larger, and the paper's update, its rate annealed, show what ten years of optimisers changed.
    Then comes one in two halves, of which the first has ten layers. The last goes on from one that
    had ended, for twice as many steps: over other patches, at a rate that starts anew and falls to
    zero once more (Loshchilov and Hutter 2017).
    """
    preset, start, adam, sgd = _recipes(preset)
    total = 2400 if preset == "paper" else 8
    places = tuple(sorted({round(total / 2**k) for k in range(7)} - {0}))
    long = {"batch_size": 64 if preset == "paper" else 16, "steps": total, "eval_steps": places}
    start = replace(start, **long, learning_rate=0.01)
    changes = [
        {"learning_rate": 0.005}, {"learning_rate": 0.02},
        {"error": "charbonnier"}, {"error": "squared"}, {"adam_rate": 3e-4}, {"keep": 0.25},
        {"shrink": True},
    ]  # fmt: skip
    changed = [replace(start, **change) for change in changes]
    listed = [start, replace(adam, **long, learning_rate=1e-3), replace(sgd, **long), *changed]
    if preset == "paper":
        shrunk, steps = changed[-1], 2 * total
        listed += _grown(start)
        listed.append(replace(shrunk, start=run_id(shrunk), steps=steps,
                              eval_steps=(*range(600, steps + 1, 600),)))  # fmt: skip
    return listed


def benchmark(preset):
    """Return the networks of Table 3: one of ten years later, and one by the paper's recipe.

    Both see 281 of the 291 images in eight orientations. The other ten are BSD10, which says how
    good they are before any test set does. The first is `optimisers`' first training with what
    that search chose, 25 times as long. It sees shrunk images as well, which were level in the
    search: so long a training would else see each patch nine times, and so it is three times.
    The paper's 80 epochs of so many patches would be 518,800 steps, and it prints 9,960. Four
    epochs are 25,940, about as many as the shortest reading of `epoch`'s clock.
    """
    preset, base = preset_config(preset)
    later = replace(optimisers(preset)[0], **CHOSEN_CHANGES | {"shrink": True})
    if preset == "paper":
        steps = 60_000
        later = replace(later, steps=steps, eval_steps=(*range(5000, steps + 1, 5000),))
        sets = ("BSD10", "Set5")
        recipe = replace(
            base, train_set="T91+BSD190", augment=True, epochs=4, decay_epochs=1, eval_sets=sets
        )
        return [later, recipe]
    length = {"batch_size": base.batch_size, "epochs": base.epochs, "steps": None}
    return [replace(later, **length, eval_steps=(), eval_epochs=1), base]
