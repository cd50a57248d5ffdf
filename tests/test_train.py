import re
import shutil
import sys
from contextlib import nullcontext
from dataclasses import replace
from itertools import count
from time import monotonic
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vdsr import TrainConfig, evaluate, load_pretrained
from vdsr.config import run_id
from vdsr.files import DamagedFile, load_checkpoint, save_checkpoint
from vdsr.model import convolutions
from vdsr.patches import Patches
from vdsr.train import NotReady, OutOfTime, Trainer, model_weights

SGD = {}
ADAM = {"optimizer": "adam", "clipping": "none", "learning_rate": 1e-3, "schedule": "cosine",
        "decay_epochs": None}  # fmt: skip
MUON = {"optimizer": "muon", "clipping": "norm", "theta": 1.0, "learning_rate": 0.02}
OPTIMIZERS = pytest.mark.parametrize("settings", [SGD, ADAM, MUON], ids=["sgd", "adam", "muon"])
AVERAGED = {"average": 0.7}
SRCNN = {
    "architecture": "SRCNN 9-1-5", "patch_size": 33, "overlap": 19, "last_rate": 0.1,
    "clipping": "value",
}  # fmt: skip


def begun(config, path="not kept"):
    trainer = Trainer(config, path, device="cpu")
    trainer.begin(0, 0)
    return trainer


def trained(config, path):
    trainer = Trainer(config, path, device="cpu")
    trainer.fit()
    return trainer


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.parameters])


class Kill:
    """Stands in for the progress bar and ends the run after some steps."""

    def __init__(self, steps):
        self.steps = steps

    def update(self, n):
        self.steps -= n
        if self.steps == 0:
            raise KeyboardInterrupt

    def set_postfix(self, **_):
        pass


def test_same_seed_same_weights_and_other_seed_others(tiny, tmp_path):
    first = weights(trained(tiny, tmp_path / "a"))
    assert torch.equal(first, weights(trained(tiny, tmp_path / "b")))
    assert not torch.equal(first, weights(trained(replace(tiny, seed=1), tmp_path / "c")))


@pytest.mark.parametrize(
    "settings", [SGD, ADAM, MUON, AVERAGED], ids=["sgd", "adam", "muon", "averaged"]
)
def test_killed_at_any_step_and_resumed_ends_with_the_same_bits(
    tiny, tmp_path, monkeypatch, settings
):
    config = replace(tiny, **settings, eval_steps=(1, 4))
    whole = trained(config, tmp_path / "whole")
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    for stop in (1, 2, 5, 6, 7, 11):  # an epoch has six
        path = tmp_path / f"killed at {stop}"
        with pytest.raises(KeyboardInterrupt):
            Trainer(config, path, device="cpu").fit(progress=Kill(stop))
        resumed = Trainer(config, path, device="cpu")
        assert resumed.step == stop
        resumed.fit()
        assert torch.equal(weights(resumed), weights(whole))
        assert resumed.history == whole.history


def test_killed_again_and_again_with_what_was_not_saved_lost(tiny, tmp_path, monkeypatch):
    whole = trained(tiny, tmp_path / "whole")
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    save = Trainer._save
    monkeypatch.setattr(Trainer, "_save", lambda t: (t.step % 3 and t.step < 12) or save(t))
    for stop, reached in ((5, 3), (4, 6), (2, 6), (5, 9)):
        with pytest.raises(KeyboardInterrupt):
            Trainer(tiny, tmp_path / "part", device="cpu").fit(progress=Kill(stop))
        assert Trainer(tiny, tmp_path / "part", device="cpu").step == reached
    resumed = trained(tiny, tmp_path / "part")
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.history == whole.history


def test_deadline_keeps_the_state(tiny, tmp_path):
    trainer = Trainer(tiny, tmp_path / "run", device="cpu")
    with pytest.raises(OutOfTime, match="step 1 of 12"):
        trainer.fit(deadline=monotonic() - 1)
    assert Trainer(tiny, tmp_path / "run", device="cpu").step == 1


def test_checkpoint_of_a_finished_run_holds_the_network_alone(tiny, tmp_path):
    trainer = trained(tiny, tmp_path / "run")
    tensors, metadata = load_checkpoint(tmp_path / "run")
    assert all(name.startswith("model.") for name in tensors)
    assert model_weights(tensors).keys() == trainer.model.state_dict().keys()
    assert (metadata["finished"], metadata["step"], metadata["run"]) == (True, 12, trainer.identity)
    assert metadata["tflop"] == pytest.approx(12 * trainer.operations / 1e12)
    assert metadata["config"]["scales"] == [2, 3]
    assert [(r["step"], r["epoch"], r["scale"]) for r in metadata["history"]] == [
        (6, 1, 2), (12, 2, 2)
    ]  # fmt: skip
    assert [*tmp_path.iterdir()] == [tmp_path / "run"]


