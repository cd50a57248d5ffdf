from dataclasses import replace
from time import monotonic

import pytest
import torch

from vdsr import evaluate
from vdsr.experiments import PRESETS
from vdsr.train import OutOfTime, TrainConfig, Trainer, gradient_magnitudes, load_checkpoint

TINY = replace(PRESETS["smoke"], epochs=2, eval_scales=(2,))


def trained(config, path):
    trainer = Trainer(config, path, device="cpu")
    trainer.fit()
    return trainer


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.parameters])


def test_defaults_are_the_papers():
    config = TrainConfig()
    assert (config.depth, config.width, config.residual) == (20, 64, True)
    assert (config.learning_rate, config.momentum, config.weight_decay) == (0.1, 0.9, 1e-4)
    assert (config.batch_size, config.patch_size, config.scales) == (64, 41, (2, 3, 4))
    rates = [config.learning_rate_at(e) for e in (0, 19, 20, 40, 79)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.0001])


def test_label_names_what_is_trained():
    assert TrainConfig().label == "VDSR of depth 20, seed 0"
    assert SRCNN.label == "SRCNN 9-1-5, seed 0"


def test_same_seed_same_weights_and_other_seed_others(tmp_path):
    first = weights(trained(TINY, tmp_path / "a"))
    assert torch.equal(first, weights(trained(TINY, tmp_path / "b")))
    assert not torch.equal(first, weights(trained(replace(TINY, seed=1), tmp_path / "c")))


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


ADAM = replace(TINY, optimizer="adam", clipping="none", learning_rate=1e-3)
SRCNN = replace(TINY, architecture="SRCNN 9-1-5", patch_size=33, overlap=19, last_rate=0.1)


