import json
from dataclasses import replace
from importlib import import_module
from itertools import product
from time import monotonic
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import vdsr
from vdsr import ledger, machine, runs
from vdsr.config import run_id
from vdsr.files import load_checkpoint
from vdsr.study import configs, paper, table3

MEASURED = machine.ROOT / "results" / "benchmark.csv"
UPSCALE = import_module("vdsr.upscale")  # vdsr.upscale is the function


@pytest.fixture
def here(elsewhere, tmp_path, monkeypatch):
    """Keep results and the network that ships out of reach; the configs of trainings begun."""
    monkeypatch.setattr(table3, "PRETRAINED", tmp_path / "pretrained.safetensors")
    vdsr.files.save_checkpoint(table3.PRETRAINED, {}, {"run": "another"})
    (tmp_path / "results").mkdir()
    return elsewhere


def bicubic_alone(monkeypatch):
    monkeypatch.setattr(table3, "methods", lambda preset: {"bicubic": lambda scale: None})


# What is compared


def test_authors_weights_are_left_to_presets_with_downloads():
    assert "VDSR, authors' weights" in table3.methods("paper")
    assert table3.public("paper")
    for preset in ("quick", "smoke"):
        assert "VDSR, authors' weights" not in table3.methods(preset)
        assert not table3.public(preset)


def test_public_follows_the_machine_and_refuses_what_it_does_not_know(monkeypatch):
    for gpu in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        assert table3.public("auto") == gpu
    with pytest.raises(ValueError, match="preset must be one of"):
        table3.public("cpu")


def test_srcnn_for_one_scale_is_used_there_and_the_one_for_all_elsewhere():
    one, three, *_ = configs.srcnn("paper")
    chosen = table3.methods("paper")["SRCNN, ours"]
    assert [chosen(scale) for scale in (2, 3, 4)] == [three, one, three]


@pytest.mark.parametrize("preset", configs.PRESETS)
def test_the_recipes_are_the_benchmarks(preset):
    later, recipe = configs.benchmark(preset)
    chosen = table3.methods(preset)
    assert chosen[table3.PAPERS_RECIPE](3) == recipe
    assert chosen[table3.LATER_RECIPE](3) == chosen[table3.ENSEMBLE](3) == later
    assert (recipe.optimizer, later.optimizer) == ("sgd", "muon")
    assert {later, recipe} < {*table3.trained(preset)}


# Measuring


def test_scores_are_measured_once_and_recorded(here, monkeypatch):
    nothing = table3.scores("smoke", missing="skip")
    assert nothing.empty
    assert [*nothing] == table3.COLUMNS
    two = {name: table3.methods("smoke")[name] for name in ("bicubic", table3.LATER_RECIPE)}
    monkeypatch.setattr(table3, "methods", lambda preset: two)
    scores = table3.scores("smoke", record=True)
    cells = scores.groupby(["method", "scale"]).image.apply(list)
    assert len(cells) == 2 * 3
    assert all(images == ["astronaut", "chelsea"] for images in cells)
    bicubic = scores[(scores.method == "bicubic") & (scores.scale == 3)]
    assert [*bicubic.psnr] == [*vdsr.evaluate(None, "samples-test", 3).psnr]
    assert {*bicubic.run} == {"bicubic"}
    assert {*scores.commit} == {"abc"}
    trained = scores[scores.method == table3.LATER_RECIPE]
    run = vdsr.train(configs.benchmark("smoke")[0])
    assert {*trained.run} == {run.id}
    assert [*trained[trained.scale == 2].psnr] == pytest.approx(
        [*vdsr.evaluate(run.model, "samples-test", 2).psnr]
    )

    monkeypatch.setattr(table3, "measure", None)  # would be called if anything were missing
    again = table3.scores("smoke")
    pd.testing.assert_frame_equal(again[scores.columns], scores, rtol=1e-5, check_dtype=False)


@pytest.mark.slow
def test_every_method_is_measured(here):
    scores = table3.scores("smoke")
    assert {*scores.method} == {*table3.methods("smoke")}
    assert len(scores) == len(table3.methods("smoke")) * 3 * 2
    assert len(here) == len({run_id(config) for config in table3.trained("smoke")})


def test_what_two_processes_measured_stands_there_once(here, monkeypatch):
    bicubic_alone(monkeypatch)
    measure = table3.measure

    def beside(*what):
        rows = measure(*what).assign(method="bicubic", run="bicubic")
        ledger.extend("benchmark", rows, [*table3.BY, "image"])
        return measure(*what)

    monkeypatch.setattr(table3, "measure", beside)
    scores = table3.scores("smoke", record=True)
    assert len(table3.recorded()) == len(scores) == 2 * 3


