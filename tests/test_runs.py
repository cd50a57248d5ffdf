import json
import os
from dataclasses import replace

import pandas as pd
import pytest
import torch
from filelock import FileLock

import vdsr
from vdsr import runs, study
from vdsr.experiments import PRESETS
from vdsr.train import OutOfTime, Trainer

RECORDED = runs.ROOT / "results" / "runs.csv"
TINY = replace(PRESETS["smoke"], eval_scales=(2,))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Keep runs and ledger of the project out of reach, and count trainings."""
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.setattr(runs, "commit", lambda: ("abc", False))
    monkeypatch.delenv("VDSR_RUNS_DIR", raising=False)
    trained = []
    fit = Trainer.fit

    def counting(self, **options):
        trained.append(self.config)
        fit(self, **options)

    monkeypatch.setattr(Trainer, "fit", counting)
    return trained


def test_identity_is_config_data_and_recipe(monkeypatch):
    ids = {
        runs.run_id(TINY),
        runs.run_id(replace(TINY, seed=1)),
        runs.run_id(replace(TINY, depth=4)),
    }
    monkeypatch.setattr(runs, "RECIPE", runs.RECIPE + 1)
    ids.add(runs.run_id(TINY))
    monkeypatch.setattr(runs, "data_hash", lambda name: "other")
    ids.add(runs.run_id(TINY))
    assert len(ids) == 5


def test_a_new_fields_old_value_leaves_identities_alone():
    assert runs.run_id(replace(TINY, dilation=1)) == runs.run_id(TINY)
    assert runs.run_id(replace(TINY, dilation=2)) != runs.run_id(TINY)


def test_identity_does_not_drift():
    """The committed ledger's runs are still the runs that today's configs ask for."""
    table = pd.read_csv(RECORDED, dtype={"run": str})
    asked = {
        runs.run_id(c)
        for p in ("cpu", "paper")
        for s in vdsr.experiments.STUDIES.values()
        for c in s(p)
    }
    assert set(table.run) <= asked


def test_trains_once_and_again_on_refresh(elsewhere):
    first = vdsr.train(TINY)
    again = vdsr.train(TINY)
    assert len(elsewhere) == 1
    pd.testing.assert_frame_equal(first.history, again.history)
    assert first.record == again.record
    vdsr.train(TINY, refresh=True)
    assert len(elsewhere) == 2


def test_model_of_a_run_scores_what_its_history_says():
    run = vdsr.train(TINY)
    score = vdsr.evaluate(run.model, "samples-test", 2).psnr.mean()
    assert score == pytest.approx(run.history.psnr.iloc[-1], abs=1e-3)


def test_interrupted_run_continues_and_keeps_where_it_came_from(monkeypatch):
    with pytest.raises(OutOfTime):
        vdsr.train(TINY, deadline=0)
    monkeypatch.setattr(runs, "commit", lambda: ("def", True))
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    for _ in range(2):
        with pytest.raises(OutOfTime):
            vdsr.train(TINY, deadline=0)
    record = vdsr.train(TINY).record
    assert record["commit"] == "abc then def"
    assert record["device"].count("threads") == 1
    assert record["dirty"]
    assert record["steps"] == 6


def test_recorded_run_is_loaded_without_weights(elsewhere, tmp_path):
    run = vdsr.train(TINY)
    runs.record(run, "smoke")
    (tmp_path / "runs" / f"{run.id}.safetensors").unlink()
    loaded = vdsr.train(TINY)
    assert len(elsewhere) == 1
    assert loaded.history.psnr.iloc[0] == pytest.approx(run.history.psnr.iloc[0], abs=1e-3)
    assert loaded.record["device"] == run.record["device"]
    with pytest.raises(FileNotFoundError, match=f"run {run.id} is recorded, but its weights"):
        _ = loaded.model


def test_ledger_is_tidy_and_rerecording_replaces(tmp_path):
    for seed in (0, 1, 0):
        runs.record(vdsr.train(replace(TINY, seed=seed)), "smoke")
    table, scores = runs.ledger()
    assert sorted(table.seed) == [0, 1]
    assert set(table.preset) == {"smoke"}
    assert [*scores] == ["run", "step", "epoch", "train_loss", "dataset", "scale", "psnr", "ssim"]
    assert len(scores) == 2
    text = (tmp_path / "results" / "runs.csv").read_text()
    runs.record(vdsr.train(replace(TINY, seed=2)), "smoke")
    assert (tmp_path / "results" / "runs.csv").read_text().startswith(text)


def test_uncommitted_code_is_not_recorded(monkeypatch):
    monkeypatch.setattr(runs, "commit", lambda: ("abc", True))
    with pytest.raises(ValueError, match="not committed"):
        runs.record(vdsr.train(TINY), "smoke")


def test_train_all_is_one_tidy_table(elsewhere):
    configs = [TINY, replace(TINY, depth=2)]
    table = vdsr.train_all(configs)
    assert [*table.depth] == [3, 2]
    assert set(table.scales) == {"2 3"}


def test_skipping_shows_what_is_recorded_and_nothing_else(elsewhere):
    vdsr.train(replace(TINY, depth=2))
    run = vdsr.train(TINY)
    runs.record(run, "smoke")
    elsewhere.clear()
    table = vdsr.train_all([TINY, replace(TINY, depth=2), replace(TINY, seed=5)], missing="skip")
    assert [*table.run] == [run.id]
    assert not elsewhere
    assert vdsr.train_all([replace(TINY, seed=5)], missing="skip").empty


@pytest.mark.parametrize(
    ("options", "message"),
    [({"missing": "no"}, "'train' or 'skip'"), ({"refresh": "maybe"}, "true or false")],
)
def test_bad_options_fail_before_training(elsewhere, options, message):
    with pytest.raises(ValueError, match=message):
        vdsr.train_all([TINY], **options)
    assert not elsewhere


def test_a_checkpoint_needs_no_unpickling(monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "load", None)
    run = vdsr.train(TINY)
    header = (tmp_path / "runs" / f"{run.id}.safetensors").read_bytes()
    size = int.from_bytes(header[:8], "little")
    assert "config" in json.loads(header[8 : 8 + size])["__metadata__"]
    assert run.model.layers


@pytest.fixture
def studies(monkeypatch):
    monkeypatch.setattr(
        study, "STUDIES",
        {"one": lambda preset: [TINY, replace(TINY, depth=2)], "two": lambda preset: [TINY]},
    )  # fmt: skip


def test_study_records_what_is_missing(studies, elsewhere, capsys):
    assert study.run(["one", "two"], "smoke") == 0
    assert len(elsewhere) == len(runs.ledger()[0]) == 2
    assert "0 runs recorded, 2 missing" in capsys.readouterr().out
    assert study.run(["one", "two"], "smoke") == 0
    assert len(elsewhere) == 2
    assert "2 runs recorded, 0 missing" in capsys.readouterr().out


def test_one_seed_of_every_study_comes_first(studies, elsewhere, monkeypatch):
    second, other = replace(TINY, seed=1), replace(TINY, depth=2)
    monkeypatch.setitem(study.STUDIES, "one", lambda preset: [TINY, second])
    monkeypatch.setitem(study.STUDIES, "two", lambda preset: [other])
    study.run(["one", "two"], "smoke")
    assert elsewhere == [TINY, other, second]


def test_a_study_is_shown_by_paper_once_its_first_seed_is_whole(studies, monkeypatch):
    first, other = TINY, replace(TINY, depth=2)
    monkeypatch.setitem(study.STUDIES, "one", lambda preset: [first, other, replace(first, seed=1)])
    assert study.shown("one") == "cpu"
    runs.record(vdsr.train(first), "paper")  # which another study may have asked for
    assert study.shown("one") == "cpu"
    runs.record(vdsr.train(other), "paper")
    assert study.shown("one") == "paper"


def test_study_stops_in_time_and_goes_on(studies, capsys):
    assert study.run(["one"], "smoke", hours=0) == 1
    assert "stopped at step 1 of 6; the same command goes on" in capsys.readouterr().out
    assert runs.ledger()[0].empty
    assert study.run(["one"], "smoke") == 0


def test_study_refuses_uncommitted_code(studies, elsewhere, monkeypatch, capsys):
    monkeypatch.setattr(runs, "commit", lambda: ("abc", True))
    assert study.run(["one"], "smoke") == 1
    assert "Commit them first" in capsys.readouterr().err
    assert not elsewhere


def test_copy_without_git_says_its_commit(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setenv("VDSR_COMMIT", "0123456789")
    runs.commit.cache_clear()
    assert runs.commit()[0] != "0123456789"  # this is a clone, and knows better
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    runs.commit.cache_clear()
    assert runs.commit() == ("0123456789", False)
    monkeypatch.delenv("VDSR_COMMIT")
    runs.commit.cache_clear()
    assert runs.commit() == ("unknown", True)
    runs.commit.cache_clear()


def test_two_processes_do_not_train_one_run(tmp_path):
    path = tmp_path / "runs" / f"{runs.run_id(TINY)}.lock"
    path.parent.mkdir()
    with FileLock(path), pytest.raises(runs.Busy, match="trained by another process"):
        vdsr.train(TINY)


def test_study_leaves_alone_what_another_process_trains(studies, elsewhere, tmp_path, capsys):
    path = tmp_path / "runs" / f"{runs.run_id(TINY)}.lock"
    path.parent.mkdir()
    with FileLock(path):
        assert study.run(["one", "two"], "smoke") == 1
    assert [c.depth for c in elsewhere] == [2]
    assert "left to other processes: 1" in capsys.readouterr().out
    assert study.run(["one", "two"], "smoke") == 0


def test_study_takes_over_what_another_process_recorded(studies, elsewhere, monkeypatch):
    attempt = runs.attempt

    def beside(config, **options):
        runs.record(attempt(replace(TINY, depth=2)), "smoke")
        return attempt(config, **options)

    monkeypatch.setattr(runs, "attempt", beside)
    assert study.run(["one"], "smoke") == 0
    assert len(elsewhere) == len(runs.ledger()[0]) == 2


def test_work_of_a_run_counts_the_pixels_it_sees():
    def patches(config):
        names = "overlap", "augment"
        options = {name: getattr(config, name) for name in names}
        return len(vdsr.patches.Patches(config.train_set, config.scales, **options))

    for change in ({"augment": True}, {"overlap": 20}, {"train_set": "samples-train"}):
        other = replace(TINY, **change)
        expected = patches(other) / patches(TINY)
        assert study.cost(other) / study.cost(TINY) == pytest.approx(expected, rel=0.2)


def test_unfinished_refresh_of_a_recorded_run_has_no_model(tmp_path):
    runs.record(vdsr.train(TINY), "smoke")
    with pytest.raises(OutOfTime):
        vdsr.train(TINY, refresh=True, deadline=0)
    with pytest.raises(FileNotFoundError, match="not on this machine"):
        _ = vdsr.train(TINY).model


def test_killed_between_the_two_tables_counts_as_not_recorded(monkeypatch, tmp_path):
    run = vdsr.train(TINY)
    replace_file, done = os.replace, []

    def killed(part, path):
        if done:
            raise KeyboardInterrupt
        done.append(replace_file(part, path))

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        runs.record(run, "smoke")
    monkeypatch.setattr(os, "replace", replace_file)
    assert runs.ledger()[0].empty
    runs.record(run, "smoke")
    assert len(runs.ledger()[1]) == 1


def test_a_run_that_diverges_is_a_result(studies, elsewhere, monkeypatch, capsys):
    wild = replace(TINY, clipping="none", learning_rate=1e30)
    monkeypatch.setitem(study.STUDIES, "one", lambda preset: [wild, TINY])
    assert study.run(["one"], "smoke") == 0
    _, first, second = capsys.readouterr().out.splitlines()
    assert "no longer finite at step" in first
    assert first.endswith("1 missing")  # how long it took says nothing of the others
    assert second.endswith("0 missing, about 0.0 hours at this speed")
    assert len(elsewhere) == 2
    for _ in range(2):  # as recorded, and as found here
        with pytest.raises(FloatingPointError, match="no longer finite at step"):
            vdsr.train(wild)
        last = vdsr.train_all([wild]).iloc[-1]
        assert pd.isna(last.psnr)
        assert (last.step, last.epoch) == (6, 1)  # where the run should have ended
        assert runs.attempt(wild).record["steps"] < 6
        (runs.ROOT / "results" / "runs.csv").unlink(missing_ok=True)
    assert len(elsewhere) == 2
    with pytest.raises(FileNotFoundError):
        _ = runs.attempt(wild).model


def test_scores_before_a_divergence_stay_and_those_after_it_are_missing(monkeypatch):
    config, check = replace(TINY, epochs=4, eval_epochs=2), Trainer._check

    def failing(self, losses):
        if self.step >= 15:  # in the third epoch, of six steps each
            raise FloatingPointError("the loss is no longer finite at step 16")
        check(self, losses)

    monkeypatch.setattr(Trainer, "_check", failing)
    history = vdsr.train_all([config])
    assert [*history.step] == [12, 24]
    assert [*history.psnr.notna()] == [True, False]
    final = vdsr.paper.final(history)
    assert len(final) == 1
    assert final.psnr.isna().all()


def test_study_trains_again_what_uncommitted_code_let_diverge(studies, elsewhere, monkeypatch):
    wild = replace(TINY, clipping="none", learning_rate=1e30)
    monkeypatch.setitem(study.STUDIES, "one", lambda preset: [wild])
    monkeypatch.setattr(runs, "commit", lambda: ("abc", True))
    runs.attempt(wild)
    monkeypatch.setattr(runs, "commit", lambda: ("def", False))
    assert study.run(["one"], "smoke") == 0
    assert len(elsewhere) == 2


def test_study_trains_again_what_uncommitted_code_began(studies, elsewhere, monkeypatch):
    monkeypatch.setattr(runs, "commit", lambda: ("abc", True))
    vdsr.train(TINY)
    monkeypatch.setattr(runs, "commit", lambda: ("def", False))
    assert study.run(["two"], "smoke") == 0
    assert len(elsewhere) == 2
    assert [*runs.ledger()[0].commit] == ["def"]
