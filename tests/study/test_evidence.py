import shutil
from dataclasses import replace
from math import nan

import pandas as pd
import pytest

import vdsr
from vdsr import data, ledger, machine, runs
from vdsr.config import run_id
from vdsr.study import configs, paper, studies, table3
from vdsr.study import evidence as module
from vdsr.study.evidence import Study, beside, bicubic, caption, final, pick
from vdsr.study.findings import Case, Finding, Noise
from vdsr.study.studies import STUDIES, load
from vdsr.train import Trainer

RESULTS = machine.ROOT / "results"


@pytest.fixture
def small(monkeypatch, tiny):
    """A study of two runs, in every preset."""
    made = Study(
        "small", "Does it work?", lambda preset: [tiny, replace(tiny, depth=2)],
        lambda e: [Finding("it", "It does", "§1", "small",
                           (Case("a", e.psnr(depth=2).mean()),), e.preset)],
    )  # fmt: skip
    monkeypatch.setitem(STUDIES, "small", made)
    return made


# Loading


def test_load_trains_what_is_missing_once(elsewhere, small):
    first = load("small", "smoke")
    assert [config.depth for config in elsewhere] == [3, 2]
    assert {*first.rows.dataset} == {"samples-test"}
    assert first.finding("it").cases[0].ours == first.psnr(depth=2).iloc[0]
    again = load("small", "smoke")
    pd.testing.assert_frame_equal(first.histories, again.histories)
    assert len(elsewhere) == 2
    load("small", "smoke", refresh=True)
    assert len(elsewhere) == 4


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("width", {}, "unknown study 'width'; known are search_theta, "),
        ("ablation_depth", {"preset": "cpu"}, "preset must be one of auto, smoke, quick, paper"),
        ("ablation_depth", {"preset": "smoke", "missing": "no"}, "'train' or 'skip', got 'no'"),
        ("ablation_depth", {"preset": "smoke", "refresh": "yes"}, "True or False, got 'yes'"),
    ],
)
def test_load_refuses_before_it_trains(elsewhere, name, options, message):
    with pytest.raises(TypeError if "refresh" in options else ValueError, match=message):
        load(name, **options)
    assert not elsewhere


def test_load_announces_the_papers_length(elsewhere, small, monkeypatch):
    announced = []
    monkeypatch.setattr(studies, "announce", lambda *what: announced.append(what))
    load("small", "smoke")
    load("small", "paper", missing="skip")
    assert not announced
    load("small", "paper")
    assert announced == [(small.runs("paper"), False)]


def test_further_seeds_are_shown_if_they_are_recorded(elsewhere, small, tiny):
    for seed in (1, 2, 3):
        ledger.record(vdsr.train(replace(tiny, seed=seed)), "smoke")
    vdsr.train(replace(tiny, depth=2, seed=1))  # here, but not recorded
    shown = load("small", "smoke")
    assert sorted(zip(shown.final.depth, shown.final.seed, strict=True)) == [
        (2, 0), (3, 0), (3, 1), (3, 2)
    ]  # fmt: skip
    assert shown.caption.startswith("2 of 2 runs")  # those that were asked for


@pytest.mark.parametrize("records", ["recorded", "empty"])
@pytest.mark.parametrize(
    ("name", "preset"),
    [(name, preset) for name in STUDIES for preset in configs.PRESETS],
)
def test_nothing_is_trained_when_what_is_missing_is_skipped(
    tmp_path, monkeypatch, name, preset, records
):
    if records == "empty":  # interpolation and borders are no runs, and come with the project
        (tmp_path / "results").mkdir()
        for file in ("bicubic.csv", "border.csv"):
            shutil.copy(RESULTS / file, tmp_path / "results")
        monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setenv("VDSR_RUNS_DIR", str(tmp_path / "runs"))
    for owner, part in ((Trainer, "__init__"), (runs, "attempt"), (table3, "measure")):
        monkeypatch.setattr(owner, part, None)
    monkeypatch.setattr(data, "fetch", None)
    tiny_network = vdsr.VDSR(2, 1).eval()  # the border is measured where it is not recorded
    monkeypatch.setattr(table3, "load_pretrained", lambda: tiny_network)
    shown = load(name, preset, missing="skip")
    assert shown.preset == preset
    assert shown.caption.endswith(".")
    for finding in shown.findings:
        if records == "empty" and finding.name != "border":
            assert finding.verdict == "not run"
        assert len(finding.table()) == len(finding.cases)
        assert finding.row()["verdict"] == finding.verdict
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "results" / "runs.csv").exists()