def test_a_passed_deadline_begins_nothing(here):
    assert table3.scores("smoke", deadline=0.0).empty
    assert not here


def test_a_deadline_stops_a_training_that_is_begun(here, monkeypatch, tiny):
    monkeypatch.setattr(table3, "methods", lambda preset: {"tiny": lambda scale: tiny})
    deadline = monotonic() + 60
    times = iter([*[deadline - 1] * 3, *[deadline + 1] * 99])
    monkeypatch.setattr(import_module("vdsr.train"), "monotonic", lambda: next(times))
    assert table3.scores("smoke", deadline=deadline).empty
    assert here


def test_a_network_that_diverged_has_no_scores(here, monkeypatch, tiny):
    wild = replace(tiny, clipping="none", learning_rate=1e30)
    monkeypatch.setattr(table3, "methods", lambda preset: {"wild": lambda scale: wild})
    assert table3.scores("smoke").empty


def test_a_network_is_timed_after_a_first_image(here, monkeypatch):
    seen = []
    monkeypatch.setattr(
        table3, "evaluate", lambda model, images, scale: seen.append([*images]) or pd.DataFrame()
    )
    table3.measure(vdsr.VDSR(2, 1), "samples-test", 2)
    assert seen == [["astronaut"], ["astronaut", "chelsea"]]


def test_an_ensemble_is_measured_as_the_mean_of_eight_orientations(here, monkeypatch):
    ensemble = {table3.ENSEMBLE: table3.methods("smoke")[table3.ENSEMBLE]}
    monkeypatch.setattr(table3, "methods", lambda preset: ensemble)
    scores = table3.scores("smoke")
    model = vdsr.train(configs.benchmark("smoke")[0]).model
    eight = vdsr.evaluate(vdsr.networks.Ensemble(model), "samples-test", 3).psnr
    once = vdsr.evaluate(model, "samples-test", 3).psnr
    assert [*scores[scores.scale == 3].psnr] == pytest.approx([*eight])
    assert abs(eight - once).min() > 1e-3


def test_a_large_set_is_measured_by_the_fast_way_with_the_same_result(here, monkeypatch):
    calls = []
    fastest = vdsr.networks.fastest
    monkeypatch.setattr(
        vdsr.networks, "fastest", lambda *given: calls.append(given[1:]) or fastest(*given)
    )
    model = vdsr.load_pretrained()
    images = {"a": vdsr.load_images("samples-test")["chelsea"]}
    monkeypatch.setattr(table3, "load_images", lambda name: images)
    monkeypatch.setattr(vdsr.networks, "_LARGE", 1)
    rows = table3.measure(model, "samples-test", 2)
    assert calls == [("float32", images["a"].shape[0] * images["a"].shape[1])]
    assert [*rows.psnr] == pytest.approx([*vdsr.evaluate(model, images, 2).psnr], abs=1e-4)


def test_the_network_that_ships_need_not_be_trained(here, monkeypatch, tiny):
    model = tiny.network()
    monkeypatch.setattr(table3, "load_pretrained", lambda: model)
    vdsr.files.save_checkpoint(table3.PRETRAINED, model.state_dict(), {"run": run_id(tiny)})
    assert table3._model("VDSR", tiny) is model
    assert not here


def test_complete_is_every_cell(here, monkeypatch):
    bicubic_alone(monkeypatch)
    asked = []
    monkeypatch.setattr(table3, "scores", lambda preset, **given: asked.append(given))
    for preset, sets in (("smoke", ["samples-test"]), ("paper", table3.SETS)):
        rows = [("bicubic", "bicubic", name, scale) for name in sets for scale in (2, 3, 4)]
        table = pd.DataFrame(rows, columns=table3.BY)
        for known, answer in ((table, True), (table[1:], False)):
            monkeypatch.setattr(table3, "recorded", lambda known=known: known)
            assert table3.complete(preset, 12.5) == answer
            assert asked[-1] == {"record": True, "deadline": 12.5}


def test_complete_does_not_wait_for_what_diverged(here, monkeypatch, tiny):
    wild = replace(tiny, clipping="none", learning_rate=1e30)
    monkeypatch.setattr(table3, "methods", lambda preset: {"wild": lambda scale: wild})
    assert not table3.complete("smoke", None)
    ledger.record(runs.attempt(wild), "smoke")
    assert table3.complete("smoke", None)


# The border