def test_checkpoints_of_other_runs_and_damaged_ones_are_refused(tiny, tmp_path):
    path = tmp_path / "run"
    other = trained(replace(tiny, seed=1), path)
    mine = Trainer(tiny, tmp_path / "none").identity
    with pytest.raises(DamagedFile, match=f"of run {other.identity}, not of {mine}"):
        Trainer(tiny, path, device="cpu")
    damaged = bytearray(path.read_bytes())
    damaged[-9] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DamagedFile, match=rf"{re.escape(str(path))} is damaged"):
        Trainer(replace(tiny, seed=1), path, device="cpu")


def test_checkpoint_that_says_finished_after_one_step_is_not_believed(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        Trainer(tiny, path, device="cpu").fit(progress=Kill(1))
    tensors, metadata = load_checkpoint(path)
    save_checkpoint(path, tensors, metadata | {"finished": True})
    with pytest.raises(DamagedFile, match="is damaged: step 1 does not fit its run"):
        Trainer(tiny, path, device="cpu")


@pytest.fixture
def ended(tiny, tmp_path):
    """A finished run, its file where the runs that go on from it look for it."""
    path = tmp_path / f"{run_id(tiny)}.safetensors"
    return trained(tiny, path)


@pytest.mark.parametrize("change", [{}, {"depth": 7}, {"optimizer": "muon", "clipping": "none"}])
def test_training_goes_on_from_another_run(tiny, ended, tmp_path, change):
    config = replace(tiny, start=ended.identity, **change)
    trainer = Trainer(config, tmp_path / "next", device="cpu")
    x = torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(trainer.model(x), ended.model(x), atol=1e-6)
    assert sum(p.numel() for p in trainer.parameters) == sum(
        p.numel() for p in config.network().parameters()
    )
    assert not trainer.step
    trainer.fit()
    first, *_ = trainer.history
    assert first["psnr"] > ended.history[0]["psnr"]
    if not change:
        again = trained(replace(tiny, start=None), tmp_path / "from nothing")
        assert torch.equal(weights(again), weights(ended))
        assert not torch.equal(weights(trainer), weights(ended))


def test_the_average_of_a_run_is_what_another_goes_on_from(tiny, tmp_path):
    config = replace(tiny, average=0.9)
    path = tmp_path / f"{run_id(config)}.safetensors"
    first = trained(config, path)
    following = replace(config, start=run_id(config))
    trainer = Trainer(following, tmp_path / "next", device="cpu")
    assert all(map(torch.equal, trainer.parameters, first.averages))
    assert all(map(torch.equal, trainer.averages, first.averages))


def test_other_patches_follow_than_the_first_run_saw(tiny, ended, tmp_path):
    following = Trainer(replace(tiny, start=ended.identity), tmp_path / "next", device="cpu")
    again = replace(tiny, start=ended.identity, seed=1)
    orders = [ended, following, Trainer(again, tmp_path / "again", device="cpu")]
    for trainer in orders:
        trainer.begin(0, 0)
    assert len({tuple(trainer.order.flatten().tolist()) for trainer in orders}) == 3


def test_a_run_that_goes_on_from_another_is_resumed_without_it(tiny, ended, tmp_path, monkeypatch):
    config = replace(tiny, start=ended.identity)
    whole = trained(config, tmp_path / "whole")
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    with pytest.raises(KeyboardInterrupt):
        Trainer(config, tmp_path / "part", device="cpu").fit(progress=Kill(3))
    (tmp_path / f"{ended.identity}.safetensors").unlink()
    assert torch.equal(weights(trained(config, tmp_path / "part")), weights(whole))


def test_what_ships_can_be_gone_on_from(tmp_path, folder):
    config = TrainConfig(
        start="pretrained", epochs=1, decay_epochs=1, train_set=folder, batch_size=1, eval_sets=()
    )
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    shipped = load_pretrained().state_dict()
    assert all(torch.equal(v, shipped[k]) for k, v in trainer.model.state_dict().items())


def test_what_ships_is_taken_from_the_package(tiny, tmp_path, folder):
    """Whatever another machine, or another arithmetic, made of the same run."""
    config = TrainConfig(
        start="pretrained", depth=22, epochs=1, decay_epochs=1, train_set=folder, batch_size=1,
        eval_sets=(),
    )  # fmt: skip
    (tmp_path / f"{config.start}.safetensors").write_bytes(b"of another machine")
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    x = torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(trainer.model(x), load_pretrained()(x), atol=1e-5)


def test_srcnn_goes_on_from_srcnn(tiny, tmp_path):
    config = replace(tiny, **SRCNN)
    ended = trained(config, tmp_path / f"{run_id(config)}.safetensors")
    following = replace(config, start=ended.identity, width=9)  # which means nothing to it
    trainer = Trainer(following, tmp_path / "next", device="cpu")
    assert torch.equal(weights(trainer), weights(ended))


def test_a_run_that_has_not_ended_here_is_not_gone_on_from(tiny, tmp_path, monkeypatch):
    config = replace(tiny, start=run_id(tiny))
    path = tmp_path / f"{run_id(tiny)}.safetensors"
    what = f"^run {run_id(tiny)}, from which {run_id(config)} is to go on, "
    with pytest.raises(NotReady, match=f"{what}has not ended in {tmp_path}: train it first"):
        Trainer(config, tmp_path / "next", device="cpu")
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    with pytest.raises(KeyboardInterrupt):
        Trainer(tiny, path, device="cpu").fit(progress=Kill(3))
    with pytest.raises(NotReady, match=f"{what}has not ended"):
        Trainer(config, tmp_path / "next", device="cpu")
    path.with_suffix(".diverged").touch()
    with pytest.raises(NotReady, match=f"{what}diverged; give another start"):
        Trainer(config, tmp_path / "next", device="cpu")


@pytest.mark.parametrize("fault", ["damaged", "another run's", "lacking", "not finite"])
def test_a_start_that_cannot_be_used_is_named(tiny, ended, tmp_path, fault):
    path = tmp_path / f"{ended.identity}.safetensors"
    tensors, metadata = load_checkpoint(path)
    if fault == "damaged":
        path.write_bytes(path.read_bytes()[:-9])
    elif fault == "another run's":
        trained(replace(tiny, seed=1), tmp_path / "other").checkpoint.replace(path)
    elif fault == "lacking":
        save_checkpoint(path, {k: v for k, v in tensors.items() if "2.bias" not in k}, metadata)
    else:
        save_checkpoint(path, {k: v * torch.nan for k, v in tensors.items()}, metadata)
    text = rf"^run {ended.identity}, from which .* (cannot be read|is damaged): .* train .* again"
    with pytest.raises(NotReady, match=text):
        Trainer(replace(tiny, start=ended.identity), tmp_path / "next", device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 8}, "^width must be 4, as in run {}, from which"),
        ({"residual": False}, "^residual must be True"), ({"bias": False}, "^bias must be True"),
        ({"dilation": 2}, "^dilation must be 1"),
        ({"depth": 2}, "^depth must be at least 3, as in run {}, from which"),
        ({"architecture": "SRCNN 9-1-5"}, "^architecture must be 'VDSR'"),
    ],
)  # fmt: skip
def test_another_network_is_not_gone_on_from(tiny, ended, tmp_path, change, message):
    config = replace(tiny, start=ended.identity, **change)
    with pytest.raises(ValueError, match=message.format(ended.identity)):
        Trainer(config, tmp_path / "next", device="cpu")