# What there is


def test_images_are_the_papers_in_the_papers_presets(evidence):
    assert evidence("ablation_depth", [], "paper").images == "Set5"
    assert evidence("search_theta", [], "paper").images == "BSD10"
    for preset in ("smoke", "quick"):
        assert evidence("ablation_depth", [], preset).images == "samples-test"
        assert not evidence("ablation_depth", [], preset).public


def test_final_is_the_last_step_of_each_run_and_pick_a_value_a_seed(evidence, row):
    config = configs.depth("paper")[0]
    rows = [
        row(config, 35.0, step=10), row(config, 36.0, step=20), row(config, 28.0, step=20, scale=3),
        row(replace(config, seed=1), 36.5, step=15), row(config, 27.0, step=20, dataset="BSD10"),
    ]  # fmt: skip
    shown = evidence("ablation_depth", rows)
    assert [*shown.final.psnr] == [36.0, 28.0, 36.5]
    assert [*shown.psnr(scale=2, depth=5)] == [36.0, 36.5]
    assert shown.psnr(scale=2, depth=7).empty
    assert [*pick(shown.rows, step=10)] == [35.0]
    assert final(shown.rows[:0]).empty


def test_gains_are_over_bicubic(evidence, row):
    config = configs.depth("paper")[0]
    shown = evidence("ablation_depth", [row(config, 35.0)], bicubic={2: 33.5})
    assert [*shown.gains.gain] == [1.5]


def test_the_papers_table_stands_beside_its_own_images_alone(evidence, row):
    config = configs.depth("paper")[0]
    for preset, ours in (("paper", 35.0), ("quick", None)):
        shown = evidence("ablation_depth", [row(config, 35.0)], preset)
        table = shown.beside("figure3", shown.histories, ["scale", "depth"])
        assert len(table) == 48
        assert [*table.ours.dropna()] == ([ours] if ours else [])


def test_beside_has_mean_spread_and_gaps():
    ours = pd.DataFrame({"depth": [5, 5, 7, 7, 9], "psnr": [36.0, 36.2, 36.0, nan, 1.0]})
    reported = pd.DataFrame({"depth": [5, 7, 20], "psnr": [36.45, 36.78, 37.06]})
    table = beside(ours, reported, ["depth"]).set_index("depth")
    assert [*table.paper] == [36.45, 36.78, 37.06]
    assert table.ours[5] == pytest.approx(36.1)
    assert table.sd[5] == pytest.approx(0.02**0.5)
    assert [*table.seeds] == [2, 2, pytest.approx(nan, nan_ok=True)]
    assert table.difference[5] == pytest.approx(-0.35)
    assert table.ours[[7, 20]].isna().all()  # one seed diverged; not run


