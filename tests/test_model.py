import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import nn

from vdsr import SRCNN, VDSR, data, from_state_dict, load_matconvnet, receptive_field
from vdsr.model import convolutions, deepened, init_, step_operations


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_the_papers_network():
    model = VDSR()
    assert count(model) == 665_921
    convolutions = [m for m in model.layers if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64] * 19 + [1]
    assert sum(isinstance(m, nn.ReLU) for m in model.layers) == 19
    assert isinstance(model.layers[-1], nn.Conv2d)
    assert model(torch.zeros(2, 1, 5, 7)).shape == (2, 1, 5, 7)


def test_without_biases_it_is_most_public_codes():
    model = VDSR(bias=False)
    assert count(model) == 664_704
    assert all(conv.bias is None for conv in convolutions(model))
    init_(model)


@pytest.mark.parametrize("residual", [True, False])
def test_last_convolution_is_float32_under_autocast(residual):
    """Of an image in [0, 1], bf16 keeps fewer than 256 grey levels."""
    model = VDSR(4, 16, residual=residual)
    init_(model, generator=torch.Generator().manual_seed(0))
    kinds = []
    for conv in convolutions(model):
        conv.register_forward_hook(lambda module, inputs, out: kinds.append(out.dtype))
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
    assert kinds == [torch.bfloat16] * 3 + [torch.float32]
    assert out.dtype == torch.float32
    assert (out != out.bfloat16().float()).float().mean() > 0.9


@pytest.mark.parametrize(("middle", "weights", "field"), [(1, 8_032, 13), (5, 57_184, 17)])
def test_srcnn(middle, weights, field):
    model = SRCNN(middle)
    assert sum(p.numel() for p in model.parameters() if p.dim() > 1) == weights
    assert receptive_field(model) == field
    x = torch.rand(1, 1, 40, 45)
    inside = model(x)
    border = field // 2
    assert inside.shape == (1, 1, 40 - 2 * border, 45 - 2 * border)
    whole = model.eval()(x)
    assert whole.shape == x.shape
    assert torch.allclose(whole[..., border:-border, border:-border], inside, atol=1e-6)
    flat = model(torch.full((1, 1, 20, 20), 0.5))  # replicated edges leave a flat picture flat
    assert flat.std() < 1e-6


def test_residual_adds_the_input():
    plain, residual = VDSR(3, 4, residual=False), VDSR(3, 4)
    residual.load_state_dict(plain.state_dict())
    x = torch.rand(1, 1, 6, 6)
    assert torch.allclose(residual(x), plain(x) + x)