@pytest.mark.parametrize("settings", [{"eval_epochs": 0}, {"eval_epochs": 2}, {}])
def test_scored_are_listed_steps_whole_epochs_and_the_end(tiny, tmp_path, settings):
    config = replace(tiny, eval_steps=(1, 3, 7), **settings)
    history = trained(config, tmp_path / "run").history
    regular = [] if settings else [6]
    assert [r["step"] for r in history] == sorted([1, 3, 7, 12, *regular])
    assert [r["epoch"] for r in history] == [r["step"] / 6 for r in history]


def test_scores_at_a_step_are_those_of_a_training_that_ends_there(tiny, tmp_path):
    constant = replace(tiny, schedule="constant", decay_epochs=None)
    rows = trained(replace(constant, eval_steps=(4, 9)), tmp_path / "long").history
    for steps in (4, 9):
        short = replace(constant, epochs=None, steps=steps)
        last = trained(short, tmp_path / f"{steps}").history[-1]
        [row] = (r for r in rows if r["step"] == steps)
        assert row == last


def test_loss_and_share_are_means_since_the_epoch_began(tiny, tmp_path, monkeypatch):
    """Not those of the last batch."""
    seen, step = [], Trainer.one_step

    def watched(self):
        step(self)
        seen.append(self.measures[:, int(self.cursor) - 1].tolist())

    monkeypatch.setattr(Trainer, "one_step", watched)
    config = replace(tiny, eval_steps=(4,), theta=1e-3)
    history = trained(config, tmp_path / "run").history
    for row, part in zip(history, (seen[:4], seen[:6], seen[6:]), strict=True):
        loss, clipped = np.mean(part, axis=0)
        assert row["train_loss"] == pytest.approx(loss / 41**2, rel=1e-5)
        assert row["clipped"] == pytest.approx(clipped, rel=1e-5)
        assert row["train_loss"] != pytest.approx(part[-1][0] / 41**2, rel=1e-3)
        assert 0 < row["clipped"] < 1
        assert row["clipped"] != pytest.approx(part[-1][1], rel=1e-3)


