from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from vdsr import ledger, machine
from vdsr.config import run_id
from vdsr.model import step_operations
from vdsr.study import configs, records


@pytest.mark.parametrize("study", [configs.optimiser_trials, configs.optimisers])
def test_each_training_has_a_name_of_its_own(study):
    """And its other seeds have the same."""
    called = records.names(study("paper"))
    names = [called[run_id(config)] for config in study("paper") if run_id(config) in called]
    assert len({*names}) == len(names) == len(called) / 3
    for seed in (1, 2):
        assert called[run_id(replace(study("paper")[0], seed=seed))] == "Muon"
    assert [name for name in names if "," not in name] == ["Muon", "Adam", "SGD with clipping"]


def test_a_name_says_what_is_changed():
    changes = {
        "rate 0.02": {"learning_rate": 0.02},
        "momentum 0.9": {"momentum": 0.9},
        "squared error": {"error": "squared"},
        "Charbonnier error": {"error": "charbonnier"},
        "batches of 128": {"batch_size": 128, "learning_rate": 0.02},  # which go together
        "weights averaged, rate not lowered": {"average": 0.98, "schedule": "constant"},
        "fuller half of patches": {"keep": 0.5},
        "fullest quarter of patches": {"keep": 0.25},
        "images shrunk as well": {"shrink": True},
        "one orientation": {"augment": False},
        "outer layers at 0.0003": {"adam_rate": 3e-4},
        "last layer from zero": {"last_scale": 0.0},
    }
    start = configs.optimisers("paper")[0]
    names = records.names([start, *(replace(start, **change) for change in changes.values())])
    assert [*dict.fromkeys(names.values())] == ["Muon", *(f"Muon, {name}" for name in changes)]


def test_a_name_says_what_training_went_on_from():
    """And its first half has none."""
    *_, half, halves, shallow, grown, _ = configs.optimiser_trials("paper")
    names = records.names(configs.optimiser_trials("paper"))
    assert names[run_id(halves)] == "Muon, in two halves"
    assert names[run_id(grown)] == "Muon, grown from 10 layers"
    assert not {run_id(half), run_id(shallow)} & names.keys()
    *_, onward = configs.optimisers("paper")
    names = records.names(configs.optimisers("paper"))
    assert names[run_id(onward)] == "Muon, trained on"
    assert names[onward.start] == "Muon, images shrunk as well"  # it is one of its own


@pytest.mark.parametrize("study", [configs.optimiser_trials, configs.optimisers])
def test_all_trainings_of_a_search_are_of_equal_work(study):
    """What a training goes on from counts as its first half; one that was trained on is longer."""
    names = records.names(study("paper"))
    listed = [c for c in study("paper") if names.get(run_id(c)) != "Muon, trained on"]
    works = {
        run_id(config): config.steps * step_operations(config.network(), config.batch_size, 41)
        for config in listed
    }
    halves = {config.start: config for config in listed if config.start}
    for identity, config in halves.items():
        works[run_id(config)] += works.pop(identity)
    assert min(works.values()) > 0.998 * max(works.values())


@pytest.fixture
def rows(monkeypatch):
    """Two trainings whose PSNR is 36 to 37.2 dB."""
    table = pd.DataFrame({"run": ["a", "b"], "commit": ["HEAD then 4c5b6a", "gone"]})
    monkeypatch.setattr(ledger, "read", lambda: (table, None))
    scores = [("a", 20, 2000.0, 37.2), ("a", 10, 1000.0, 36.66), ("b", 30, 3000.0, 36.0)]
    return pd.DataFrame(scores, columns=["run", "step", "tflop", "psnr"]).assign(name="Muon")


def test_a_record_is_the_first_work_that_reached_it(rows):
    table = records.records(rows, speed=0.5)
    assert [*table["", "training"]] == ["Muon", "Muon"]
    first = table.iloc[0]
    assert (first["36.66 dB", "PFLOP"], first["37.00 dB", "PFLOP"]) == (1, 2)
    assert first["37.00 dB", "hours"] == pytest.approx(2000 / 0.5 / 3600)
    assert np.isnan(first["37.53 dB", "PFLOP"])
    assert table.iloc[1]["36.66 dB"].isna().all()


def test_a_record_has_the_day_of_its_commit_where_that_is_known(rows):
    days = records.records(rows, speed=0.5)["", "day"]
    assert days[0] == machine.git("show", "-s", "--format=%cs", "HEAD")
    assert days[1] == ""


def test_runs_of_no_known_commit_have_no_day_and_git_is_not_needed(rows, monkeypatch):
    def none(*arguments):
        raise FileNotFoundError("git")

    monkeypatch.setattr(machine, "git", none)
    rows = rows.assign(run=["c", "c", "b"])  # a small preset's is in no ledger
    table = records.records(rows, speed=np.nan)
    assert [*table["", "day"]] == ["", ""] and [*table["", "commit"]] == ["", "gone"]
    assert table["36.66 dB", "PFLOP"][0] == 1 and table["36.66 dB", "hours"].isna().all()


def test_records_of_nothing_are_empty(rows):
    assert records.records(rows[:0], speed=0.5).empty