def test_chance_is_that_of_the_papers_length(elsewhere, evidence, row, monkeypatch):
    """Three seeds each of two kinds: 36, 37 and 38, and 30 three times."""
    rows = [
        row(config, 37.0 + (config.seed - 1 if config.residual else -7))
        | {"dataset": dataset, "epoch": 80}
        for config in configs.noise("paper")
        for dataset in ("Set5", "BSD10")
    ]

    def recorded(some, missing):
        return pd.DataFrame([r for r in rows if r["run"] in {run_id(c) for c in some}])

    monkeypatch.setattr(module, "train_all", recorded)
    shown = evidence("ablation_depth", [])
    del shown.__dict__["noise"], shown.__dict__["noise_at"]
    assert shown.noise == Noise(pytest.approx(1), 2)
    assert shown.noise_at(80, residual=False) == Noise(0, 2)
    assert shown.noise_at(80, residual=False, rate=0.01) == Noise(0, 2)
    assert shown.noise_at(10) is None
    rows.pop(0)  # two runs of three do not tell
    assert shown.noise_at(80) is None
    assert shown.noise_at(80, residual=False) == Noise(0, 2)
    for preset in ("quick", "smoke"):
        shown = evidence("ablation_depth", [], preset)
        del shown.__dict__["noise"], shown.__dict__["noise_at"]
        assert shown.noise is None


def test_chance_is_not_known_before_it_is_recorded(elsewhere, evidence):
    shown = evidence("ablation_depth", [])
    del shown.__dict__["noise"], shown.__dict__["noise_at"]
    assert shown.noise is None


def test_bicubic_is_recorded_or_measured(elsewhere, tmp_path):
    measured = vdsr.evaluate(None, "samples-test", 2).psnr.mean()
    assert bicubic("samples-test", [2]) == {2: measured}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "bicubic.csv").write_text("dataset,scale,psnr\nSet5,2,33.66\n")
    assert bicubic("Set5", [2]) == {2: 33.66}
    assert bicubic("samples-test", [2]) == {2: measured}


def test_what_a_shared_run_was_scored_on_for_others_is_left_out(evidence, row):
    config = configs.depth("paper")[-1]
    shown = evidence("ablation_depth", [row(config, 37.0, scale=scale) for scale in (1.5, 2)])
    assert [*shown.rows.scale] == [2]
    assert {*shown.bicubic} == {2, 3, 4}


# The caption


def test_caption_of_nothing(evidence, elsewhere):
    assert caption(evidence("ablation_depth", [])) == "None of the study's 7 runs is recorded."


def test_caption_says_what_is_shown(evidence, row):
    made = configs.depth("paper")
    rows = [row(made[0], 35.0, step=5), row(made[0], 36.0, step=1000), row(made[1], 36.0, step=9)]
    rows += [row(replace(made[0], seed=seed), 36.0, step=1000) for seed in (1, 2)]
    said = caption(evidence("ablation_depth", rows, noise=None))
    assert said == (
        "2 of 7 runs, of 5 and 10 layers, each of 9 to 1,000 steps of 64 "
        "patches from T91; scored on Set5; 1 to 3 seeds each."
    )


def test_caption_says_what_chance_does(evidence, row):
    made = configs.depth("paper")
    said = evidence("ablation_depth", [row(made[0], 36.0)]).caption
    assert "standard deviation is 0.020 dB" in said
    assert "two single runs must differ by more than 0.08 dB before the difference counts" in said


def test_caption_is_silent_on_chance_where_no_comparison_has_a_bar(evidence, row):
    """A reader would take the bar of another network for that of the table below."""
    listed = configs.benchmark("paper")
    rows = [row(config, 37.0, step=25_940) for config in listed]
    printed = paper.table("table3").query("method == 'VDSR'")
    measured = printed.assign(method=table3.PAPERS_RECIPE)
    made = evidence("benchmark", rows, more=measured)
    assert made.noise and "chance" not in made.caption
    assert "chance" in evidence("ablation_depth", [row(configs.depth("paper")[0], 36.0)]).caption


def test_caption_of_other_networks(evidence, row):
    listed = configs.srcnn("paper")
    said = evidence("srcnn", [row(config, 32.0) for config in listed]).caption
    assert "4 of 4 runs, of 20 layers" in said
    assert "64 and 128 patches" in said


def test_every_study_has_a_question_and_a_name():
    assert all(study.question.endswith("?") for study in STUDIES.values())
    assert all(name == study.name for name, study in STUDIES.items())