def test_losses_of_all_normalisations_are_shown_in_one_unit(tiny, tmp_path):
    """Half the squared error of a pixel, whatever the loss divides by; here at the first step."""
    shown = {}
    for loss in ("sum", "patch", "pixel"):
        config = replace(tiny, loss=loss, epochs=None, steps=1, precision="float32")
        shown[loss] = trained(config, tmp_path / loss).history[0]["train_loss"]
    trainer = begun(replace(tiny, precision="float32"))
    hr, ilr = trainer.patches.batch(trainer.order[0])
    expected = (hr - trainer.model(ilr)).square().mean().item() / 2
    assert [*shown.values()] == pytest.approx([expected] * 3, rel=1e-5)


def test_only_training_counts_as_seconds(tiny, tmp_path, monkeypatch):
    ticks = count()
    monkeypatch.setattr(sys.modules[Trainer.__module__], "monotonic", lambda: next(ticks))
    score = Trainer._score

    def slow(self, *arguments):
        for _ in range(1000):
            next(ticks)
        score(self, *arguments)

    monkeypatch.setattr(Trainer, "_score", slow)
    trainer = trained(tiny, tmp_path / "run")
    assert trainer.seconds == 12  # a tick between begin and end of each step


def test_state_is_saved_once_a_minute_and_in_the_end(tiny, tmp_path, monkeypatch):
    clock = count(step=10)  # twice looked at for a step's seconds, and once for the saving
    monkeypatch.setattr(sys.modules[Trainer.__module__], "monotonic", lambda: next(clock))
    saved, save = [], Trainer._save

    def watched(self):
        saved.append(self.step)
        save(self)

    monkeypatch.setattr(Trainer, "_save", watched)
    trained(tiny, tmp_path / "run")
    assert saved == [3, 6, 9, 12]
    assert Trainer.save_seconds == 60


def test_load_of_others_is_the_most_of_any_time_between_two_savings(tiny, tmp_path, monkeypatch):
    loads = iter([0.25, 1.5, 0.75])
    monkeypatch.setattr(
        sys.modules[Trainer.__module__], "OtherLoad", lambda: SimpleNamespace(cores=next(loads, 0))
    )
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    trainer = trained(tiny, tmp_path / "run")
    assert trainer.record["others"] == 1.5
    assert load_checkpoint(tmp_path / "run")[1]["record"]["others"] == 1.5


def test_progress_is_told_of_each_step_with_loss_rate_and_scores(tiny, tmp_path):
    told = []

    class Bar:
        def set_postfix(self, **shown):
            told.append(shown)

        def update(self, n):
            told[-1]["n"] = n

    config = replace(tiny, eval_scales=(2, 3))
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    trainer.fit(progress=Bar())
    assert [each["n"] for each in told] == [1] * 12
    assert {*told[0]} == {"loss", "lr", "refresh", "n"}  # nothing is scored yet
    assert [each["lr"] for each in told] == ["1e-01"] * 6 + ["1e-02"] * 6
    assert not told[0]["refresh"]  # which would slow training down
    last = told[-1]
    assert float(last["loss"]) == pytest.approx(trainer.measures[0, -1].item(), rel=0.01)
    for row in trainer.history[-2:]:
        assert last[f"{row['dataset']} ×{row['scale']}"] == f"{row['psnr']:.2f} dB"


def test_progress_shows_no_scores_that_were_not_asked_for(tiny, tmp_path, monkeypatch):
    told = []

    class Bar:
        def set_postfix(self, **shown):
            told.append(shown)

        def update(self, n):
            pass

    monkeypatch.setattr(Trainer, "save_seconds", 0)
    with pytest.raises(KeyboardInterrupt):
        Trainer(tiny, tmp_path / "run", device="cpu").fit(progress=Kill(8))
    rest = Trainer(replace(tiny, eval_sets=()), tmp_path / "run", device="cpu")
    assert rest.history
    rest.fit(progress=Bar())
    assert len(told) == 4 and all({*each} == {"loss", "lr", "refresh"} for each in told)


def test_what_a_run_that_ends_here_lacks(tiny, tmp_path):
    config = replace(tiny, eval_steps=(4, 8), eval_scales=(2, 3))
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    name = tiny.eval_sets[0]
    trainer.step = 6
    assert trainer.unscored() == [
        {"step": step, "epoch": step / 6, "dataset": name, "scale": scale}
        for step in (8, 12)
        for scale in (2, 3)
    ]


def test_seconds_and_record_go_on_in_a_resumed_run(tiny, tmp_path):
    trainer = Trainer(tiny, tmp_path / "run", device="cpu")
    trainer.record["commit"] = "abc"
    with pytest.raises(OutOfTime):
        trainer.fit(deadline=0)
    resumed = Trainer(tiny, tmp_path / "run", device="cpu")
    assert resumed.seconds == trainer.seconds > 0
    assert resumed.record == trainer.record
    assert resumed.record["commit"] == "abc"
    assert not resumed.finished