@pytest.mark.parametrize("config", [TINY, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("stop", [1, 5, 6, 7])  # an epoch has 6 steps
def test_killed_and_resumed_ends_with_the_same_bits(tmp_path, monkeypatch, config, stop):
    whole = trained(config, tmp_path / "whole")
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    with pytest.raises(KeyboardInterrupt):
        Trainer(config, tmp_path / "part", device="cpu").fit(progress=Kill(stop))
    resumed = Trainer(config, tmp_path / "part", device="cpu")
    assert resumed.step == stop
    resumed.fit()
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.history == whole.history


def test_deadline_keeps_the_state(tmp_path):
    trainer = Trainer(TINY, tmp_path / "run", device="cpu")
    with pytest.raises(OutOfTime, match="step 1 of 12"):
        trainer.fit(deadline=monotonic() - 1)
    assert Trainer(TINY, tmp_path / "run", device="cpu").step == 1


def test_checkpoint_of_a_finished_run_holds_the_network_alone(tmp_path):
    trainer = trained(TINY, tmp_path / "run")
    tensors, metadata = load_checkpoint(tmp_path / "run")
    assert all(name.startswith("model.") for name in tensors)
    assert metadata["finished"]
    assert metadata["step"] == trainer.total_steps == 12
    assert [(r["epoch"], r["scale"]) for r in metadata["history"]] == [(1, 2), (2, 2)]
    assert not list(tmp_path.glob("*.part"))


def gradients(trainer, rate=0.1):
    """Set known gradients, clip them at a learning rate, and return them."""
    trainer.rate = rate
    generator = torch.Generator().manual_seed(0)
    for p in trainer.parameters:
        p.grad = torch.randn(p.shape, generator=generator)
    before = torch.cat([p.grad.flatten() for p in trainer.parameters])
    trainer._clip()
    return before, torch.cat([p.grad.flatten() for p in trainer.parameters])


@pytest.mark.parametrize("rate", [0.1, 0.001])
@pytest.mark.parametrize(
    ("clipping", "expected"),
    [
        ("adjustable", lambda g, theta, rate: g.clamp(-theta / rate, theta / rate)),
        ("value", lambda g, theta, rate: g.clamp(-theta, theta)),
        ("norm", lambda g, theta, rate: g * min(1, theta / g.norm())),
        ("none", lambda g, theta, rate: g),
    ],
)
def test_clippings(tmp_path, rate, clipping, expected):
    config = replace(TINY, clipping=clipping, theta=0.03)
    before, after = gradients(Trainer(config, tmp_path / "run", device="cpu"), rate)
    assert torch.allclose(after, expected(before, 0.03, rate), rtol=1e-4)


def test_an_adjustable_step_is_never_longer_than_theta(tmp_path):
    config = replace(TINY, theta=1e-5, momentum=0.0, weight_decay=0.0)
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    before = weights(trainer)
    trainer._begin(0, 0)
    trainer._one_step()
    moved = (weights(trainer) - before).abs()
    assert moved.max() == pytest.approx(1e-5, rel=0.05)


def test_update_is_sgd_with_momentum_and_weight_decay(tmp_path):
    """One step by hand, from the same batch: v = 0.9·v + g + λ·w, w = w − γ·v."""
    config = replace(TINY, clipping="none", loss="pixel", learning_rate=0.01, precision="float32")
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    trainer._begin(0, 0)
    velocity = 0
    for place in range(2):
        before = weights(trainer)
        hr, ilr = trainer.patches.batch(trainer.order[place])
        loss = 0.5 * torch.nn.functional.mse_loss(trainer.model(ilr), hr)
        gradient = torch.autograd.grad(loss, trainer.parameters)
        gradient = torch.cat([g.flatten() for g in gradient])
        velocity = 0.9 * velocity + gradient + 1e-4 * before
        trainer._one_step()
        assert torch.allclose(weights(trainer), before - 0.01 * velocity, atol=1e-7)
        assert trainer.losses[place] == pytest.approx(loss.item(), rel=1e-5)


def test_learning_rates(tmp_path):
    sgd = [TINY.learning_rate_at(epoch) for epoch in (0, 0.9, 1, 1.9)]
    assert sgd == pytest.approx([0.1, 0.1, 0.01, 0.01])
    adam = [ADAM.learning_rate_at(epoch) for epoch in (0, 0.5, 1, 2)]
    assert adam == pytest.approx([1e-3, 1e-3 * (1 + 0.5**0.5) / 2, 5e-4, 0])
    trainer = Trainer(ADAM, tmp_path / "run", device="cpu")
    trainer._begin(0, 3)  # in the middle of the epoch
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(ADAM.learning_rate_at(0.5))


def test_adams_first_step_is_the_learning_rate(tmp_path):
    trainer = Trainer(ADAM, tmp_path / "run", device="cpu")
    before = weights(trainer)
    trainer._begin(0, 0)
    trainer._one_step()
    moved = (weights(trainer) - before).abs()
    assert moved.median() == pytest.approx(1e-3, rel=0.05)


def test_srcnn_trains_without_padding_and_its_last_layer_slowly(tmp_path):
    config = replace(SRCNN, clipping="none", weight_decay=0.0, learning_rate=1e-4, loss="patch")
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    before = [p.detach().clone() for p in trainer.parameters]
    trainer._begin(0, 0)
    hr, ilr = trainer.patches.batch(trainer.order[0])
    loss = (hr[..., 6:-6, 6:-6] - trainer.model(ilr)).square().sum() / 2 / len(hr)
    gradients = torch.autograd.grad(loss, trainer.parameters)
    trainer._one_step()
    assert trainer.losses[0] == pytest.approx(loss.item(), rel=1e-2)
    for place, factor in ((0, 1), (-1, 0.1)):
        moved = before[place] - trainer.parameters[place]
        wanted = 1e-4 * factor * gradients[place]
        assert (moved - wanted).norm() < 0.05 * wanted.norm()


def test_srcnn_is_scored_at_full_size(tmp_path):
    trainer = trained(SRCNN, tmp_path / "run")
    assert trainer.model.training  # and goes on training
    assert trainer.history[-1]["psnr"] > 0
    assert trainer.history[-1]["train_loss"] < 1


def test_weights_that_overflow_are_not_saved(tmp_path):
    config = replace(TINY, clipping="none", learning_rate=1e38, batch_size=428, epochs=1)
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    assert trainer.total_steps == 1  # its loss, taken before the update, is finite
    with pytest.raises(FloatingPointError, match=r"at step 1 .*none yet"):
        trainer.fit()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("loss", "factor"), [("sum", 64 * 41**2), ("patch", 41**2), ("pixel", 1)])
def test_loss_normalisation(tmp_path, loss, factor):
    losses = []
    for name in (loss, "pixel"):
        trainer = Trainer(replace(TINY, loss=name), tmp_path / name, device="cpu")
        trainer._begin(0, 0)
        trainer._one_step()
        losses.append(trainer.losses[0].item())
    assert losses[0] == pytest.approx(factor * losses[1], rel=1e-5)


def test_training_beats_bicubic(tmp_path):
    config = replace(TINY, epochs=40, decay_epochs=10, width=8, eval_epochs=40)
    score = trained(config, tmp_path / "run").history[-1]["psnr"]
    bicubic = evaluate(None, "samples-test", 2).psnr.mean()
    assert score > bicubic + 0.1


def test_divergence_names_step_rate_and_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    config = replace(TINY, clipping="none", learning_rate=1e3)
    with pytest.raises(FloatingPointError, match=r"step \d+ .*rate 1000.*run\b") as error:
        trained(config, tmp_path / "run")
    tensors, metadata = load_checkpoint(tmp_path / "run")
    assert f"step {metadata['step'] + 1} " in str(error.value)
    assert all(t.isfinite().all() for t in tensors.values())


def test_failed_capture_falls_back_with_a_warning(tmp_path, monkeypatch):
    trainer = Trainer(TINY, tmp_path / "run", device="cpu")

    def fail():
        raise RuntimeError("no graphs here")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", fail)
    with pytest.warns(UserWarning, match="training runs slower: no graphs here"):
        assert trainer._capture() is None
    assert not trainer._captures  # nor is it tried again


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
@pytest.mark.parametrize("config", [TINY, ADAM], ids=["sgd", "adam"])
def test_captured_step_equals_the_eager_one(tmp_path, monkeypatch, config):
    config = replace(config, precision="float32", decay_epochs=1)
    captured = trained_on_gpu(config, tmp_path / "captured")
    monkeypatch.setattr(Trainer, "_capture", lambda self: self._one_step)
    eager = trained_on_gpu(config, tmp_path / "eager")
    assert torch.allclose(weights(captured), weights(eager), atol=1e-5)


def trained_on_gpu(config, path):
    trainer = Trainer(config, path, device="cuda")
    trainer.fit()
    return trainer


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clipping", "global"), ("loss", "mean"), ("init", "he"), ("precision", "fp8"),
        ("depth", 1), ("depth", 5.0), ("seed", -1), ("eval_sets", "Set5"), ("scales", 3),
        ("residual", 1), ("theta", 0), ("epochs", 0), ("scales", ()), ("scales", (0.5,)),
        ("architecture", "SRCNN"), ("overlap", 41), ("optimizer", "Adam"), ("last_rate", 0),
    ],
)  # fmt: skip
def test_bad_config_names_the_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        TrainConfig(**{field: value})