def test_the_border_is_recorded_or_measured(here, monkeypatch, tmp_path):
    measured = []
    monkeypatch.setattr(table3, "load_pretrained", lambda: "network")
    monkeypatch.setattr(
        table3, "border_profile",
        lambda model, images, scale: measured.append((model, len(images), scale)),
    )  # fmt: skip
    table3.border("smoke", "skip")
    assert measured == [("network", 2, 3)]
    (tmp_path / "results" / "border.csv").write_text("distance,method,psnr\n0,bicubic,30\n")
    assert [*table3.border("paper", "skip").psnr] == [30]
    assert len(measured) == 1
    monkeypatch.setattr(table3, "authors", lambda: "theirs")
    monkeypatch.setattr(table3, "load_images", lambda name: name)
    table3.measured_border("paper")
    assert measured[1] == ("theirs", len("Set5"), 3)


@pytest.mark.slow
def test_the_recorded_border_is_the_authors_networks(data_dir):
    recorded = pd.read_csv(MEASURED.with_name("border.csv"))
    again = table3.measured_border("paper")
    pd.testing.assert_frame_equal(recorded, again, rtol=1e-4)
    outermost = recorded[recorded.distance == 0].set_index("method").psnr
    assert outermost["bicubic"] < outermost["zero padding"] < outermost["true surroundings"]
    assert outermost[["replicated", "mirrored"]].max() < outermost["zero padding"]


# The network that ships


def test_release_ships_the_best_by_validation(here, monkeypatch):
    for config in configs.benchmark("smoke"):
        ledger.record(vdsr.train(config), "smoke")
    history = runs.train_all(configs.benchmark("smoke"), missing="skip")
    best = history.groupby("run").psnr.mean().idxmax()
    rows = pd.DataFrame({"method": "VDSR", "run": best, "dataset": "samples-test", "scale": 2,
                         "image": ["a", "b"], "psnr": [30.0, 31.0], "ssim": 0.9, "seconds": 1.0,
                         "commit": "abc", "torch": "2.13.0", "device": "CPU"})  # fmt: skip
    for lacking in (2, 3, 4):
        with pytest.raises(ValueError, match=f"no rows of samples-test ×{lacking} in results/b"):
            table3.release("smoke")
        assert load_checkpoint(table3.PRETRAINED)[1]["run"] == "another"
        ledger.extend("benchmark", rows.assign(scale=lacking), [*table3.BY, "image"])
    assert table3.release("smoke") == best
    metadata = load_checkpoint(table3.PRETRAINED)[1]
    assert (metadata["run"], metadata["preset"]) == (best, "smoke")
    assert metadata["record"]["commit"] == "abc"
    assert metadata["validation"]["images"] == "samples-test"
    assert metadata["psnr"] == {f"samples-test x{scale}": 30.5 for scale in (2, 3, 4)}
    monkeypatch.setattr(UPSCALE, "PRETRAINED", table3.PRETRAINED)
    [config] = [c for c in configs.benchmark("smoke") if run_id(c) == best]
    shipped, trained = vdsr.load_pretrained().state_dict(), vdsr.train(config).model.state_dict()
    assert all(torch.equal(shipped[k], trained[k]) for k in trained)


def test_release_looks_at_the_end_and_at_validation_alone(here, monkeypatch, tiny):
    tiny = replace(tiny, eval_sets=("BSD10", "Set5"))
    worse, better = replace(tiny, seed=1), replace(tiny, seed=2)
    rows = {
        worse: [("BSD10", 1, 40.0), ("BSD10", 2, 30.0), ("Set5", 2, 33.0)],
        better: [("BSD10", 1, 10.0), ("BSD10", 2, 31.0), ("Set5", 2, 20.0)],
    }
    tables = {c: pd.DataFrame(t, columns=["dataset", "step", "psnr"]) for c, t in rows.items()}
    monkeypatch.setattr(table3, "benchmark", lambda preset: [better, worse])
    monkeypatch.setattr(runs, "train_all", lambda configs, missing: tables[configs[0]])
    made = SimpleNamespace(id="1f", record={}, model=better.network())
    monkeypatch.setattr(runs, "train", lambda config: made if config == better else None)
    with pytest.raises(ValueError, match="run 1f has no rows of Set5 ×2 in results"):
        table3.release("paper")
    cells = [(table3.LATER_RECIPE, "1f", 30.0), (table3.ENSEMBLE, "1f", 40.0), ("x", "2e", 50.0)]
    table = pd.DataFrame(cells, columns=["method", "run", "psnr"])
    places = pd.DataFrame(product(table3.SETS, (2, 3, 4)), columns=["dataset", "scale"])
    table = table.merge(places, how="cross")
    monkeypatch.setattr(table3, "recorded", lambda: table)
    assert table3.release("paper") == "1f"
    metadata = load_checkpoint(table3.PRETRAINED)[1]
    assert metadata["validation"] == {"images": "BSD10", "psnr": 31.0}
    assert metadata["psnr"] == {f"{d} x{s}": 30.0 for d in table3.SETS for s in (2, 3, 4)}


