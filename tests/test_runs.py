import json
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from filelock import FileLock
from safetensors.torch import save_file
from skimage.io import imread, imsave

import vdsr
from vdsr import ledger, machine, runs
from vdsr.config import run_id
from vdsr.files import DamagedFile, load_checkpoint, save_checkpoint
from vdsr.train import NotReady, OutOfTime, Trainer


def weights(run):
    return torch.cat([p.flatten() for p in run.model.parameters()])


@pytest.fixture
def tiny(tiny):
    return replace(tiny, epochs=1)


@pytest.fixture
def wild(tiny):
    """A run that diverges."""
    return replace(tiny, clipping="none", learning_rate=1e30, epochs=2)


def test_trains_once_and_again_on_refresh(elsewhere, tiny):
    first = vdsr.train(tiny)
    again = vdsr.train(tiny)
    assert len(elsewhere) == 1
    pd.testing.assert_frame_equal(first.history, again.history)
    assert first.record == again.record
    vdsr.train(tiny, refresh=True)
    assert len(elsewhere) == 2
    vdsr.train(replace(tiny, seed=1), refresh=True)  # where nothing is to be thrown away
    assert len(elsewhere) == 3
    assert {*first.history.run} == {first.id}


def test_record_says_where_a_run_comes_from(elsewhere, tiny):
    run = vdsr.train(tiny)
    device = machine.device_name("cuda" if torch.cuda.is_available() else "cpu")
    record = run.record
    assert (record["commit"], record["torch"], record["trouble"]) == ("abc", torch.__version__, "")
    assert (record["device"], record["diverged"], record["updates"]) == (device, "", 6)
    assert record["arithmetic"] in ("bf16", "float32")
    assert record["seconds"] > 0
    assert record["tflop"] == pytest.approx(6 * 2 * 3 * 41**2 * (3 * 216 - 36) / 1e12)
    assert record["others"] >= 0
    plain = vdsr.train(replace(tiny, precision="float32")).record
    assert plain["arithmetic"] == "float32"


def test_seconds_are_kept_to_the_millisecond(elsewhere, tiny, monkeypatch):
    fit = Trainer.fit

    def long(self, **options):
        fit(self, **options)
        self.seconds = 1.23456

    monkeypatch.setattr(Trainer, "fit", long)
    assert vdsr.train(tiny).record["seconds"] == 1.235


def test_progress_bar_says_what_is_trained_and_how_far_it_is(elsewhere, tiny, monkeypatch):
    bars, bar = [], runs.tqdm

    def watched(**options):
        bars.append(options)
        return bar(**options)

    monkeypatch.setattr(runs, "tqdm", watched)
    with pytest.raises(OutOfTime):
        vdsr.train(tiny, deadline=0)
    vdsr.train(tiny)
    assert [(b["initial"], b["total"], b["desc"], b["unit"]) for b in bars] == [
        (done, 6, "VDSR of depth 3, seed 0", "step") for done in (0, 1)
    ]
    assert all(b["disable"] is None for b in bars)  # shown on a terminal alone
    assert all(b["dynamic_ncols"] and b["file"] is sys.stderr for b in bars)


def test_progress_bar_reaches_the_terminal_behind_a_notebook(monkeypatch, tmp_path):
    assert runs._terminal() is sys.stderr
    with (tmp_path / "terminal").open("w") as file:
        kernel = SimpleNamespace(_original_stdstream_copy=file.fileno())
        monkeypatch.setattr(sys, "stderr", kernel)
        with runs._terminal() as terminal:
            terminal.write("here")
        monkeypatch.undo()
        file.write(" and there")  # what was given was a copy
    assert (tmp_path / "terminal").read_text() == "here and there"


def test_model_of_a_run_scores_what_its_history_says(elsewhere, tiny):
    run = vdsr.train(tiny)
    assert not run.model.training
    score = vdsr.evaluate(run.model, tiny.eval_sets[0], 2).psnr.mean()
    assert score == pytest.approx(run.history.psnr.iloc[-1], abs=1e-3)


def test_interrupted_run_continues_and_keeps_all_it_came_from(elsewhere, tiny, monkeypatch):
    parts = [("abc", ""), ("abc", ""), ("bc", "not committed"), ("abc", ""), ("abc", "")]
    for commit, trouble in parts:
        monkeypatch.setattr(machine, "commit", lambda now=(commit, trouble): now)
        with pytest.raises(OutOfTime):
            vdsr.train(tiny, deadline=0)
    record = vdsr.train(tiny).record
    assert record["commit"] == "abc then bc then abc"
    assert record["trouble"] == "not committed"
    assert " then " not in record["device"] + record["torch"] + record["arithmetic"]
    assert record["updates"] == 6