def test_averages_are_scored_and_kept_and_training_goes_on_without_them(tiny, tmp_path):
    config = replace(tiny, eval_steps=(1,), precision="float32")
    plain = begun(config)
    mean = weights(plain)
    for _ in range(6):
        plain.one_step()
        mean = 0.7 * mean + 0.3 * weights(plain)
    first = trained(replace(config, epochs=1, **AVERAGED), tmp_path / "averaged")
    torch.testing.assert_close(weights(first), weights(plain))
    assert not any(mean.requires_grad for mean in first.averages)  # and no step is remembered
    kept = Trainer(first.config, tmp_path / "averaged", device="cpu")
    torch.testing.assert_close(weights(kept), mean)
    scores = evaluate(kept.model, tiny.eval_sets[0], 2)
    assert first.history[-1]["psnr"] == pytest.approx(scores.psnr.mean(), abs=1e-6)
    kept.rescore()
    torch.testing.assert_close(weights(kept), mean)
    assert set(load_checkpoint(tmp_path / "averaged")[0]) == {
        f"model.{name}" for name in kept.model.state_dict()
    }


def test_weights_are_back_after_a_scoring_that_is_stopped(tiny, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules[Trainer.__module__], "score", stopped)
    trainer = begun(replace(tiny, **AVERAGED))
    trainer.one_step()
    before = weights(trainer)
    with pytest.raises(KeyboardInterrupt):
        trainer._score(1, [("images", 2, [])])
    assert torch.equal(weights(trainer), before)


def test_rescoring_adds_what_is_missing_and_trains_nothing(tiny, tmp_path):
    path = tmp_path / "run"
    before = trained(tiny, path)
    wider = replace(tiny, eval_scales=(2, 3, 2.5))
    trainer = Trainer(wider, path, device="cpu")
    trainer.rescore()
    assert trainer.history[:2] == before.history
    added = trainer.history[2:]
    assert [(r["step"], r["scale"]) for r in added] == [(12, 3), (12, 2.5)]
    assert [r["train_loss"] for r in added] == [None, None]
    scores = evaluate(trainer.model, tiny.eval_sets[0], 3)
    assert added[0]["psnr"] == pytest.approx(scores.psnr.mean(), abs=1e-6)
    assert load_checkpoint(path)[1]["history"] == trainer.history
    assert torch.equal(weights(before), weights(trainer))
    again = path.read_bytes()
    Trainer(wider, path, device="cpu").rescore()
    assert path.read_bytes() == again


def test_history_says_what_evaluate_says(tiny, tmp_path):
    trainer = trained(tiny, tmp_path / "run")
    scores = evaluate(trainer.model, tiny.eval_sets[0], 2)
    assert trainer.history[-1]["psnr"] == pytest.approx(scores.psnr.mean(), abs=1e-6)
    assert trainer.history[-1]["ssim"] == pytest.approx(scores.ssim.mean(), abs=1e-6)


def test_an_adjustable_step_is_never_longer_than_theta(tiny):
    trainer = begun(replace(tiny, theta=1e-5, momentum=0.0, weight_decay=0.0))
    before = weights(trainer)
    trainer.one_step()
    moved = (weights(trainer) - before).abs()
    assert moved.max() == pytest.approx(1e-5, rel=0.05)


def test_the_bound_of_a_gradient_widens_as_the_rate_falls(tiny):
    """A step may be θ long at each rate, since the bound is θ over the rate of the moment."""
    config = replace(tiny, epochs=2, decay_epochs=1, theta=1e-5, momentum=0.0, weight_decay=0.0)
    trainer = begun(config)
    trainer.begin(1, 0)
    assert float(trainer.optimizers[0].param_groups[0]["lr"]) < config.learning_rate / 5
    before = weights(trainer)
    trainer.one_step()
    assert (weights(trainer) - before).abs().max() == pytest.approx(1e-5, rel=0.05)


def test_update_is_sgd_with_momentum_and_weight_decay(tiny):
    """Two steps by hand, from the same batches: v = μ·v + g + λ·w, w = w − γ·v."""
    config = replace(tiny, clipping="none", loss="pixel", learning_rate=0.01, weight_decay=0.05,
                     momentum=0.8, precision="float32")  # fmt: skip
    trainer = begun(config)
    velocity = 0
    for place in range(2):
        before = weights(trainer)
        hr, ilr = trainer.patches.batch(trainer.order[place])
        loss = 0.5 * torch.nn.functional.mse_loss(trainer.model(ilr), hr)
        gradient = torch.autograd.grad(loss, trainer.parameters)
        gradient = torch.cat([g.flatten() for g in gradient])
        velocity = 0.8 * velocity + gradient + 0.05 * before
        trainer.one_step()
        assert torch.allclose(weights(trainer), before - 0.01 * velocity, atol=1e-7)
        assert trainer.measures[0, place] == pytest.approx(loss.item(), rel=1e-5)
    assert 0.01 * 0.05 * before.abs().max() > 1e-5  # what the weight decay does is seen


