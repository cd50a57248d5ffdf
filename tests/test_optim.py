import pytest
import torch

from vdsr import SRCNN, VDSR, TrainConfig
from vdsr.model import convolutions, init_
from vdsr.optim import Muon, clip_, make_optimizers, orthogonal, set_rates

THETA = 0.03


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def parameters():
    """Return two parameters with gradients, and all gradient values as one vector."""
    made = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((40, 30), (50,))]
    for i, p in enumerate(made):
        p.grad = random(*p.shape, seed=i)
    return made, torch.cat([p.grad.flatten() for p in made])


@pytest.mark.parametrize("rate", [0.1, 0.001, torch.tensor(0.1)])
@pytest.mark.parametrize(
    ("kind", "expected", "share"),
    [
        ("adjustable", lambda g, rate: g.clamp(-THETA / rate, THETA / rate),
         lambda g, rate: (g.abs() > THETA / rate).float().mean()),
        ("value", lambda g, rate: g.clamp(-THETA, THETA),
         lambda g, rate: (g.abs() > THETA).float().mean()),
        ("norm", lambda g, rate: g * THETA / g.norm(), lambda g, rate: 1),
        ("none", lambda g, rate: g, lambda g, rate: 0),
    ],
)  # fmt: skip
def test_kinds_of_clipping_and_the_share_they_change(kind, expected, share, rate):
    made, before = parameters()
    clipped = clip_(made, kind, THETA, rate)
    after = torch.cat([p.grad.flatten() for p in made])
    assert torch.allclose(after, expected(before, float(rate)), rtol=1e-4)
    assert (clipped.shape, clipped.dtype) == ((), torch.float32)
    assert clipped == share(before, float(rate))


def test_bounds_that_nothing_exceeds_change_nothing():
    for kind in ("adjustable", "value", "norm"):
        made, before = parameters()
        assert clip_(made, kind, 1e4, 1.0) == 0
        assert torch.equal(torch.cat([p.grad.flatten() for p in made]), before)


def test_share_counts_values_and_not_tensors():
    made = [torch.nn.Parameter(torch.zeros(n)) for n in (3, 1)]
    made[0].grad, made[1].grad = torch.tensor([1.0, -5.0, 2.0]), torch.tensor([0.5])
    assert clip_(made, "value", 1.0, 0.1) == 0.5
    assert [*made[0].grad, *made[1].grad] == [1, -1, 1, 0.5]


@pytest.mark.parametrize("shape", [(64, 576), (576, 64), (16, 16), (1, 9)])
def test_orthogonal_brings_singular_values_near_one_and_turns_nothing(shape):
    matrix = random(*shape) / shape[1] ** 0.5
    [made] = orthogonal(matrix[None])
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    assert made.shape == matrix.shape
    in_old_axes = u.mT @ made @ v.mT
    values = in_old_axes.diagonal()
    assert (in_old_axes - values.diag()).abs().max() < 1e-2
    assert values[s > 0.02].min() > 0.6
    assert values.max() < 1.25


def test_orthogonal_matches_the_iteration_on_singular_values():
    """The quintic acts on each singular value by itself: x ↦ a·x + b·x³ + c·x⁵."""
    matrix = random(12, 30, seed=1)
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    [made] = orthogonal(matrix[None])
    assert torch.allclose(made.double(), u @ s.diag() @ v, atol=1e-4)


def test_orthogonal_ignores_scale_and_treats_each_matrix_alone():
    matrices = torch.stack([random(8, 20, seed=i) * 10.0 ** (2 * i) for i in range(3)])
    made = orthogonal(matrices)
    for one, matrix in zip(made, matrices, strict=True):
        assert torch.allclose(one, orthogonal(matrix[None])[0], atol=1e-5)
        assert torch.allclose(one, orthogonal(1e3 * matrix[None])[0], atol=1e-4)
    assert orthogonal(torch.zeros(1, 3, 5)).abs().max() == 0


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (20, 2, 3, 3)])
def test_muon_is_the_literal_loop(shape):
    rate, momentum, decay = 0.02, 0.95, 0.1
    kernels = [torch.nn.Parameter(random(*shape, seed=i)) for i in range(3)]
    wanted = [p.detach().clone() for p in kernels]
    buffers = [torch.zeros(shape) for _ in kernels]
    muon = Muon(kernels, rate, momentum, decay)
    for step in range(4):
        for i, p in enumerate(kernels):
            gradient = random(*shape, seed=10 + 7 * step + i)
            p.grad = gradient.clone()
            buffers[i] = momentum * buffers[i] + (1 - momentum) * gradient
            nesterov = momentum * buffers[i] + (1 - momentum) * gradient
            rows, columns = shape[0], shape[1] * shape[2] * shape[3]
            update = orthogonal(nesterov.reshape(1, rows, columns))[0].reshape(shape)
            stretch = max(1, rows / columns) ** 0.5
            wanted[i] = wanted[i] * (1 - rate * decay) - rate * stretch * update
        muon.step()
        for p, expected in zip(kernels, wanted, strict=True):
            assert torch.allclose(p, expected, atol=1e-5)