def test_a_recorded_run_is_loaded_without_weights(elsewhere, tiny, tmp_path):
    run = vdsr.train(tiny)
    ledger.record(run, "smoke")
    (tmp_path / "runs" / f"{run.id}.safetensors").unlink()
    loaded = vdsr.train(tiny)
    assert len(elsewhere) == 1
    assert loaded.history.psnr.iloc[0] == pytest.approx(run.history.psnr.iloc[0], abs=1e-3)
    for key in ("commit", "device", "arithmetic", "updates", "diverged", "trouble"):
        assert loaded.record[key] == run.record[key]
    assert loaded.record.keys() == run.record.keys()
    with pytest.raises(FileNotFoundError, match=f"run {run.id} is recorded, but its weights"):
        _ = loaded.model


def test_a_wider_question_is_scored_on_the_rest_and_trains_nothing(elsewhere, tiny):
    run = vdsr.train(tiny)
    wider = replace(tiny, eval_scales=(2, 3), eval_sets=(*tiny.eval_sets, "samples-test"))
    for _ in range(2):
        again = vdsr.train(wider)
        assert again.id == run.id
        assert len(elsewhere) == 1
        found = [*zip(again.history.dataset, again.history.scale, strict=True)]
        assert found == wider.scored
    row = again.history[(again.history.dataset == "samples-test") & (again.history.scale == 3)]
    expected = vdsr.evaluate(run.model, "samples-test", 3).psnr.mean()
    assert row.psnr.item() == pytest.approx(expected, abs=1e-3)
    narrower = vdsr.train(replace(tiny, eval_scales=()))  # what is known stays
    assert len(narrower.history) == 4


def test_a_recorded_run_is_scored_on_the_rest_if_its_weights_are_here(elsewhere, tiny, tmp_path):
    ledger.record(vdsr.train(tiny), "smoke")
    wider = replace(tiny, eval_scales=(2, 3))
    run = vdsr.train(wider)
    assert [*run.history.scale] == [2, 3]
    ledger.record(run, "smoke")
    assert [*ledger.read()[1].scale] == [2, 3]
    (tmp_path / "runs" / f"{run.id}.safetensors").unlink()
    widest = vdsr.train(replace(tiny, eval_scales=(2, 3, 4)))
    assert [*widest.history.scale] == [2, 3]
    assert len(elsewhere) == 1


def truncated(path):
    path.write_bytes(path.read_bytes()[:-7])


def flipped(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def edited(path):
    path.write_bytes(path.read_bytes().replace(b"finished", b"finishes"))


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": truncated,
    "flipped": flipped,
    "edited": edited,
    "no safetensors": lambda path: path.write_bytes(b"\x89PNG and so on" * 100),
    "foreign": lambda path: save_file({"weight": torch.zeros(3)}, path),
    "another's": lambda path: another(path),
    "nobody's": lambda path: save_checkpoint(path, {}, {"finished": True}),
}


def another(path):
    """Put a whole checkpoint of another run into a run's place."""
    tensors, metadata = load_checkpoint(path)
    save_checkpoint(path, tensors, metadata | {"run": "0123456789ab"})


def left(config, state):
    """Train to the end; return its weights, and leave the run finished, or interrupted again."""
    expected = weights(vdsr.train(config))
    if state == "interrupted":
        runs.checkpoint(run_id(config)).unlink()
        with pytest.raises(OutOfTime):
            vdsr.train(config, deadline=0)
    return expected