def test_adjustable_clipping_is_sgds():
    with pytest.raises(ValueError, match=r"clipping must be 'none' .* with optimizer 'adam'"):
        TrainConfig(optimizer="adam")


def test_equal_numbers_are_one_config():
    config = TrainConfig(last_scale=1, weight_decay=0)
    assert (repr(config.last_scale), repr(config.weight_decay)) == ("1.0", "0.0")
    assert TrainConfig(eval_sets=(), eval_scales=(), scales=(3,)).eval_scales == ()


def test_equal_scales_are_one_config():
    assert TrainConfig(scales=[2.0, 2.5]).scales == (2, 2.5)
    assert isinstance(TrainConfig(scales=[2.0]).scales[0], int)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
def test_step_that_cannot_be_captured_trains_all_the_same(tmp_path, monkeypatch):
    plain = trained_on_gpu(replace(TINY, precision="float32"), tmp_path / "plain")
    step = Trainer._one_step

    def waiting(self):
        step(self)
        self.losses[0].item()

    monkeypatch.setattr(Trainer, "_one_step", waiting)
    with pytest.warns(UserWarning, match="training runs slower"):
        eager = trained_on_gpu(replace(TINY, precision="float32"), tmp_path / "eager")
    assert torch.allclose(weights(plain), weights(eager), atol=1e-5)


def test_too_few_patches(tmp_path):
    with pytest.raises(ValueError, match="fewer than one batch of 100000"):
        Trainer(replace(TINY, batch_size=100_000), tmp_path / "run", device="cpu")


def test_gradient_magnitudes_are_those_before_clipping(tmp_path):
    config = replace(TINY, theta=1e-9, precision="float32")
    magnitudes = gradient_magnitudes(config, [0, 2])
    assert {*magnitudes.step} == {0, 2}
    assert {*magnitudes.layer} == {1, 2, 3}
    assert len(magnitudes) == 2 * sum(p.numel() for p in config.network().parameters())
    assert magnitudes.ratio.max() > 1
    trainer = Trainer(replace(config, clipping="none"), tmp_path / "run", device="cpu")
    trainer._begin(0, 0)
    trainer._one_step()
    wanted = trainer.parameters[0].grad.abs().flatten() * 0.1 / 1e-9
    first = magnitudes[(magnitudes.step == 0) & (magnitudes.layer == 1)]
    assert first.ratio[: wanted.numel()].to_numpy() == pytest.approx(wanted.numpy(), rel=1e-4)