def test_clipping_comes_before_weight_decay_and_momentum(tiny):
    config = replace(tiny, clipping="value", theta=1e-4, learning_rate=0.5, weight_decay=0.1,
                     precision="float32")  # fmt: skip
    trainer = begun(config)
    before = weights(trainer)
    hr, ilr = trainer.patches.batch(trainer.order[0])
    loss = (hr - trainer.model(ilr)).square().sum() / 2 / len(hr)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, trainer.parameters)])
    trainer.one_step()
    expected = before - 0.5 * (gradient.clamp(-1e-4, 1e-4) + 0.1 * before)
    assert torch.allclose(weights(trainer), expected, atol=1e-7)
    share = (gradient.abs() > 1e-4).float().mean()
    assert trainer.measures[1, 0] == pytest.approx(share.item(), abs=1e-6)


def test_absolute_error(tiny):
    trainer = begun(replace(tiny, error="absolute", precision="float32"))
    hr, ilr = trainer.patches.batch(trainer.order[0])
    loss = (hr - trainer.model(ilr)).abs().sum() / len(hr)
    trainer.one_step()
    assert trainer.measures[0, 0] == pytest.approx(loss.item(), rel=1e-5)


def test_charbonniers_error(tiny):
    """It is the absolute one where that is large, and smooth where it is small."""
    trainer = begun(replace(tiny, error="charbonnier", precision="float32"))
    hr, ilr = trainer.patches.batch(trainer.order[0])
    difference = hr - trainer.model(ilr)
    loss = (difference.square() + 1e-6).sqrt().sum() / len(hr)
    assert loss > difference.abs().sum() / len(hr)
    trainer.one_step()
    assert trainer.measures[0, 0] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize(("loss", "factor"), [("sum", 3 * 41**2), ("patch", 41**2), ("pixel", 1)])
def test_loss_normalisation(tiny, loss, factor):
    losses = []
    for name in (loss, "pixel"):
        trainer = begun(replace(tiny, loss=name))
        trainer.one_step()
        losses.append(trainer.measures[0, 0].item())
    assert losses[0] == pytest.approx(factor * losses[1], rel=1e-5)


def test_rates_through_a_training(tiny, tmp_path, monkeypatch):
    """A tenth in the second epoch; half a cosine, a little at each step."""
    rates, step = [], Trainer.one_step

    def watched(self):
        rates.append([g["lr"] for o in self.optimizers for g in o.param_groups])
        assert self.rate == pytest.approx(rates[-1][0])
        step(self)

    monkeypatch.setattr(Trainer, "one_step", watched)
    trained(replace(tiny, last_rate=0.5, clipping="norm"), tmp_path / "decay")
    assert np.allclose(rates, [[0.1, 0.05]] * 6 + [[0.01, 0.005]] * 6)
    rates.clear()
    trained(replace(tiny, **ADAM), tmp_path / "cosine")
    cosine = [1e-3 * (1 + np.cos(np.pi * k / 12)) / 2 for k in range(12)]
    assert np.allclose([r[0] for r in rates], cosine)
    rates.clear()
    trained(replace(tiny, **MUON), tmp_path / "muon")
    assert np.allclose(rates[0], [0.02, 1e-3, 1e-3])
    assert np.allclose(rates[6], [0.002, 1e-4, 1e-4])


def test_adams_first_step_is_the_learning_rate(tiny):
    trainer = begun(replace(tiny, **ADAM))
    before = weights(trainer)
    trainer.one_step()
    moved = (weights(trainer) - before).abs()
    assert moved[moved > 0].median() == pytest.approx(1e-3, rel=0.05)


def test_srcnn_trains_without_padding_and_its_last_layer_slowly(tiny):
    config = replace(
        tiny, **SRCNN | {"clipping": "none", "weight_decay": 0.0, "learning_rate": 1e-4}
    )
    trainer = begun(config)
    before = [p.detach().clone() for p in trainer.parameters]
    hr, ilr = trainer.patches.batch(trainer.order[0])
    loss = (hr[..., 6:-6, 6:-6] - trainer.model(ilr)).square().sum() / 2 / len(hr)
    gradients = torch.autograd.grad(loss, trainer.parameters)
    trainer.one_step()
    assert trainer.measures[0, 0] == pytest.approx(loss.item(), rel=1e-2)
    for place, factor in ((0, 1), (-1, 0.1)):
        moved = before[place] - trainer.parameters[place]
        wanted = 1e-4 * factor * gradients[place]
        assert (moved - wanted).norm() < 0.05 * wanted.norm()