@pytest.mark.parametrize("state", ["finished", "interrupted"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_set_aside(
    elsewhere, tiny, tmp_path, capsys, state, damage
):
    path = tmp_path / "runs" / f"{run_id(tiny)}.safetensors"
    expected = left(tiny, state)
    DAMAGE[damage](path)
    damaged = path.read_bytes()
    begun = len(elsewhere)
    run = vdsr.train(tiny)
    said = capsys.readouterr().err
    what = "is the checkpoint of run" if damage in ("another's", "nobody's") else "is damaged: "
    assert f"{path} {what}" in said
    assert "and the run does without it" in said
    assert path.with_name(path.name + ".damaged").read_bytes() == damaged
    assert len(elsewhere) == begun + 1
    assert torch.equal(weights(run), expected)
    assert run.record["updates"] == 6


def changed(**settings):
    return lambda tensors, state: (tensors, state | settings)


def without(*names):
    return lambda tensors, state: (
        {name: t for name, t in tensors.items() if not name.startswith(names)},
        {name: value for name, value in state.items() if name not in names},
    )


def on_tensors(change):
    return lambda tensors, state: ({name: change(t) for name, t in tensors.items()}, state)


MISFITS = {
    "other step": changed(step=3), "step beyond the end": changed(step=10**9),
    "step in words": changed(step="6"), "one step, finished": changed(step=1, finished=True),
    "never finished": changed(finished=None), "no history": without("history"),
    "history of something else": changed(history=[{"loss": 1}]), "no record": without("record"),
    "no seconds": changed(seconds=None), "no images": changed(images=[]),
    "no tensors": without("model", "optimizer", "measures"),
    "tensor missing": without("model.layers.2.bias"),
    "tensor too many": lambda tensors, state: (tensors | {"model.x": torch.ones(1)}, state),
    "other shapes": on_tensors(lambda t: t[..., :1]), "other type": on_tensors(torch.Tensor.half),
    "not a number": on_tensors(lambda t: t * torch.nan),
}  # fmt: skip
UNFINISHED = {
    "no optimiser": without("optimizer"), "no measures": without("measures"),
    "finished": changed(finished=True),
}  # fmt: skip


@pytest.mark.parametrize(
    ("state", "misfit"),
    [("finished", name) for name in MISFITS]
    + [("interrupted", name) for name in {**MISFITS, **UNFINISHED} if name != "other step"],
)
def test_a_checkpoint_that_does_not_fit_its_run_is_set_aside(
    elsewhere, tiny, tmp_path, capsys, state, misfit
):
    """Its digest may be right, as that of a version to come is."""
    path = tmp_path / "runs" / f"{run_id(tiny)}.safetensors"
    expected = left(tiny, state)
    save_checkpoint(path, *(MISFITS | UNFINISHED)[misfit](*load_checkpoint(path)))
    run = vdsr.train(tiny)
    assert torch.equal(weights(run), expected)
    assert f"{path} is damaged: " in capsys.readouterr().err
    assert path.with_name(path.name + ".damaged").exists()


def test_weights_that_are_damaged_are_not_given_out(elsewhere, tiny, tmp_path):
    run = vdsr.train(tiny)
    path = tmp_path / "runs" / f"{run.id}.safetensors"
    flipped(path)
    with pytest.raises(
        DamagedFile, match=r"is damaged: .*; vdsr\.train\(config, refresh=True\) trains"
    ):
        _ = run.model
    assert not runs.has_ended(tiny)
    assert not runs.in_trouble(tiny)
    assert path.exists()  # only the one that trains it may set it aside


def test_a_run_that_diverges_is_a_result(elsewhere, wild):
    for _ in range(3):  # as trained, as found here, and as recorded
        with pytest.raises(FloatingPointError, match="no longer finite at step"):
            vdsr.train(wild)
        last = vdsr.train_all([wild]).iloc[-1]
        assert pd.isna(last.psnr)
        assert (last.step, last.epoch) == (12, 2)  # where the run should have ended
        run = runs.attempt(wild)
        assert run.record["updates"] < 12
        assert run.diverged.startswith("the loss or the weights are no longer finite at step")
        ledger.record(run, "smoke")
    assert len(elsewhere) == 1
    with pytest.raises(FileNotFoundError, match=f"run {run.id} has no network: the loss or the w"):
        _ = run.model


def test_what_a_diverged_run_says_depends_on_no_kill_and_no_path(
    elsewhere, tiny, monkeypatch, tmp_path
):
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    wild = replace(tiny, clipping="none", learning_rate=30.0, epochs=4)
    whole = runs.attempt(wild)
    assert whole.record["updates"] > 2
    assert str(tmp_path) not in json.dumps(whole.record)
    save = runs.save_checkpoint

    def killed(*_):
        raise KeyboardInterrupt

    for path in (tmp_path / "runs").glob(f"{whole.id}.*"):
        path.unlink()
    for _ in range(2):
        with pytest.raises(OutOfTime):
            runs.attempt(wild, deadline=0)
    monkeypatch.setattr(runs, "save_checkpoint", killed)  # as its end is written down
    with pytest.raises(KeyboardInterrupt):
        runs.attempt(wild)
    monkeypatch.setattr(runs, "save_checkpoint", save)
    again = runs.attempt(wild)
    for key in ("diverged", "updates", "tflop"):
        assert again.record[key] == whole.record[key]
    pd.testing.assert_frame_equal(again.history, whole.history)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_of_divergence_is_named_and_set_aside(
    elsewhere, wild, tmp_path, capsys, damage
):
    path = tmp_path / "runs" / f"{run_id(wild)}.diverged"
    first = runs.attempt(wild)
    DAMAGE[damage](path)
    again = runs.attempt(wild)
    assert str(path) in capsys.readouterr().err
    assert path.with_name(path.name + ".damaged").exists()
    assert len(elsewhere) == 2
    assert again.diverged == first.diverged


def test_scores_before_a_divergence_stay_and_those_after_it_are_missing(
    elsewhere, tiny, monkeypatch
):
    config, check = replace(tiny, epochs=4, eval_epochs=2), Trainer._check

    def failing(self, losses):
        if self.step >= 15:  # in the third epoch, of six steps each
            raise FloatingPointError("the loss is no longer finite at step 16")
        check(self, losses)

    monkeypatch.setattr(Trainer, "_check", failing)
    history = vdsr.train_all([config])
    assert [*history.step] == [12, 24]
    assert [*history.psnr.notna()] == [True, False]


def test_train_all_is_one_tidy_table(elsewhere, tiny):
    configs = [replace(tiny, eval_steps=(3,)), replace(tiny, depth=2)]
    table = vdsr.train_all(configs)
    assert [*table.depth] == [3, 3, 2]
    assert [*table.index] == [0, 1, 2]
    assert set(table.scales) == {"2 3"}
    assert "eval_sets" not in table
    run = vdsr.train(configs[0])
    assert [*table.seconds[:2]] == pytest.approx([run.record["seconds"] / 2, run.record["seconds"]])
    assert [*table.tflop[:2]] == pytest.approx([run.record["tflop"] / 2, run.record["tflop"]])


def test_skipping_shows_what_is_recorded_and_nothing_else(elsewhere, tiny):
    vdsr.train(replace(tiny, depth=2))
    run = vdsr.train(tiny)
    ledger.record(run, "smoke")
    elsewhere.clear()
    table = vdsr.train_all([tiny, replace(tiny, depth=2), replace(tiny, seed=5)], missing="skip")
    assert [*table.run] == [run.id]
    assert not elsewhere
    nothing = vdsr.train_all([replace(tiny, seed=5)], missing="skip")
    assert nothing.empty
    assert [*nothing] == [*table]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"missing": "no"}, ValueError, "'train' or 'skip'"),
        ({"refresh": "maybe"}, TypeError, "True or False"),
        ({"refresh": True, "missing": "skip"}, ValueError, "nothing is trained"),
    ],
)
def test_bad_options_fail_before_training(elsewhere, tiny, options, kind, message):
    with pytest.raises(kind, match=message):
        vdsr.train_all([tiny], **options)
    assert not elsewhere