def test_muons_first_step_has_the_length_that_its_rate_says():
    kernel = torch.nn.Parameter(torch.zeros(16, 16, 3, 3))
    kernel.grad = random(16, 16, 3, 3)
    Muon([kernel], 0.02).step()
    values = torch.linalg.svdvals(kernel.detach().flatten(1)) / 0.02
    assert 0.6 < values.min() < values.max() < 1.25


def network(config):
    model = config.network()
    init_(model, generator=torch.Generator().manual_seed(0))
    return model


ADAM = {"optimizer": "adam", "clipping": "none", "learning_rate": 1e-3}
MUON = {"optimizer": "muon", "clipping": "none", "learning_rate": 0.02}


def groups(optimizers):
    return [g for optimizer in optimizers for g in optimizer.param_groups]


@pytest.mark.parametrize("settings", [{}, ADAM, MUON], ids=["sgd", "adam", "muon"])
@pytest.mark.parametrize("bias", [True, False])
def test_every_parameter_is_in_one_group_and_has_its_buffers(settings, bias):
    config = TrainConfig(depth=4, width=3, bias=bias, **settings)
    model = network(config)
    optimizers = make_optimizers(config, model)
    grouped = [p for g in groups(optimizers) for p in g["params"]]
    assert len(grouped) == len({*map(id, grouped)}) == len([*model.parameters()])
    assert {*map(id, grouped)} == {*map(id, model.parameters())}
    for p in grouped:
        [state] = (o.state[p] for o in optimizers if p in o.state)
        assert all(not t.any() for t in state.values())
    before = {id(p): {k: t.data_ptr() for k, t in o.state[p].items()}
              for o in optimizers for p in o.state}  # fmt: skip
    for p in grouped:
        p.grad = random(*p.shape)
    for optimizer in optimizers:
        optimizer.step()
        for p in optimizer.state:
            state = {k: t.data_ptr() for k, t in optimizer.state[p].items()}
            assert state == before[id(p)]  # the step found them, and made none of its own


def test_rates_of_layers():
    for settings in ({"clipping": "value"}, ADAM):
        config = TrainConfig(depth=3, width=2, last_rate=0.1, **settings)
        model = network(config)
        optimizers = make_optimizers(config, model)
        rates = {id(p): g["lr"] for g in groups(optimizers) for p in g["params"]}
        *others, last = convolutions(model)
        assert {rates[id(p)] for p in last.parameters()} == {config.learning_rate * 0.1}
        assert {rates[id(p)] for c in others for p in c.parameters()} == {config.learning_rate}
        set_rates(optimizers, 0.5)
        assert [g["lr"] for g in groups(optimizers)] == [
            g["base"] * 0.5 for g in groups(optimizers)
        ]
        set_rates(optimizers, 1.0)
        assert groups(optimizers)[0]["lr"] == config.learning_rate


def test_rates_of_what_muon_has_and_leaves():
    config = TrainConfig(depth=4, width=3, last_rate=0.1, adam_rate=0.005, **MUON)
    model = network(config)
    muon, adam = make_optimizers(config, model)
    first, *hidden, last = convolutions(model)
    [group] = muon.param_groups
    assert [*map(id, group["params"])] == [id(conv.weight) for conv in hidden]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.02, 0.9, 1e-4)
    rates = {id(p): g["lr"] for g in adam.param_groups for p in g["params"]}
    assert rates[id(first.weight)] == rates[id(hidden[0].bias)] == 0.005
    assert rates[id(last.weight)] == rates[id(last.bias)] == 0.005 * 0.1
    assert all(g["betas"] == (0.9, 0.999) for g in adam.param_groups)


