"""Winograd's algorithm computes the convolution, and training by it is the same training."""

import ast
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import conv2d

import vdsr
from vdsr import TrainConfig, model
from vdsr.train import OutOfTime, Trainer

winograd = pytest.importorskip(
    "vdsr.winograd", reason="numba is not installed", exc_type=ImportError
)


@pytest.fixture(autouse=True)
def one_thread():
    """Give torch one thread; afterwards it has what it had."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(function, x, weight, bias, dtype):
    """Return an output and its gradients, for a random gradient of the output."""
    arguments = [t.detach().to(dtype).requires_grad_() for t in (x, weight, bias)]
    y = function(*arguments)
    y.backward(random(*y.shape, seed=9).to(dtype))
    return [y.detach(), *(t.grad for t in arguments)]


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 4, 4), (2, 5, 3), (3, 41, 41), (1, 7, 150), (1, 66, 8), (9, 12, 40)]
)
def test_it_is_the_convolution(shape):
    """Output and all three gradients, whatever the sides leave over."""
    n, height, width = shape
    x, weight, bias = random(n, 64, height, width), random(64, 64, 3, 3, seed=1), random(64, seed=2)
    exact = gradients(lambda *a: conv2d(*a, padding=1), x, weight, bias, torch.float64)
    ours = gradients(winograd.conv2d, x, weight, bias, torch.float32)
    for a, b in zip(ours, exact, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()
        assert (a - b).abs().max() < 1e-4 * b.abs().max()


def test_the_result_is_the_same_each_time():
    """So that an interrupted training ends in the same weights."""
    x, weight, bias = random(5, 64, 41, 41), random(64, 64, 3, 3, seed=1), random(64, seed=2)
    results = [gradients(winograd.conv2d, x, weight, bias, torch.float32) for _ in range(2)]
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_what_is_compiled_in_stands_in_the_file_that_is_compiled():
    """But for the paper's 64 channels: numba's cache does not see changes of other files."""
    tree = ast.parse(Path(winograd.__file__).with_name("winograd_maps.py").read_text())
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
    assert [name.name for each in imports for name in each.names] == ["WIDTH"]


def test_what_is_not_finite_stays_so():
    """A training that diverges is told by it."""
    x, weight = random(1, 64, 9, 9), random(64, 64, 3, 3, seed=1)
    x[0, 5, 4, 4] = float("nan")
    assert winograd.conv2d(x, weight)[0, :, 3:6, 3:6].isnan().all()
    x[0, 5, 4, 4] = float("inf")
    assert not winograd.conv2d(x, weight)[0, :, 3:6, 3:6].isfinite().any()


def test_a_network_uses_it_in_a_block_alone(monkeypatch):
    """Layers of 64 channels, and no others: not the first, the last, nor dilated ones."""
    calls = []
    original = winograd._convolve
    monkeypatch.setattr(winograd, "_convolve", lambda *a: calls.append(a) or original(*a))
    net, x = vdsr.VDSR(depth=5), random(1, 1, 20, 22)
    model.init_(net)
    expected = net(x)
    with winograd.used(net):
        result = net(x)
    assert len(calls) == 3
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    assert not torch.equal(result, expected)
    assert torch.equal(net(x), expected)
    for other in (vdsr.VDSR(depth=5, dilation=2), vdsr.VDSR(depth=5, width=32), vdsr.SRCNN()):
        with winograd.used(other):
            other(x)
    assert len(calls) == 3


def test_other_convolutions_are_left_alone():
    network = vdsr.VDSR(depth=3)
    assert len(winograd.layers(network)) == 1
    for channels, change in ((64, {"padding_mode": "replicate"}), (128, {"groups": 2})):
        other = torch.nn.Conv2d(channels, 64, 3, padding=1, **change)
        assert other.weight.shape == network.layers[2].weight.shape
        assert not winograd.layers(torch.nn.Sequential(other))


def test_what_is_compiled_need_not_be_kept(monkeypatch):
    """Where numba finds no folder that it can write to, it says so with a RuntimeError."""

    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("no locator available")
        return lambda function: (function, options)

    maps = pytest.importorskip("vdsr.winograd_maps")
    monkeypatch.setattr(maps, "njit", njit)
    function, options = maps._compiled(inline="always")(len)
    assert function is len
    assert options == {"inline": "always", "nogil": True, "fastmath": {"contract"}}


def test_memory_that_is_used_again_shows_no_trace():
    """Images of all sizes, one after the other, in threads that share a network."""
    net = vdsr.VDSR(depth=6)
    model.init_(net)
    images = [random(1, 1, side, 30, seed=side) for side in (20, 31, 12, 31, 5, 26)]

    def result(x):
        with torch.no_grad():
            return net(x)

    expected = [result(x) for x in images]
    with winograd.used(net), ThreadPoolExecutor(2) as pool:
        for x, y, same in zip(images, [*pool.map(result, images)], expected, strict=True):
            torch.testing.assert_close(y, same, rtol=1e-4, atol=1e-4)
            assert torch.equal(result(x), y)


def test_training_by_it_is_the_same_training(tmp_path, monkeypatch):
    config = TrainConfig(
        depth=4, batch_size=4, epochs=None, steps=3, train_set="samples-train", scales=(2,),
        eval_sets=(), precision="float32",
    )  # fmt: skip
    states = []
    for arithmetic in ("float32, Winograd", "float32"):
        if states:
            monkeypatch.setattr(winograd, "find_spec", lambda name: None)
        trainer = Trainer(config, tmp_path / arithmetic, device="cpu")
        assert trainer.arithmetic == arithmetic
        trainer.fit()
        states.append(torch.cat([p.detach().flatten() for p in trainer.parameters]))
    assert not torch.equal(*states)
    start = Trainer(config, tmp_path / "none", device="cpu")
    moved = states[1] - torch.cat([p.detach().flatten() for p in start.parameters])
    assert (states[0] - states[1]).norm() < 1e-3 * moved.norm()


@pytest.mark.parametrize(
    ("settings", "arithmetic"),
    [({}, "float32, Winograd"), ({"precision": "bf16"}, "bf16")]
    + [({key: 2}, "float32") for key in ("depth", "dilation")]
    + [({"width": 32}, "float32")],
)
def test_training_says_whether_it_is_used(settings, arithmetic, tmp_path):
    tiny = TrainConfig(depth=3, batch_size=4, train_set="samples-train", precision="float32")
    trainer = Trainer(replace(tiny, **settings), tmp_path / "run", device="cpu")
    assert trainer.arithmetic == arithmetic


def test_threads_that_share_a_batch_train_alike(tmp_path):
    """Each has patches of its own, not all as many; torch has its threads again afterwards."""
    config = TrainConfig(
        depth=3, batch_size=13, epochs=None, steps=3, train_set="samples-train", scales=(2,),
        eval_sets=(), precision="float32",
    )  # fmt: skip
    states, losses = [], []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        trainer = Trainer(config, tmp_path / f"{threads}", device="cpu")
        assert trainer.arithmetic == "float32, Winograd"
        start = torch.cat([p.detach().flatten() for p in trainer.parameters])
        trainer.fit()
        assert torch.get_num_threads() == threads
        states.append(torch.cat([p.detach().flatten() for p in trainer.parameters]))
        losses.append(trainer.measures[0, :3])
    assert not torch.equal(*states)
    assert (states[0] - states[1]).norm() < 1e-3 * (states[0] - start).norm()
    torch.testing.assert_close(*losses)


def test_threads_that_share_a_batch_go_on_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    torch.set_num_threads(2)
    config = TrainConfig(
        depth=3, batch_size=9, epochs=None, steps=3, train_set="samples-train", scales=(2,),
        eval_sets=(), precision="float32",
    )  # fmt: skip
    whole = Trainer(config, tmp_path / "whole", device="cpu")
    whole.fit()
    with pytest.raises(OutOfTime):
        Trainer(config, tmp_path / "part", device="cpu").fit(deadline=0)
    part = Trainer(config, tmp_path / "part", device="cpu")
    assert part.step == 1
    part.fit()
    for a, b in zip(whole.parameters, part.parameters, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("threads", "arithmetic"), [(2, "float32, Winograd"), (3, "float32")])
def test_a_thread_has_four_patches_at_least(threads, arithmetic, tmp_path):
    torch.set_num_threads(threads)
    tiny = TrainConfig(depth=3, batch_size=8, train_set="samples-train", precision="float32")
    assert Trainer(tiny, tmp_path / "run", device="cpu").arithmetic == arithmetic


def test_training_does_without_numba(tmp_path, monkeypatch):
    monkeypatch.setattr(winograd, "find_spec", {"numba": None}.__getitem__)
    tiny = TrainConfig(depth=3, batch_size=4, train_set="samples-train", precision="float32")
    assert Trainer(tiny, tmp_path / "run", device="cpu").arithmetic == "float32"