def test_pixels_are_those_that_a_network_without_padding_gives(tiny):
    trainer = begun(replace(tiny, **SRCNN, loss="pixel", precision="float32"))
    hr, ilr = trainer.patches.batch(trainer.order[0])
    error = (hr[..., 6:-6, 6:-6] - trainer.model(ilr)).square()
    assert error.shape == (3, 1, 21, 21)
    trainer.one_step()
    assert trainer.measures[0, 0] == pytest.approx(error.mean().item() / 2, rel=1e-5)


def test_srcnn_is_scored_at_full_size(tiny, tmp_path):
    config = replace(tiny, **SRCNN, precision="float32", epochs=None, steps=1)
    trainer = trained(config, tmp_path / "run")
    assert trainer.model.training  # and goes on training
    assert trainer.history[-1]["psnr"] > 0
    first = begun(config)
    hr, ilr = first.patches.batch(first.order[0])
    shown = (hr[..., 6:-6, 6:-6] - first.model(ilr)).square().mean().item() / 2
    assert trainer.history[-1]["train_loss"] == pytest.approx(shown, rel=1e-4)  # a pixel of 21×21


@pytest.mark.parametrize("residual", [True, False])
def test_bf16_is_no_grid_of_the_output(tiny, residual):
    """Table 1's plain network gives the image itself: bf16 has fewer levels than a picture."""
    trainer = begun(replace(tiny, residual=residual, precision="bf16", width=16))
    outputs = []
    for layer in convolutions(trainer.model):
        layer.register_forward_hook(lambda module, inputs, out: outputs.append(out.detach()))
    trainer.one_step()
    *hidden, last = outputs
    assert {h.dtype for h in hidden} == {torch.bfloat16}
    assert last.dtype == torch.float32
    assert (last != last.bfloat16().float()).float().mean() > 0.9


def test_training_beats_bicubic(tiny, tmp_path):
    faster = ADAM | {"learning_rate": 2e-3}
    config = replace(tiny, **faster, width=8, scales=(2,), epochs=40, eval_epochs=40)
    score = trained(config, tmp_path / "run").history[-1]["psnr"]
    bicubic = evaluate(None, tiny.eval_sets[0], 2).psnr.mean()
    assert score > bicubic + 0.05


def test_weights_that_overflow_are_not_saved(tiny, tmp_path):
    config = replace(tiny, clipping="none", learning_rate=1e38, loss="sum", epochs=None, steps=1)
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    with pytest.raises(FloatingPointError, match="at step 1 "):  # its loss is finite
        trainer.fit()
    assert not (tmp_path / "run").exists()