def test_a_checkpoint_needs_no_unpickling(elsewhere, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "load", None)
    run = vdsr.train(tiny)
    data = (tmp_path / "runs" / f"{run.id}.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    assert "config" in json.loads(data[8 : 8 + size])["__metadata__"]
    assert run.model.layers


def test_two_processes_do_not_train_one_run(elsewhere, tiny, tmp_path):
    path = tmp_path / "runs" / f"{run_id(tiny)}.lock"
    path.parent.mkdir()
    with FileLock(path), pytest.raises(runs.Busy, match="trained by another process"):
        vdsr.train(tiny)
    assert not elsewhere


@pytest.mark.parametrize("recorded", [True, False])
def test_training_again_leaves_what_is_there_until_it_has_ended(
    elsewhere, tiny, tmp_path, monkeypatch, recorded
):
    run = vdsr.train(tiny)
    if recorded:
        ledger.record(run, "smoke")
    expected = weights(run)
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    for done in (1, 2, 3):  # the same call goes on
        with pytest.raises(OutOfTime, match=f"stopped at step {done} of 6"):
            vdsr.train(tiny, refresh=True, deadline=0)
        assert torch.equal(weights(vdsr.train(tiny)), expected)
    monkeypatch.setattr(machine, "commit", lambda: ("other", ""))
    assert vdsr.train(tiny, refresh=True).record["commit"] == "abc then other"
    state = load_checkpoint(runs.checkpoint(run.id))[1]
    assert (state["finished"], state["record"]["commit"]) == (True, "abc then other")
    assert {p.suffix for p in (tmp_path / "runs").iterdir()} == {".safetensors", ".lock"}


def test_a_run_is_kept_if_it_cannot_be_trained_again(elsewhere, tiny):
    run = vdsr.train(tiny)
    with pytest.raises(ValueError, match="unknown image set 'Set55'"):
        vdsr.train(replace(tiny, eval_sets=("Set55",)), refresh=True)
    old = replace(tiny, recipe=1)
    tensors, state = load_checkpoint(runs.checkpoint(run.id))
    save_checkpoint(runs.checkpoint(run_id(old)), tensors, state | {"run": run_id(old)})
    with pytest.raises(ValueError, match="runs of older recipes can only be shown"):
        vdsr.train(old, refresh=True)
    for config in (tiny, old):
        assert runs.has_ended(config)


@pytest.mark.parametrize("saved", [True, False])
def test_training_again_may_diverge(elsewhere, tiny, tmp_path, monkeypatch, saved):
    if saved:  # after each step
        monkeypatch.setattr(Trainer, "save_seconds", 0)
    first, check = vdsr.train(tiny), Trainer._check
    expected, path = weights(first), runs.checkpoint(first.id)

    def failing(self, losses):
        if self.step >= 2:
            raise FloatingPointError("the loss is no longer finite at step 3")
        check(self, losses)

    with monkeypatch.context() as there:
        there.setattr(Trainer, "_check", failing)
        assert runs.attempt(tiny, refresh=True).diverged
    assert runs.attempt(tiny).diverged
    assert path.exists() == saved
    if saved:
        assert load_checkpoint(path)[1]["step"] == 2  # the last good one
    assert torch.equal(weights(vdsr.train(tiny, refresh=True)), expected)
    assert not runs.attempt(tiny).diverged
    assert {p.suffix for p in (tmp_path / "runs").iterdir()} == {".safetensors", ".lock"}


def test_what_was_begun_again_in_trouble_is_begun_anew_without_it(elsewhere, tiny, monkeypatch):
    vdsr.train(tiny)
    with monkeypatch.context() as there:
        there.setattr(machine, "commit", lambda: ("abc", "not committed"))
        for done in (1, 2):  # and goes on where there is no better
            with pytest.raises(OutOfTime, match=f"stopped at step {done} of 6"):
                vdsr.train(tiny, refresh=True, deadline=0)
    with pytest.raises(OutOfTime, match="stopped at step 1 of 6"):
        vdsr.train(tiny, refresh=True, deadline=0)
    assert not vdsr.train(tiny, refresh=True).record["trouble"]


def test_what_goes_on_from_a_run_in_trouble_can_be_trained_again(elsewhere, tiny, monkeypatch):
    with monkeypatch.context() as there:
        there.setattr(machine, "commit", lambda: ("abc", "not committed"))
        following = replace(tiny, start=vdsr.train(tiny).id)
    vdsr.train(following)
    for done in (1, 2):
        with pytest.raises(OutOfTime, match=f"stopped at step {done} of 6"):
            vdsr.train(following, refresh=True, deadline=0)


@pytest.mark.parametrize("then", [True, False])
def test_training_again_where_nothing_is_goes_on(elsewhere, tiny, then):
    """So it is after a run was recorded elsewhere."""
    ledger.record(vdsr.train(tiny), "smoke")
    runs.checkpoint(run_id(tiny)).unlink()
    for done in (1, 2):
        with pytest.raises(OutOfTime, match=f"stopped at step {done} of 6"):
            vdsr.train(tiny, refresh=True, deadline=0)
    (machine.ROOT / "results" / "runs.csv").unlink()
    (machine.ROOT / "results" / "scores.csv").unlink()
    with pytest.raises(OutOfTime, match="stopped at step 3 of 6"):
        vdsr.train(tiny, refresh=then, deadline=0)


@pytest.mark.parametrize("kill", ["before", "between"])
@pytest.mark.parametrize("refresh", [True, False])
@pytest.mark.parametrize("before", ["finished", "begun", "diverged"])
def test_a_kill_as_training_again_ends_loses_nothing(
    elsewhere, tiny, monkeypatch, kill, refresh, before
):
    path = runs.checkpoint(run_id(tiny))
    expected = weights(vdsr.train(tiny))
    if before == "begun":
        path.unlink()
        with pytest.raises(OutOfTime):
            vdsr.train(tiny, deadline=0)
    if before == "diverged":
        save_checkpoint(path.with_suffix(".diverged"), {}, load_checkpoint(path)[1] | {
            "diverged": "at step 3"
        })  # fmt: skip
        path.unlink()

    def killed(path, ended, again):
        if kill == "between":
            ended.unlink(missing_ok=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as there:
        there.setattr(runs, "_replace", killed)
        with pytest.raises(KeyboardInterrupt):
            vdsr.train(tiny, refresh=True)
    begun = len(elsewhere)
    assert torch.equal(weights(vdsr.train(tiny, refresh=refresh)), expected)
    assert len(elsewhere) == begun
    assert not path.with_suffix(".again").exists()
    assert not path.with_suffix(".diverged").exists()


def test_what_was_begun_again_and_is_damaged_is_set_aside(elsewhere, tiny, capsys):
    expected = weights(vdsr.train(tiny))
    with pytest.raises(OutOfTime):
        vdsr.train(tiny, refresh=True, deadline=0)
    again = runs.checkpoint(run_id(tiny)).with_suffix(".again")
    truncated(again)
    assert torch.equal(weights(vdsr.train(tiny, refresh=True)), expected)
    assert f"{again} is damaged" in capsys.readouterr().err


def test_a_run_is_that_of_the_images_it_was_trained_on(
    elsewhere, tiny, tmp_path, folder, monkeypatch
):
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    config, fit = replace(tiny, train_set=str(own)), Trainer.fit
    trained_as = run_id(config)

    def interfering(self, **options):
        fit(self, **options)
        shutil.copy(own / "astronaut.png", own / "another.png")

    monkeypatch.setattr(Trainer, "fit", interfering)
    run = vdsr.train(config)
    assert (run.id, {*run.history.run}) == (trained_as, {trained_as})
    assert run.model.layers
    ledger.record(run, "smoke")
    assert runs.recorded(config) is None  # which now has two images


def test_a_folder_that_has_changed_is_scored_again(elsewhere, tiny, tmp_path, folder):
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    config = replace(tiny, eval_sets=(str(own), folder), eval_steps=(3,))
    before = vdsr.train(config).history.set_index(["dataset", "step"]).psnr
    image = imread(own / "astronaut.png")
    imsave(own / "astronaut.png", image[::-1, ::-1] // 2)
    after = vdsr.train(config)
    expected = vdsr.evaluate(after.model, str(own), 2).psnr.mean()
    after = after.history.set_index(["dataset", "step"]).psnr
    assert after[str(own), 6] == pytest.approx(expected, abs=1e-3)
    assert abs(before[str(own), 6] - expected) > 0.5
    assert (str(own), 3) not in after.index  # of the images that were there then
    assert [*after[folder]] == [*before[folder]]
    assert len(elsewhere) == 1
    shutil.rmtree(own)  # and one that is gone keeps what it had
    kept = vdsr.train(config).history.set_index(["dataset", "step"]).psnr
    assert kept.to_dict() == after.to_dict()


def test_a_folder_that_changes_within_a_training_is_scored_as_it_is_then(
    elsewhere, tiny, tmp_path, folder
):
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    config = replace(tiny, eval_sets=(str(own),), eval_steps=(1, 2))
    with pytest.raises(OutOfTime):
        vdsr.train(config, deadline=0)
    imsave(own / "astronaut.png", imread(own / "astronaut.png")[::-1, ::-1] // 2)
    assert [*vdsr.train(config).history.step] == [2, 6]


def test_checkpoints_of_older_versions_learn_what_they_were_scored_on(
    elsewhere, tiny, tmp_path, folder
):
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    config = replace(tiny, eval_sets=(str(own),))
    path = runs.checkpoint(vdsr.train(config).id)
    tensors, state = load_checkpoint(path)
    del state["images"]
    save_checkpoint(path, tensors, state)
    before = vdsr.train(config).history.psnr.item()
    imsave(own / "astronaut.png", imread(own / "astronaut.png")[::-1, ::-1] // 2)
    assert abs(vdsr.train(config).history.psnr.item() - before) > 0.5


def test_a_scale_that_a_table_rounds_is_known_again(elsewhere, tiny):
    config = replace(tiny, eval_scales=(2, 10 / 3))
    ledger.record(vdsr.train(config), "smoke")
    assert not runs.can_add_scores(runs.recorded(config), config)


def test_a_run_is_kept_if_what_it_goes_on_from_is_gone(elsewhere, tiny, tmp_path):
    following = replace(tiny, start=vdsr.train(tiny).id)
    expected = weights(vdsr.train(following))
    (tmp_path / "runs" / f"{following.start}.safetensors").unlink()
    with pytest.raises(NotReady, match=f"run {following.start}, from which"):
        vdsr.train(following, refresh=True)
    assert torch.equal(weights(vdsr.train(following)), expected)


@pytest.mark.parametrize("known", ["recorded", "made here", "unknown"])
def test_the_work_of_a_run_holds_what_it_went_on_from(elsewhere, tiny, tmp_path, known):
    configs = [tiny, replace(tiny, start=run_id(tiny))]
    configs.append(replace(tiny, start=run_id(configs[1])))
    made = [vdsr.train(config) for config in configs]
    if known == "recorded":
        for run in made:
            ledger.record(run, "smoke")
    if known != "made here":
        for run in made[:2]:
            (tmp_path / "runs" / f"{run.id}.safetensors").unlink()
    rows = vdsr.train_all(configs[2:])
    for column in ("seconds", "tflop"):
        works = [run.record[column] for run in made]
        expected = float("nan") if known == "unknown" else sum(works)
        assert rows[column].iloc[-1] == pytest.approx(
            expected, rel=1e-4, abs=2e-3 * (column == "seconds"), nan_ok=True
        )
        assert known == "unknown" or rows[column].iloc[0] > sum(works[:2])


def test_trouble_of_what_a_run_goes_on_from_is_its_own(elsewhere, tiny, monkeypatch):
    with monkeypatch.context() as there:
        there.setattr(machine, "commit", lambda: ("abc", "not committed"))
        following = replace(tiny, start=vdsr.train(tiny).id)
    run = vdsr.train(following)
    assert run.record["trouble"] == "not committed"
    vdsr.train(tiny, refresh=True)
    assert not vdsr.train(following, refresh=True).record["trouble"]


def test_trouble_of_what_was_begun_is_remembered(elsewhere, tiny, wild, monkeypatch):
    assert not runs.in_trouble(tiny)
    monkeypatch.setattr(machine, "commit", lambda: ("abc", "not committed"))
    with pytest.raises(OutOfTime):
        vdsr.train(tiny, deadline=0)
    runs.attempt(wild)
    assert runs.in_trouble(tiny)
    assert runs.in_trouble(wild)
    monkeypatch.setattr(machine, "commit", lambda: ("abc", ""))
    run = vdsr.train(tiny)
    assert run.record["trouble"] == "not committed"
    with pytest.raises(ValueError, match="not committed, and train it again with refresh=True"):
        ledger.record(run, "smoke")
    ledger.record(vdsr.train(tiny, refresh=True), "smoke")


def test_folders_that_cannot_be_are_named_with_the_remedy(elsewhere, tiny, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VDSR_RUNS_DIR", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"runs cannot be kept in .*file: .*; let VDSR_RUNS_DIR name"):
        vdsr.train(tiny)
    assert not elsewhere


@pytest.mark.parametrize("options", [{"refresh": "no"}, {"refresh": 0}, {"deadline": "9"}])
def test_bad_options_of_one_training_cost_nothing(elsewhere, tiny, tmp_path, options):
    vdsr.train(tiny)
    [name] = options
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be "):
        vdsr.train(tiny, **options)
    with pytest.raises(TypeError, match=r"^configs must be several, in a list; vdsr\.train"):
        vdsr.train_all(tiny)
    assert len(elsewhere) == 1
    assert (tmp_path / "runs" / f"{run_id(tiny)}.safetensors").exists()


def test_folder_of_checkpoints(elsewhere, tiny, tmp_path, monkeypatch):
    assert runs.checkpoint("abc") == tmp_path / "runs" / "abc.safetensors"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VDSR_RUNS_DIR", "~/kept/elsewhere")
    run = vdsr.train(tiny)
    assert (tmp_path / "kept" / "elsewhere" / f"{run.id}.safetensors").exists()
    monkeypatch.setenv("VDSR_RUNS_DIR", "")
    assert runs.checkpoint("abc") == tmp_path / "runs" / "abc.safetensors"