@pytest.mark.parametrize(("mode", "last"), [("fan_in", 2 / 576), ("fan_out", 2 / 9)])
def test_he_initialisation(mode, last):
    model = VDSR(6)
    init_(model, mode=mode, generator=torch.Generator().manual_seed(0))
    weights = [m.weight for m in model.layers if isinstance(m, nn.Conv2d)]
    assert weights[2].var().item() == pytest.approx(2 / 576, rel=0.05)
    assert weights[-1].var().item() == pytest.approx(last, rel=0.15)
    assert all((m.bias == 0).all() for m in model.layers if isinstance(m, nn.Conv2d))
    scaled = VDSR(6)
    init_(scaled, mode=mode, last_scale=0.1, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(scaled.layers[-1].weight, 0.1 * weights[-1])


def test_srcnns_initialisation():
    model = VDSR(6)
    init_(model, mode="normal", generator=torch.Generator().manual_seed(0))
    assert model.layers[4].weight.std().item() == pytest.approx(0.001, rel=0.05)


@pytest.mark.parametrize("depth", [2, 5, 20])
def test_receptive_field_is_what_a_pixel_sees(depth):
    assert receptive_field(depth) == receptive_field(VDSR(depth, 2)) == 2 * depth + 1
    model = VDSR(depth, 2, residual=False)
    for p in model.parameters():
        nn.init.constant_(p, 0.1)
    x = torch.ones(1, 1, 49, 49, requires_grad=True)
    model(x)[0, 0, 24, 24].backward()
    assert ((x.grad[0, 0] != 0).any(0).sum()) == 2 * depth + 1


def test_dilation_widens_the_field_of_the_same_weights():
    model = VDSR(5, 4, dilation=3)
    assert count(model) == count(VDSR(5, 4))
    assert model(torch.zeros(1, 1, 7, 9)).shape == (1, 1, 7, 9)
    assert receptive_field(model) == receptive_field(5, dilation=3) == 1 + 2 * 2 + 3 * 2 * 3


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(
    "compiled", [torch.jit.script, lambda m: torch.jit.trace(m, torch.zeros(1, 1, 9, 9))]
)
def test_receptive_field_of_what_cannot_be_looked_at_is_not_guessed(compiled):
    with pytest.raises(
        TypeError, match=r"got one of TorchScript; give the network that torch\.jit"
    ):
        receptive_field(compiled(VDSR(3, 4)))


def test_step_operations_by_hand():
    """Two for each weight and output pixel, forward and for both gradients but the image's."""
    layers = [9 * 4, 9 * 4 * 4, 9 * 4]
    expected = 2 * 5 * 11 * 11 * (3 * sum(layers) - layers[0])
    assert step_operations(VDSR(3, 4), batch=5, side=11) == expected
    assert step_operations(VDSR(3, 4, bias=False, dilation=2), batch=5, side=11) == expected
    # SRCNN pads nothing in training: 33 pixels become 25, 25 and 21.
    layers = [81 * 64 * 25**2, 64 * 32 * 25**2, 25 * 32 * 21**2]
    assert step_operations(SRCNN(), batch=7, side=33) == 2 * 7 * (3 * sum(layers) - layers[0])
    model = VDSR()
    assert step_operations(model, 64, 41) == 2 * 64 * 41**2 * (3 * 664_704 - 576)
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("value", [1, 0, -1, 2.5, float("nan"), "3", None, True, [3], VDSR])
@pytest.mark.parametrize("name", ["depth", "width", "dilation"])
def test_impossible_sizes(name, value):
    if name != "depth" and value == 1:
        value = 0
    with pytest.raises((TypeError, ValueError), match=rf"^{name} must be a whole number"):
        VDSR(**{"depth": 3, "width": 2, name: value})


@pytest.mark.parametrize("value", ["no", 1, None])
@pytest.mark.parametrize("name", ["residual", "bias"])
def test_impossible_choices(name, value):
    with pytest.raises(TypeError, match=f"^{name} must be True or False, got {value!r}"):
        VDSR(3, 2, **{name: value})


@pytest.mark.parametrize("middle", [0, 2, -1, 1.5, "5", None, True])
def test_impossible_filters_of_srcnn(middle):
    with pytest.raises((TypeError, ValueError), match=f"^middle must be an odd.*, got {middle!r}"):
        SRCNN(middle)


@pytest.mark.parametrize("depth", [1, 0, -5, 2.5, "20", None, True, VDSR, {}])
def test_impossible_depths_of_a_receptive_field(depth):
    with pytest.raises((TypeError, ValueError), match=r"^model_or_depth must be a network, or a"):
        receptive_field(depth)
    with pytest.raises(ValueError, match=r"^dilation must be a whole number, at least 1, got 0"):
        receptive_field(20, 0)


def test_matconvnet_kernels_are_neither_flipped_nor_transposed(tmp_path):
    model = VDSR(3, 2)
    init_(model)
    layers = [m for m in model.layers if isinstance(m, nn.Conv2d)]
    cells = {"weight": np.empty(3, object), "bias": np.empty(3, object)}
    for i, layer in enumerate(layers):
        nn.init.normal_(layer.bias)
        cells["weight"][i] = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
        cells["bias"][i] = layer.bias.detach().numpy()
    savemat(tmp_path / "net.mat", {"model": cells})
    x = torch.rand(1, 1, 8, 8)
    assert torch.allclose(load_matconvnet(tmp_path / "net.mat")(x), model(x))


def test_authors_weights(data_dir):
    model = load_matconvnet(data.fetch(["weights/VDSR_Official.mat"])[0])
    assert count(model) == 665_921


def test_not_a_network(tmp_path):
    savemat(tmp_path / "net.mat", {"other": 1})
    with pytest.raises(ValueError, match=r"net\.mat does not hold a MatConvNet VDSR"):
        load_matconvnet(tmp_path / "net.mat")


def public(depth, width, bias, prefix=""):
    """Return a state dict as most public code writes it."""
    generator = torch.Generator().manual_seed(0)
    names = ["input", *(f"residual_layer.{i}.conv" for i in range(depth - 2)), "output"]
    channels = [1, *[width] * (depth - 1), 1]
    tensors = {}
    for name, a, b in zip(names, channels, channels[1:], strict=False):
        tensors[f"{prefix}{name}.weight"] = torch.randn(b, a, 3, 3, generator=generator) / 3
        if bias:
            tensors[f"{prefix}{name}.bias"] = torch.randn(b, generator=generator)
    return tensors


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("depth", [2, 3, 13])
def test_public_weights_give_what_a_stack_of_convolutions_gives(depth, bias, prefix):
    tensors = public(depth, 6, bias, prefix)
    model = from_state_dict(tensors)
    assert not model.training
    ilr = torch.rand(2, 1, 9, 14, generator=torch.Generator().manual_seed(1))
    kernels = [t for name, t in tensors.items() if name.endswith("weight")]
    biases = [t for name, t in tensors.items() if name.endswith("bias")] or [None] * depth
    x = ilr
    for i, (kernel, b) in enumerate(zip(kernels, biases, strict=True)):
        x = nn.functional.conv2d(x if i == 0 else x.relu(), kernel, b, padding=1)
    assert torch.allclose(model(ilr), ilr + x, rtol=1e-5, atol=1e-5 * x.abs().max().item())


def test_public_weights_of_the_papers_size():
    model = from_state_dict(public(20, 64, bias=False))
    assert (count(model), receptive_field(model)) == (664_704, 41)


@pytest.mark.parametrize("bias", [False, True])
def test_own_weights_come_back(bias):
    model = VDSR(4, 5, bias=bias)
    again = from_state_dict(model.state_dict())
    assert again.state_dict().keys() == model.state_dict().keys()
    x = torch.rand(1, 1, 8, 8)
    assert torch.equal(again(x), model(x))
    doubled = {f"module.{k}": v.double() for k, v in model.state_dict().items()}
    assert torch.equal(from_state_dict(doubled)(x), model(x))
    kept = again.layers[0].weight.clone()
    model.layers[0].weight.data.zero_()
    assert torch.equal(again.layers[0].weight, kept)  # a copy


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("had", "depth"), [(2, 2), (2, 5), (3, 4), (4, 4), (5, 13), (10, 20)])
def test_added_layers_change_nothing_and_all_others_are_kept(had, depth, bias):
    model = from_state_dict(public(had, 6, bias))
    deep = VDSR(depth, 6, bias=bias)
    assert deep.load_state_dict(deepened(model.state_dict(), depth))
    x = torch.rand(2, 1, 9, 14, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(deep(x), model(x), rtol=1e-5, atol=1e-5 * model(x).abs().max().item())
    old, new = ([c.weight for c in each.layers[::2]] for each in (model, deep))
    identity = nn.init.dirac_(torch.empty(6, 6, 3, 3))
    kept = [i for i, w in enumerate(new) if w.shape != identity.shape or (w != identity).any()]
    assert all(torch.equal(new[i], w) for i, w in zip(kept, old, strict=True))
    assert {0, depth - 1} <= {*kept}
    gaps = np.diff(kept[1:-1])  # between hidden layers, spread evenly
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_a_file_of_torchs_is_read_without_unpickling_code(tmp_path):
    torch.save(public(4, 3, bias=False), tmp_path / "net.pth")
    tensors = torch.load(tmp_path / "net.pth", weights_only=True)
    assert count(from_state_dict(tensors)) == 9 * (3 + 9 + 9 + 3)


def broken(change):
    tensors = public(4, 3, bias=True)
    change(tensors)
    return tensors


@pytest.mark.parametrize(
    "tensors",
    [
        None, "net.pth", [], {}, {"state_dict": public(4, 3, True)}, {1: torch.zeros(1)},
        VDSR(3, 2), {"weight": torch.zeros(2)}, nn.Linear(2, 2).state_dict(),
        SRCNN().state_dict(),
        broken(lambda t: t.pop("residual_layer.0.conv.weight")),
        broken(lambda t: t.pop("residual_layer.1.conv.bias")),
        broken(lambda t: t.pop("output.weight")),
        broken(lambda t: t.update({"extra.weight": torch.zeros(3, 3, 3, 3)})),
        broken(lambda t: t.update({"input.weight": torch.zeros(3, 3, 3, 3)})),
        broken(lambda t: t.update({"input.weight": torch.zeros(3, 1, 5, 5)})),
        broken(lambda t: t.update({"output.weight": torch.zeros(1, 3, 3)})),
        broken(lambda t: t.update({"output.bias": [0.0]})),
        broken(lambda t: t.update({"output.bias": torch.tensor([1])})),
        broken(lambda t: t.update({"output.bias": torch.tensor([float("nan")])})),
    ],
)  # fmt: skip
def test_what_is_no_state_dict_of_a_vdsr(tensors):
    accepted = "tensors must be a VDSR's state dict, with layers.0.weight, .* input.weight, "
    with pytest.raises(ValueError, match=accepted) as error:
        from_state_dict(tensors)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ("net.pth", r"got 'net.pth'; torch.load\(path, weights_only=True\) reads one"),
        ({"state_dict": public(4, 3, True), "epoch": 3}, "it may be what these hold as 'state_d"),
        ({}, "there is no first layer"),
    ],
)
def test_likely_slips_with_a_state_dict_are_named(tensors, said):
    with pytest.raises(ValueError, match=said):
        from_state_dict(tensors)
