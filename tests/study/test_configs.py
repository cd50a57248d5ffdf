from dataclasses import replace

import numpy as np
import pytest
import torch

from vdsr import data, ledger
from vdsr.config import TrainConfig, run_id
from vdsr.data import SAMPLES
from vdsr.study import configs, cost
from vdsr.study.queue import asked
from vdsr.study.studies import STUDIES

EACH_PRESET = pytest.mark.parametrize("preset", configs.PRESETS)


def ids(some):
    return {run_id(config) for config in some}


def test_auto_follows_the_machine(monkeypatch):
    for gpu, preset in ((True, "paper"), (False, "quick")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        assert configs.preset_config("auto")[0] == preset


def test_unknown_preset_names_the_known():
    with pytest.raises(ValueError, match="one of auto, smoke, quick, paper; got 'cpu'"):
        configs.preset_config("cpu")


@EACH_PRESET
@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_studies_list_distinct_runs(study, preset):
    listed = study.runs(preset)
    assert all(isinstance(config, TrainConfig) for config in listed)
    assert len(ids(listed)) == len(listed) > 1


@EACH_PRESET
def test_every_run_can_be_trained_by_the_code_as_it_is(preset):
    assert {c.recipe for c in asked(STUDIES, preset).values()} == {TrainConfig().recipe}


@pytest.mark.parametrize(
    "study",
    [configs.settings, configs.residual, configs.noise, configs.epoch, configs.clipping,
     configs.init, configs.context],
)  # fmt: skip
def test_section_3_2_starts_from_one_run(study):
    reference, _ = configs.reference("paper")
    assert run_id(reference) in ids(study("paper"))


def test_the_reference_is_table_1s_network():
    reference, whole = configs.reference("paper")
    assert whole
    assert replace(reference, eval_sets=("Set5",), eval_epochs=1, eval_steps=()) == TrainConfig(
        depth=10, scales=(2,), eval_scales=(2,)
    )
    assert reference.eval_sets == ("BSD10", "Set5")  # the first chooses, the second answers


def test_what_studies_share_is_one_run():
    everything = [config for study in STUDIES.values() for config in study.runs("paper")]
    assert len(ids(everything)) < len(everything)
    assert ids(configs.noise("paper")[:2]) == ids(configs.residual("paper")[:2])
    three_scales = TrainConfig()
    for study in (configs.depth, configs.scales, configs.srcnn):
        assert run_id(three_scales) in ids(study("paper"))


def test_figure_3_is_the_papers_recipe():
    for config in configs.depth("paper"):
        assert run_id(config) == run_id(TrainConfig(depth=config.depth))
    assert {5, 20} < {config.depth for config in configs.depth("paper")}


def test_table_1_has_three_rates_of_two_kinds():
    kinds = {(c.learning_rate, c.residual) for c in configs.residual("paper")}
    assert kinds == {(rate, kind) for rate in (0.1, 0.01, 0.001) for kind in (True, False)}


def test_chance_is_three_seeds_of_table_1():
    runs = configs.noise("paper")
    assert ids(runs) == ids(replace(c, seed=s) for c in configs.residual("paper") for s in range(3))
    assert {c.learning_rate for c in runs[:6]} == {0.1}


def test_table_2_scores_every_network_at_whole_and_fractional_scales():
    for config in configs.scales("paper"):
        assert {1.5, 2, 2.5, 3, 3.5, 4} == {*config.eval_scales}


def test_the_epochs_clock_ticks_evenly_on_a_logarithmic_axis():
    constant = [c for c in configs.epoch("paper") if c.schedule == "constant"]
    assert {c.learning_rate for c in constant} == {0.1, 0.01, 0.001}
    for config in constant:
        assert config.eval_steps_in(41) == [*config.eval_steps]
        ratios = np.diff(np.log(config.eval_steps))
        assert ratios == pytest.approx(np.log(3000) / 24, abs=0.02)
        assert config.eval_steps[-1] == config.steps == 3000


def test_a_chosen_bound_is_tried_at_the_other_rates(monkeypatch):
    before = configs.clipping("paper")
    monkeypatch.setitem(configs.CHOSEN_BOUNDS, "norm", 0.4)
    more = [c for c in configs.clipping("paper") if c not in before]
    assert [(c.learning_rate, c.clipping, c.theta) for c in more] == [
        (0.001, "norm", 0.4), (0.01, "norm", 0.4)
    ]  # fmt: skip
    assert all(c.clipping != "norm" or c.learning_rate == 0.1 for c in configs.clipping("smoke"))


def test_constant_bounds_are_those_the_adjustable_one_passes_through_and_one_below():
    runs = configs.clipping("paper")
    values = [c.theta for c in runs if (c.clipping, c.learning_rate) == ("value", 0.1)]
    assert values == pytest.approx([1e-3, 1e-2, 1e-1, 1e-4])
    norms = [c.theta for c in runs if (c.clipping, c.learning_rate) == ("norm", 0.1)]
    assert norms == [0.4, 0.04, 4.0, 0.004]


def test_context_changes_nothing_but_context():
    twin = configs.reference("paper")[0]
    for config in configs.context("paper"):
        assert config.scales == config.eval_scales and config.scales in ((2,), (4,))
        same = {"depth": twin.depth, "dilation": 1, "scales": (2,), "eval_scales": (2,)}
        assert replace(config, **same) == twin


def test_srcnn_is_its_own_recipe():
    one, three, *vdsr = configs.srcnn("paper")
    assert one == replace(three, scales=(3,), epochs=3 * three.epochs)  # equal updates
    assert three.scales == (2, 3, 4)
    assert (three.patch_size, three.patch_size - three.overlap) == (33, 14)
    assert (three.learning_rate, three.last_rate, three.batch_size) == (1e-4, 0.1, 128)
    assert (three.clipping, three.weight_decay, three.init) == ("none", 0, "normal")
    assert ids(vdsr) == {run_id(TrainConfig()), run_id(TrainConfig(scales=(3,)))}


@EACH_PRESET
def test_the_two_recipes_of_table_3_share_network_and_images(preset):
    later, recipe = configs.benchmark(preset)
    for name in ("depth", "width", "train_set", "augment", "scales", "init", "eval_sets"):
        assert getattr(later, name) == getattr(recipe, name)
    if preset == "paper":
        start = configs.optimisers(preset)[0]
        assert later == replace(
            start, **configs.CHOSEN_CHANGES, shrink=True, steps=25 * start.steps,
            eval_steps=later.eval_steps,
        )  # fmt: skip
        assert later.eval_steps[-1] == later.steps == 60_000


def test_theta_for_three_scales_is_figure_3_but_for_theta():
    figure = {run_id(c) for c in configs.depth("paper")}
    for config in configs.theta_for_scales("paper"):
        assert run_id(replace(config, theta=1e-4)) in figure
        assert config.eval_sets[0] == "BSD10"


def test_a_steady_context_is_two_fields_of_five_layers_trained_in_other_ways():
    *runs, narrow, wide = configs.steady_context("paper")
    kinds = (3e-5, 0), (1e-4, 1), (1e-4, 2)
    assert [(c.depth, c.dilation, c.theta, c.seed) for c in runs] == [
        (5, dilation, *kind) for kind in kinds for dilation in (1, 2)
    ]
    assert {run_id(replace(c, theta=1e-4, seed=0)) for c in runs} < ids(configs.context("paper"))
    muon = configs.shallow("paper")[2]
    assert muon.optimizer == "muon"
    for config, dilation in ((narrow, 1), (wide, 2)):
        alone = replace(muon, scales=(4,), dilation=dilation, eval_scales=(4,))
        assert run_id(config) == run_id(alone)


def test_five_layers_are_those_of_figure_3_but_for_the_update():
    five, adam, muon, *alone = configs.shallow("paper")
    assert run_id(five) in {run_id(config) for config in configs.depth("paper")}
    other = {name for name, value in vars(five).items() if vars(adam)[name] != value}
    assert other == {"optimizer", "learning_rate", "clipping", "weight_decay"}
    assert [replace(c, scales=(2, 3, 4), eval_scales=(2, 3, 4)) for c in alone] == [five] * 3
    assert {run_id(alone[0]), run_id(alone[2])} < ids(configs.context("paper"))
    longer = replace(muon, epochs=80, decay_epochs=20, eval_epochs=10)
    assert longer == replace(adam, optimizer="muon", learning_rate=0.01, momentum=0.95)


def test_a_longer_search_changes_one_thing_at_a_time():
    start, adam, sgd, *changed, half, grown, onward = configs.optimisers("paper")
    assert [c.learning_rate for c in (start, adam, sgd)] == [0.01, 1e-3, 0.1]
    assert (start.steps, start.batch_size) == (2400, 64)
    assert (start.optimizer, adam.optimizer, sgd.optimizer) == ("muon", "adam", "sgd")
    one, settings = vars(start), [vars(config) for config in changed]
    for other in settings:
        assert len({name for name in one if one[name] != other[name]}) == 1
    assert len({(c.batch_size, c.steps, c.train_set) for c in (start, adam, sgd, *changed)}) == 1
    assert start.eval_steps_in(1000)[-1] == start.steps
    assert grown == replace(start, start=run_id(half), steps=1200)
    assert (half.depth, half.schedule, half.average) == (10, "constant", 0.995)
    assert (onward.start, onward.shrink) == (run_id(changed[-1]), True)
    assert onward.eval_steps[-1] == onward.steps == 2 * start.steps


def test_suspects_are_table_1_but_for_one_thing():
    table = {run_id(c) for c in configs.residual("paper")}
    for config in configs.suspects("paper"):
        twin = configs.reference("paper")[0]
        back = [{"theta": twin.theta}, {"loss": twin.loss}, {"augment": twin.augment},
                {"init": twin.init, "last_scale": twin.last_scale}]  # fmt: skip
        assert run_id(config) not in table
        assert [run_id(replace(config, **one)) in table for one in back].count(True) == 1


def test_table_3_trains_on_the_images_but_bsd10_in_eight_orientations():
    for config in configs.benchmark("paper"):
        assert (config.train_set, config.augment) == ("T91+BSD190", True)
        assert config.eval_sets[0] == "BSD10"


def test_the_papers_recipe_in_table_3_is_of_the_length_its_page_says(data_dir):
    recipe = configs.benchmark("paper")[1]
    steps = cost.patches(recipe) // recipe.batch_size
    assert (4 * steps, 80 * steps) == (25_940, 518_800)
    assert recipe.total_steps(steps) == 25_940
    rates = [recipe.rate_factor(step, steps) for step in (steps - 1, steps, 25_939)]
    assert rates == pytest.approx([1, 0.1, 0.001])


def test_nothing_is_scored_on_what_it_trains_on_except_in_smoke():
    def members(names):
        return {m for n in names for m in (SAMPLES[n] if n in SAMPLES else data._files()[n])}

    assert members(["BSD10"]) < members(["BSD200"])
    listed = [c for study in STUDIES.values() for p in ("quick", "paper") for c in study.runs(p)]
    for config in listed:
        assert not members(config.train_set.split("+")) & members(config.eval_sets)


def test_nothing_is_chosen_on_a_test_set():
    for config in configs.settings("paper"):
        assert "BSD10" in config.eval_sets
    assert STUDIES["search_theta"].images == "BSD10"
    assert {c.eval_sets[0] for c in configs.benchmark("paper")} == {"BSD10"}


def test_identities_do_not_drift():
    """A change of these two makes every run that was recorded a run not made."""
    assert run_id(configs.reference("paper")[0]) == "cc6ae89b0a36"
    assert run_id(TrainConfig()) == "f094371537bc"


def test_recorded_runs_of_the_papers_length_are_asked_for():
    runs, _ = ledger.read()
    assert {*runs.run} <= {*asked(STUDIES, "paper", seeds=10)}
    assert {*runs.preset} == {"paper"}