def test_divergence_names_step_and_rate_and_leaves_the_last_good_state(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    config = replace(tiny, clipping="none", learning_rate=1e3)
    with pytest.raises(FloatingPointError, match=r"step \d+ .*rate 1000; a smaller") as error:
        trained(config, tmp_path / "run")
    tensors, metadata = load_checkpoint(tmp_path / "run")
    assert f"step {metadata['step'] + 1} " in str(error.value)
    assert str(tmp_path) not in str(error.value)  # which would differ between machines
    assert all(t.isfinite().all() for t in tensors.values())


@pytest.mark.parametrize("kind", ["weights", "buffers"])
def test_what_is_not_finite_is_found_in_weights_and_buffers(tiny, tmp_path, monkeypatch, kind):
    step = Trainer.one_step

    def spoilt(self):
        step(self)
        if int(self.cursor) == 3:
            tensors = self.parameters if kind == "weights" else [*self._buffers().values()]
            with torch.no_grad():
                tensors[-1].view(-1)[0] = float("inf")

    monkeypatch.setattr(Trainer, "one_step", spoilt)
    with pytest.raises(FloatingPointError, match="no longer finite at step 3 "):
        trained(tiny, tmp_path / "run")


def test_the_first_bad_step_of_several_is_named(tiny):
    """As on a GPU, where the losses of several steps are looked at together."""
    trainer = begun(tiny)
    trainer.step = 40
    trainer._check(np.array([1.0, 2.0, 3.0]))
    for losses, step in (([1, np.nan, 3, np.inf], 42), ([np.nan, 2, 3], 41), ([1, 2, np.inf], 43)):
        with pytest.raises(FloatingPointError, match=f"at step {step} with learning rate 0.1; "):
            trainer._check(np.array(losses, float))
    with torch.no_grad():
        trainer.parameters[0][0] = np.nan  # by whichever of them
    with pytest.raises(FloatingPointError, match="at step 43 "):
        trainer._check(np.array([1.0, 2.0, 3.0]))


def test_failed_capture_falls_back_for_the_whole_process(tiny, monkeypatch):
    trainer = Trainer(tiny, "not kept", device="cpu")

    def fail():
        raise RuntimeError("no graphs here")

    monkeypatch.setattr(Trainer, "captures", True)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", fail)
    with pytest.warns(UserWarning, match="training runs slower: no graphs here"):
        assert trainer._capture() is None
    assert not Trainer.captures


@pytest.mark.parametrize("settings", [SGD, MUON], ids=["sgd", "muon"])
@pytest.mark.parametrize("fails", [False, True])
def test_captured_steps_are_counted_as_plain_ones(tiny, tmp_path, monkeypatch, settings, fails):
    """The path of GPUs without one: what is captured is not run, a replay is a step as captured."""
    config = replace(tiny, **settings, precision="float32", eval_steps=(1, 5))
    plain = trained(config, tmp_path / "plain")
    trainer = Trainer(config, tmp_path / "captured", device="cpu")
    done = []

    def rates():
        return [g["lr"] for o in trainer.optimizers for g in o.param_groups]

    def tensors():
        return [*trainer.parameters, *trainer._buffers().values(), trainer.measures, trainer.cursor]

    class Graph:
        def replay(self):
            assert rates() == self.rates  # which are part of the graph
            done.append("replay")
            trainer.one_step()

    class Capture:
        def __init__(self, graph, stream):
            self.graph = graph

        def __enter__(self):
            self.before = [t.detach().clone() for t in tensors()]

        def __exit__(self, *_):
            done.append("capture")
            if fails:
                raise RuntimeError("no graphs here")
            self.graph.rates = rates()
            with torch.no_grad():
                for tensor, before in zip(tensors(), self.before, strict=True):
                    tensor.copy_(before)

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, stand_in in (
        ("CUDAGraph", Graph), ("graph", Capture), ("current_stream", lambda device: stream),
        ("stream", lambda stream: nullcontext()),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(Trainer, "captures", True)
    trainer.device, trainer._stream = SimpleNamespace(type="cuda"), stream
    if fails:
        step = Trainer.one_step

        def not_captured(self):
            if self.captures and len(done) == 0 and int(self.cursor) == 1:
                return  # what fails changes nothing
            step(self)

        monkeypatch.setattr(Trainer, "one_step", not_captured)
        with pytest.warns(UserWarning, match="training runs slower: no graphs here"):
            trainer.fit()
        assert done == ["capture"]
    else:
        trainer.fit()
        assert done == [*["capture", *["replay"] * 5] * 2]  # anew for the second epoch's rate
    assert torch.equal(weights(trainer), weights(plain))
    assert trainer.history == plain.history


def test_too_few_patches(tiny):
    with pytest.raises(ValueError, match=r"a batch of 19 patches at least, got 18 from .*; add"):
        Trainer(replace(tiny, batch_size=19), "not kept", device="cpu")


def test_older_recipes_are_only_shown(tiny):
    with pytest.raises(ValueError, match=r"recipe must be 2 to be trained, .* only be shown"):
        Trainer(replace(tiny, recipe=1), "not kept", device="cpu")


def test_rates_that_decay_to_nothing_are_refused_before_training(tiny):
    config = replace(tiny, epochs=None, steps=6 * 44)
    with pytest.raises(ValueError, match="learning_rate must stay in the range of float32"):
        Trainer(config, "not kept", device="cpu")


def test_patches_are_cut_once_for_runs_of_one_set(tiny):
    first, second = (Trainer(replace(tiny, seed=s), "not kept", device="cpu") for s in (0, 1))
    assert first.patches is second.patches
    assert Trainer(replace(tiny, scales=(2,)), "x", device="cpu").patches is not first.patches


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"augment": True}, {"shrink": True}, {"keep": 0.5}, {"overlap": 20},
        {"patch_size": 30}, {"scales": (2,)},
    ],
)  # fmt: skip
def test_patches_are_those_that_the_config_says(tiny, settings):
    config = replace(tiny, **settings)
    wanted = Patches(
        config.train_set, config.scales, size=config.patch_size, overlap=config.overlap,
        augment=config.augment, shrink=config.shrink, keep=config.keep,
    )  # fmt: skip
    trainer = Trainer(config, "not kept", device="cpu")
    assert trainer.steps_per_epoch == len(wanted) // 3
    assert len(wanted) != len(Patches(tiny.train_set, tiny.scales)) or not settings
    for name in ("hr", "ilr"):
        assert torch.equal(getattr(trainer.patches, name), getattr(wanted, name))


def test_a_folder_that_has_changed_gives_other_patches(tiny, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(tiny.train_set, own)
    config = replace(tiny, train_set=str(own))
    before = Trainer(config, "not kept", device="cpu")
    shutil.copy(own / "astronaut.png", own / "another.png")
    after = Trainer(config, "not kept", device="cpu")
    assert len(after.patches) == 2 * len(before.patches)