def test_release_of_nothing_says_so(here):
    with pytest.raises(ValueError, match="no run of the benchmark is recorded with preset paper"):
        table3.release("paper")


def test_the_network_that_ships_says_where_it_comes_from():
    tensors, metadata = load_checkpoint(UPSCALE.PRETRAINED)
    assert metadata["config"]["train_set"] == "T91+BSD190"
    assert metadata["validation"]["images"] == "BSD10"
    assert metadata["psnr"]["Set5 x2"] > 37.3
    assert json.dumps(metadata)
    assert sum(t.numel() for t in tensors.values()) == 665_921
    table = ledger.read()[0].set_index("run")
    assert table.commit[metadata["run"]] == metadata["record"]["commit"]


@pytest.mark.slow
def test_the_network_that_ships_gives_its_recorded_scores(data_dir):
    metadata = load_checkpoint(UPSCALE.PRETRAINED)[1]
    scores = vdsr.evaluate(vdsr.load_pretrained(), "Set5", 3).psnr
    assert scores.mean() == pytest.approx(metadata["psnr"]["Set5 x3"], abs=0.005)
    known = pd.read_csv(MEASURED)
    known = known[(known.run == metadata["run"]) & (known.method == table3.LATER_RECIPE)]
    known = known[(known.dataset == "Set5") & (known.scale == 3)]
    assert [*known.psnr] == pytest.approx([*scores], abs=0.005)


@pytest.mark.slow
def test_the_network_that_ships_is_better_than_interpolation_from_about_165_on(data_dir):
    network = vdsr.load_pretrained()
    psnr = {
        scale: [vdsr.evaluate(model, "Set5", scale).psnr.mean() for model in (network, None)]
        for scale in (1.6, 1.7)
    }
    assert psnr[1.6][0] < psnr[1.6][1]
    assert psnr[1.7][0] > psnr[1.7][1]


# The table


def test_table3_has_the_papers_columns_beside_ours():
    rows = [("bicubic", "Set5", 2, 33.6, 0.93, 0.0), ("bicubic", "Set5", 2, 33.8, 0.95, 0.2)]
    columns = ["method", "dataset", "scale", "psnr", "ssim", "seconds"]
    scores = pd.DataFrame(rows, columns=columns)
    table = table3.as_table3(scores, "psnr")
    assert table["measured here", "bicubic"]["Set5", 2] == pytest.approx(33.7)
    assert table["the paper", "VDSR"]["Set5", 2] == 37.53
    assert pd.isna(table["measured here", "bicubic"]["B100", 4])
    other = table3.as_table3(scores.assign(dataset="samples-test"), "ssim")
    assert [*other.columns.levels[0]] == ["measured here"]
    assert other["measured here", "bicubic"]["samples-test", 2] == pytest.approx(0.94)


def test_table3_of_nothing_is_empty():
    nothing = pd.DataFrame(columns=table3.COLUMNS)
    assert table3.as_table3(nothing, "psnr").empty


@pytest.mark.parametrize("ours", ["bicubic", "VDSR, authors' weights"])
def test_recorded_cells_without_training_are_the_papers(ours):
    reported = paper.table("table3").set_index(["method", "dataset", "scale"])
    reported = reported.loc[ours.split(",")[0]]
    measured = pd.read_csv(MEASURED)
    measured = measured[measured.method == ours].groupby(["dataset", "scale"])
    difference = measured[["psnr", "ssim"]].mean() - reported[["psnr", "ssim"]]
    assert difference.notna().all(axis=None)
    assert len(difference) == 12
    assert difference.ssim.abs().max() < 0.001
    set14 = difference.index.get_level_values("dataset") == "Set14"
    assert difference.psnr[~set14].abs().max() < 0.01
    assert difference.psnr[set14].max() < (0.01 if ours == "bicubic" else 0.035)
    assert difference.psnr[set14].min() > -0.01


def test_what_is_recorded_was_measured_on_every_image():
    known = table3.recorded()
    counts = {"Set5": 5, "Set14": 14, "B100": 100, "Urban100": 100}
    cells = known.groupby(table3.BY).image.agg(["size", "nunique"]).reset_index()
    assert [*cells["size"]] == [*cells["nunique"]] == [counts[name] for name in cells.dataset]
    recorded = {*ledger.read()[0].run}
    assert {*known.run[known.run != known.method]} <= recorded