def test_srcnns_last_layer_may_be_slow():
    config = TrainConfig(architecture="SRCNN 9-1-5", last_rate=0.1, patch_size=33, clipping="none")
    rest, last = groups(make_optimizers(config, SRCNN()))
    assert (len(rest["params"]), len(last["params"])) == (4, 2)
    assert (rest["lr"], last["lr"]) == pytest.approx((0.1, 0.01))


def stepped(config, gradients):
    """Return a small VDSR before and after steps with given gradients, as flat vectors."""
    model = network(config)
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    optimizers = make_optimizers(config, model)
    for gradient in gradients:
        start = 0
        for p in model.parameters():
            p.grad = gradient[start : start + p.numel()].view_as(p).clone()
            start += p.numel()
        for optimizer in optimizers:
            optimizer.step()
    return before, torch.nn.utils.parameters_to_vector(model.parameters()).detach()


SMALL = {"depth": 3, "width": 4}
SIZE = sum(p.numel() for p in VDSR(3, 4).parameters())


def test_sgd_by_hand():
    """v = μ·v + g + λ·w, w = w − γ·v; the weight decay is larger than the tolerance."""
    config = TrainConfig(learning_rate=0.5, momentum=0.8, weight_decay=0.01, **SMALL)
    gradients = [random(SIZE, seed=i) for i in range(3)]
    before, after = stepped(config, gradients)
    weights, velocity = before.double(), 0
    for gradient in gradients:
        velocity = 0.8 * velocity + gradient + 0.01 * weights
        weights = weights - 0.5 * velocity
    assert torch.allclose(after.double(), weights, atol=1e-6)


def test_adam_by_hand():
    """Kingma & Ba 2015, algorithm 1, β₁ being the momentum, β₂ = 0.999, ε = 1e-8."""
    config = TrainConfig(**SMALL, **ADAM | {"learning_rate": 0.01}, momentum=0.7, weight_decay=0.1)
    gradients = [random(SIZE, seed=i) * 10.0**-i for i in range(4)]
    before, after = stepped(config, gradients)
    weights, m, v = before.double(), 0, 0
    for t, gradient in enumerate(gradients, 1):
        g = gradient + 0.1 * weights
        m, v = 0.7 * m + 0.3 * g, 0.999 * v + 0.001 * g**2
        weights = weights - 0.01 * (m / (1 - 0.7**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    assert torch.allclose(after.double(), weights, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, ADAM, MUON], ids=["sgd", "adam", "muon"])
def test_weight_decay_acts_in_every_optimizer(settings):
    """Without gradients nothing but the decay moves the weights, by γ·λ·w in the first step."""
    config = TrainConfig(**SMALL, **settings, weight_decay=0.01)
    before, after = stepped(config, [torch.zeros(SIZE)])
    moved = after - before
    assert (moved[before != 0] * before[before != 0].sign() < 0).all()
    if settings == {}:
        assert torch.allclose(moved, -0.1 * 0.01 * before, atol=0.1 * 0.01 * 1e-3)
    none = TrainConfig(**SMALL, **settings, weight_decay=0)
    before, after = stepped(none, [torch.zeros(SIZE)])
    assert torch.equal(before, after)


def test_a_rate_on_the_device_acts_as_a_number_does():
    """On a GPU, rates that move at each step are tensors, for all optimisers."""
    for made in (
        lambda p, lr: torch.optim.SGD([{"params": p, "lr": lr}], momentum=0.9, fused=True),
        lambda p, lr: Muon([{"params": p, "lr": lr}], lr),
    ):
        results = []
        for lr in (0.1, torch.tensor(0.1)):
            p = torch.nn.Parameter(random(4, 5))
            optimizer = made([p], lr)
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
            p.grad = random(4, 5, seed=1)
            optimizer.step()
            results.append(p.detach())
        assert torch.allclose(*results, atol=1e-7)


def test_rates_on_a_device_are_changed_in_place():
    """A captured step keeps the address, not the number."""
    rate = torch.tensor(0.1)
    optimizer = Muon(
        [{"params": [torch.nn.Parameter(torch.zeros(2, 2))], "lr": rate, "base": 0.1}], rate
    )
    set_rates([optimizer], 0.5)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == pytest.approx(0.05)
