import sys
import threading
from contextlib import nullcontext
from copy import deepcopy
from fractions import Fraction
from importlib import import_module
from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.color import rgb2ycbcr, ycbcr2rgb
from torch.nn.utils import prune

import vdsr
from vdsr import SRCNN, VDSR, imresize, machine, networks, upscale
from vdsr.evaluate import super_resolve
from vdsr.imresize import axis_weights
from vdsr.model import convolutions, init_
from vdsr.upscale import _shared, _span

# Scripts are still given, though torch advises against them.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit")

UPSCALE = import_module("vdsr.upscale")  # vdsr.upscale is the function


@pytest.fixture(scope="module")
def model():
    model = VDSR(depth=3, width=4)
    init_(model, last_scale=0.1, generator=torch.Generator().manual_seed(0))
    return model


def picture(dtype, channels, size=(23, 31), seed=0):
    """Random pixels, the same whatever other tests have run."""
    pixels = np.random.default_rng(seed).random((*size, *channels))
    dtype = np.dtype(dtype)
    return (pixels * np.iinfo(dtype).max if dtype.kind == "u" else pixels).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,)])
@pytest.mark.parametrize("scale", [1, 2, 2.5, 8])
def test_same_kind_out(silent, dtype, channels, scale):
    image = picture(dtype, channels)
    out = upscale(image, scale, model=silent)
    assert out.dtype == image.dtype
    assert out.shape == (int(np.ceil(23 * scale)), int(np.ceil(31 * scale)), *channels)
    top = np.iinfo(dtype).max if out.dtype.kind == "u" else 1
    half = 0.5 + 1e-3 * top / 255 if top > 1 else 1e-6
    if channels in ((2,), (4,)):
        image, out = image[..., -1], out[..., -1]  # the colours below
    wanted = imresize(image, scale).clip(0, top)
    assert np.abs(out - wanted).max() <= half


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
@pytest.mark.parametrize("tile", [1, 7, 16, 40])
def test_tiles_leave_no_trace(model, channels, tile):
    image = picture("float32", channels)
    if tile == 1:
        image = image[:5, :6]
    whole = upscale(image, 2.5, model=model, tile=10_000)
    assert np.abs(upscale(image, 2.5, model=model, tile=tile) - whole).max() < 1e-6


def test_memory_is_bounded_by_the_tile(model, monkeypatch):
    seen = []
    forward = VDSR.forward
    monkeypatch.setattr(VDSR, "forward", lambda m, x: seen.append(x.shape) or forward(m, x))
    upscale(picture("uint8", (), (60, 70)), 3, model=model, tile=32)
    assert max(max(shape) for shape in seen) <= 32 + 2 * 3
    assert len(seen) == 6 * 7


def test_network_changes_luminance_alone(model):
    image = picture("float64", (3,))
    out = upscale(image, 2, model=model, precision="float32")
    ycc = rgb2ycbcr(imresize(image, 2))
    with torch.no_grad():
        luma = model(torch.tensor(ycc[None, None, ..., 0] / 255).float())[0, 0].numpy() * 255
    ycc[..., 0] = luma
    np.testing.assert_allclose(out, ycbcr2rgb(ycc).clip(0, 1), atol=2e-5)
    grey = upscale(image[..., 0], 2, model=model, precision="float32")
    with torch.no_grad():
        wanted = model(torch.tensor(imresize(image[..., 0], 2))[None, None].float())[0, 0].numpy()
    np.testing.assert_allclose(grey, wanted.clip(0, 1), atol=1e-6)


def on_white(image):
    """What is seen of an image with alpha before white, 0 to 1."""
    image = image / (np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1)
    return image[..., :-1] * image[..., -1:] + 1 - image[..., -1:]


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("scale", [1.7, 2, 3, 4])
def test_hidden_black_does_not_darken_white(channels, scale):
    image = np.zeros((20, 24, channels), np.uint8)
    image[6:14, 6:14] = 255
    assert on_white(upscale(image, scale)).min() > 1 - 1e-9


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("seed", [0, 288, 290])  # some pixels can hardly be seen, but in 16 bits
def test_colours_are_weighted_by_their_opacity(silent, dtype, channels, seed):
    image = picture(dtype, (channels,), seed=seed)
    top = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    out = upscale(image, 2.5, model=silent) / top
    colours, opacity = image[..., :-1] / top, image[..., -1:] / top
    opacity, weighted = imresize(opacity, 2.5), imresize(colours * opacity, 2.5)
    seen = opacity[..., 0] > 0.05
    wanted = (weighted[seen] / opacity[seen]).clip(0, 1)
    assert np.abs(out[..., :-1][seen] - wanted).max() <= 0.51 / min(top, 1e5)


@pytest.mark.parametrize("channels", [2, 4])
def test_colours_that_are_hidden_change_nothing(model, channels):
    image = picture("uint8", (channels,))
    image[:9, :, -1] = 0
    other = image.copy()
    other[:9, :, :-1] = 255 - other[:9, :, :-1]
    assert np.array_equal(upscale(image, 2.5, model=model), upscale(other, 2.5, model=model))


@pytest.mark.parametrize("opacity", [255, 100])
def test_even_opacity_leaves_colours_as_without_any(model, opacity):
    image = picture("uint8", (3,))
    alpha = np.full((*image.shape[:2], 1), opacity, np.uint8)
    out = upscale(np.concatenate([image, alpha], axis=2), 2, model=model)
    wanted = upscale(image, 2, model=model)
    assert np.abs(out[..., :3].astype(int) - wanted).max() <= (opacity < 255)
    assert (out[..., 3] == opacity).all()


def test_what_is_wholly_hidden_is_enlarged(model):
    out = upscale(np.full((5, 6, 4), (9, 9, 9, 0), np.uint8), 2, model=model)
    assert (out[..., 3] == 0).all()


@pytest.mark.parametrize(
    ("image", "scale", "message"),
    [
        (np.zeros((4, 4), bool), 2, r"uint8, uint16 or float.*; use np\.uint8\(255\) \* image"),
        (np.zeros((4, 4), int), 2, r"got int64; use image\.astype\(np\.uint8\)"),
        (np.zeros((4, 4), complex), 2, "got complex128"),
        (np.zeros((4, 4, 5), np.uint8), 2, r"got \(4, 4, 5\)"),
        (np.zeros((0, 4), np.uint8), 2, r"got \(0, 4\)"),
        (np.zeros((3, 40, 50), np.uint8), 2, r"if channels come first, use np\.moveaxis"),
        (np.zeros((3, 40, 4), np.uint8), 2, r"if channels come first, use np\.moveaxis"),
        (np.zeros((4, 5, 3), np.float32), 2, r"if channels come first, use np\.moveaxis"),
        (np.full((4, 4), 255.0), 2, "got 255.0 to 255.0; divide them by 255 first"),
        (np.full((4, 4), 65535.0), 2, "divide them by 65535 first"),
        (np.linspace(-1, 1, 16).reshape(4, 4), 2, r"use \(image \+ 1\) / 2"),
        (np.full((4, 4), np.nan), 2, r"in \[0, 1\], got 16 that are NaN or infinite"),
        (np.full((4, 4), -np.inf), 2, r"in \[0, 1\], got 16 that are NaN or infinite"),
        (np.ma.masked_equal(np.eye(4), 0), 2, r"image\.filled\(0\)"),
        (None, 2, "takes an array, a path, a Pillow image or a tensor, got NoneType"),
        ([[1, 2], [3]], 2, "takes an array, a path, a Pillow image or a tensor, got list"),
        (b"photo.jpg", 2, "got bytes"),
        (torch.zeros(4, 4, dtype=torch.int64), 2, "a tensor must be dense, of uint8"),
        (torch.zeros(4, 4).to_sparse(), 2, "a tensor must be dense, of uint8"),
        (torch.zeros(4, 4, device="meta"), 2, "a tensor must have values to be read"),
        (
            np.zeros((4, 4), np.uint8),
            10**400,
            r"scale must be a number from 1 to 8, got 10+\.\.\.0+$",
        ),
        (torch.zeros(40, 50, 3), 2, r"use image\.movedim\(-1, -3\) if channels come last"),
        (torch.zeros(2, 5, 4, 4), 2, r"got \(2, 5, 4, 4\)"),
        (torch.full((3, 4, 4), 255.0), 2, "divide them by 255 first"),
        (Image.new("CMYK", (4, 4)), 2, "mode CMYK, which cannot be enlarged; save it as RGB"),
        (Image.new("HSV", (4, 4)), 2, "mode HSV, which cannot be enlarged"),
        (Image.new("LAB", (4, 4)), 2, "mode LAB, which cannot be enlarged"),
        (Image.new("F", (4, 4)), 2, "mode F, which cannot be enlarged"),
        (Image.new("I", (4, 4)), 2, "mode I, which cannot be enlarged"),
        (np.zeros((4, 4), np.uint8), 0.5, "scale must be a number from 1 to 8, got 0.5"),
        (np.zeros((4, 4), np.uint8), 9, "scale must be a number from 1 to 8, got 9"),
        (np.zeros((4, 4), np.uint8), float("nan"), "scale must be"),
        (np.zeros((4, 4), np.uint8), "2.5", "scale must be a number from 1 to 8, got '2.5'"),
        (np.zeros((4, 4), np.uint8), True, "scale must be a number from 1 to 8, got True"),
        (np.zeros((4, 4), np.uint8), None, "scale must be a number from 1 to 8, got None"),
        (np.zeros((4, 4), np.uint8), (2, 2), "scale must be a number from 1 to 8"),
    ],
)
def test_bad_input_is_named(silent, image, scale, message):
    with pytest.raises((TypeError, ValueError), match=message):
        upscale(image, scale, model=silent)


@pytest.mark.parametrize(("tile", "kind"), [(0, ValueError), (2.5, ValueError), ("9", TypeError),
                                           (True, TypeError)])  # fmt: skip
def test_bad_tiles_are_named(silent, tile, kind):
    with pytest.raises(kind, match=f"tile must be .* got {tile!r}"):
        upscale(np.zeros((4, 4), np.uint8), 2, model=silent, tile=tile)


def test_a_fraction_is_exact(silent):
    """100 times 1.1 are 110.00000000000001 as floats, and 111 pixels, as MATLAB has it."""
    image = np.zeros((100, 100), np.uint8)
    assert upscale(image, Fraction(11, 10), model=silent).shape == (110, 110)
    assert upscale(image, Fraction(11, 10)).shape == (110, 110)
    assert upscale(image, 1.1, model=silent).shape == (111, 111)


@pytest.mark.parametrize("scale", [np.float32(2), np.int64(2), np.array(2), torch.tensor(2), 2])
def test_any_number_is_a_scale(silent, scale):
    assert upscale(np.zeros((4, 5), np.uint8), scale, model=silent).shape == (8, 10)


def test_overshoot_of_an_interpolation_is_clipped(silent):
    board = np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((3, 3))) * 255.0
    image = imresize(board, 1.7) / 255
    assert image.min() < -0.02
    assert image.max() > 1.02
    for over in (image, np.full((4, 4), 1 + 1e-7), np.full((4, 4), -1e-9)):
        wanted = upscale(over.clip(0, 1), 2, model=silent)
        assert np.array_equal(upscale(over, 2, model=silent), wanted)


def test_other_byte_orders_and_views(silent):
    image = picture("uint16", (3,))
    wanted = upscale(image, 2, model=silent)
    out = upscale(image.astype(">u2"), 2, model=silent)
    assert out.dtype == ">u2"
    assert np.array_equal(out, wanted)
    assert np.array_equal(upscale(image[::-1, ::-1], 2, model=silent), wanted[::-1, ::-1])
    assert np.array_equal(upscale(np.ma.array(image), 2, model=silent), wanted)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.bfloat16,
                                   torch.float32, torch.float64])  # fmt: skip
@pytest.mark.parametrize("shape", [(7, 9), (1, 7, 9), (3, 7, 9), (3, 7, 3), (4, 7, 9), (2, 3, 7, 9),
                                   (1, 2, 7, 4)])  # fmt: skip
def test_tensors_give_tensors(silent, dtype, shape):
    white = {torch.uint8: 255, torch.uint16: 65535}.get(dtype, 1)
    tensor = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * white).to(dtype)
    out = upscale(tensor, 2.5, model=silent)
    assert (out.dtype, out.shape) == (dtype, (*shape[:-2], 18, int(np.ceil(2.5 * shape[-1]))))
    first = tensor if len(shape) < 4 else tensor[0]
    array = first.float().numpy() / white
    array = array if array.ndim == 2 else np.moveaxis(array, 0, 2)
    wanted = upscale(array, 2.5, model=silent)
    got = (out if len(shape) < 4 else out[0]).float().numpy() / white
    got = got if got.ndim == 2 else np.moveaxis(got, 0, 2)
    assert np.abs(got - wanted).max() < (0.01 if dtype in (torch.bfloat16, torch.uint8) else 1e-3)


def test_tensors_may_need_gradients(silent):
    assert not upscale(torch.rand(3, 5, 6).requires_grad_(), 2, model=silent).requires_grad


def test_tensors_that_are_no_plain_arrays(silent):
    plain = torch.rand(5, 6)
    negated = torch._neg_view(-plain)  # as the imaginary part of a conjugate is
    assert torch.equal(upscale(negated, 2, model=silent), upscale(plain, 2, model=silent))
    with pytest.raises(TypeError, match="a tensor must have values to be read"):
        torch.vmap(lambda x: upscale(x, 2, model=silent))(plain[None])
    with pytest.warns(UserWarning, match="nested tensors is in prototype"):
        nested = torch.nested.nested_tensor([plain, plain[:3]])
    with pytest.raises(TypeError, match=r"a tensor must be dense.*, nested"):
        upscale(nested, 2, model=silent)


PILLOW = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "I;16"]


@pytest.mark.parametrize("mode", PILLOW)
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_pillow_images_are_taken_as_their_files(silent, tmp_path, mode, orientation):
    if mode == "I;16":
        image = Image.fromarray(picture("uint16", ()))
    else:
        base = "L" if mode in ("1", "LA", "La") else "RGBA" if mode == "RGBa" else "RGB"
        image = Image.fromarray(picture("uint8", (4,)), "RGBA").convert(base)
        image = image.convert("LA").convert(mode) if mode == "La" else image.convert(mode)
    exif = Image.Exif()
    exif[274] = orientation
    image.info["exif"] = exif.tobytes()
    got = upscale(image, 2, model=silent)
    saved = {"PA": "RGBA", "RGBX": "RGB", "RGBa": "RGBA", "La": "LA"}.get(mode, mode)
    image.convert(saved).save(tmp_path / "in.png", exif=exif)
    assert np.array_equal(got, upscale(tmp_path / "in.png", 2, model=silent))
    assert got.shape[:2] == ((62, 46) if orientation == 6 else (46, 62))


def test_pillow_images_with_a_clear_colour(silent):
    palette = Image.new("P", (6, 5))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((0, 0), 1)
    assert (upscale(palette, 1, model=silent)[1, 1] == (255, 0, 0)).all()
    palette.info["transparency"] = 1
    assert upscale(palette, 1, model=silent)[0, 0, 3] == 0
    grey = Image.new("I;16", (6, 5), 700)
    grey.putpixel((0, 0), 7)
    grey.info["transparency"] = 7
    assert (upscale(grey, 1, model=silent)[:1, :2, 1] == [[0, 65535]]).all()
    bits = Image.new("1", (6, 5), 1)
    bits.putpixel((0, 0), 0)
    bits.info["transparency"] = 0
    assert (upscale(bits, 1, model=silent)[:1, :2] == [[[255, 0], [255, 255]]]).all()


@pytest.mark.parametrize("wrap", [
    torch.jit.script, lambda m: torch.jit.freeze(torch.jit.script(m.eval())),
    lambda m: torch.jit.trace(m.eval(), torch.rand(1, 1, 9, 9)),
    torch.nn.Sequential, lambda m: m.double(), lambda m: torch.nn.Sequential(m.double()),
])  # fmt: skip
def test_other_forms_of_a_network_give_its_result(model, wrap):
    copy = VDSR(depth=3, width=4)
    copy.load_state_dict(model.state_dict())
    image = picture("float32", ())
    wanted = upscale(image, 2, model=model, precision="float32")
    for tile in (16, 1000):
        out = upscale(image, 2, model=wrap(copy), precision="float32", tile=tile)
        assert np.abs(out - wanted).max() < 1e-6
        copy.float()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near(model, dtype):
    copy = VDSR(depth=3, width=4)
    copy.load_state_dict(model.state_dict())
    image = picture("float32", (3,))
    out = upscale(image, 2, model=copy.to(dtype), tile=16)
    assert next(copy.parameters()).dtype == dtype
    assert np.abs(out - upscale(image, 2, model=model)).max() < 0.02


@pytest.mark.parametrize(
    ("fast", "precision", "least", "most"),
    [(True, "auto", 0.01, 2), (True, "float32", 0, 1e-3), (False, "auto", 0, 1e-3)],
)
def test_fast_arithmetic_is_near_and_float32_is_exact(fast, precision, least, most, monkeypatch):
    """Grey levels by which the network that ships differs in bfloat16, where it is fast."""
    monkeypatch.setattr(networks, "bf16_is_fast", lambda device: fast)
    network = vdsr.load_pretrained()
    luma = next(iter(vdsr.load_images("samples-test").values()))[100:114, 100:118, 1] / 255
    wanted = super_resolve(network, imresize(luma, 2) * 255).clip(0, 255)
    out = upscale(luma, 2, model=network, precision=precision) * 255
    assert least <= np.abs(out - wanted).max() <= most


# The network that ships, at factors that it was not trained for


def photograph(height, width):
    luma = next(iter(vdsr.load_images("samples-test").values()))[100:, 100:, 1]
    return luma[:height, :width] / 255


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_at_whole_factors_the_network_is_applied_as_it_is(scale):
    image = photograph(14, 18)
    wanted = upscale(image, scale, model=vdsr.load_pretrained(), precision="float32")
    assert np.array_equal(upscale(image, scale, precision="float32"), wanted)


def test_a_factor_of_one_gives_the_picture_back():
    image = photograph(14, 18)
    out = upscale(image, 1)
    assert np.array_equal(out, image) and not np.shares_memory(out, image)


def test_a_computed_factor_is_the_whole_one_that_is_meant():
    image = photograph(12, 10)
    for scale in (4.2 / 1.4, 4.0000001):
        wanted = upscale(image, round(scale), precision="float32")
        height, width = wanted.shape
        out = upscale(image, scale, precision="float32")[:height, :width]
        assert scale != round(scale) and np.abs(out - wanted).max() < 1e-5


def test_a_result_beyond_the_memory_is_refused_before_the_work(monkeypatch):
    def full(*size):
        raise MemoryError

    monkeypatch.setattr(UPSCALE.np, "empty", full)
    monkeypatch.setattr(UPSCALE.networks, "apply", None)  # which would fail otherwise
    with pytest.raises(MemoryError, match="8000×8000 pixels need 0 GiB of memory"):
        upscale(np.zeros((1000, 1000), np.uint8), 8)


def test_the_network_is_given_tiles_of_one_size_at_any_factor(monkeypatch):
    seen = []
    apply = networks.apply
    monkeypatch.setattr(
        networks, "apply", lambda model, luma: seen.append(luma.shape) or apply(model, luma)
    )
    for scale in (1.2, 2, 2.1):
        upscale(photograph(60, 60), scale, tile=32)
        # Beside its surroundings of 20 pixels a side, and what the reduction reaches for
        assert 60 < max(max(shape) for shape in seen) < 32 + 40 + 8
        seen.clear()


@pytest.mark.parametrize(("scale", "at"), [(1.0001, 2), (1.3, 2), (2.5, 3), (3.01, 4)])
def test_at_other_factors_it_adds_what_it_would_at_the_next(scale, at):
    image = photograph(14, 19)
    larger, shape = imresize(image, at), [ceil(scale * n) for n in image.shape]
    change = super_resolve(vdsr.load_pretrained(), larger * 255) / 255 - larger
    reduced = axis_weights(at * 14, shape[0], scale / at) @ change
    reduced = (axis_weights(at * 19, shape[1], scale / at) @ reduced.T).T
    wanted = (imresize(image, scale) + reduced).clip(0, 1)
    for tile in (5, 16, 512):
        out = upscale(image, scale, precision="float32", tile=tile)
        assert np.abs(out - wanted).max() < 1e-5


@pytest.mark.parametrize("scale", [4.1, 5.5, 8])
def test_beyond_four_it_enlarges_by_two_first(scale):
    image = photograph(9, 11)
    out = upscale(image, scale, precision="float32")
    assert out.shape == (ceil(9 * scale), ceil(11 * scale))
    wanted = upscale(upscale(image, 2, precision="float32"), scale / 2, precision="float32")
    assert np.abs(out - wanted[: out.shape[0], : out.shape[1]]).max() < 1e-6


@pytest.mark.parametrize("scale", [1.25, 1.5, 1.75, 2.25, 2.5, 3.5, 5, 8])
def test_at_every_factor_it_is_better_than_interpolation(scale):
    hr = photograph(160, 160)
    lr = imresize(hr, 1 / scale)
    errors = [
        np.mean((larger[10:150, 10:150].clip(0, 1) - hr[10:150, 10:150]) ** 2)
        for larger in (upscale(lr.clip(0, 1), scale), imresize(lr, scale))
    ]
    assert errors[0] < 0.9 * errors[1]


def test_another_network_is_used_at_the_factor_itself(model):
    image = photograph(12, 13)
    for scale in (1.5, 5):
        wanted = super_resolve(model, imresize(image, scale) * 255) / 255
        out = upscale(image, scale, model=model, precision="float32")
        assert np.abs(out - wanted.clip(0, 1)).max() < 1e-6


def test_colours_and_transparency_are_interpolated_at_the_factor_itself():
    rgba = np.random.default_rng(0).integers(0, 256, (9, 10, 4), dtype=np.uint8)
    out = upscale(rgba, 1.5)
    assert out.shape == (14, 15, 4)
    alpha = (255 * imresize(rgba[..., 3] / 255, 1.5).clip(0, 1)).round()
    assert np.array_equal(out[..., 3], alpha)


def rounding(network):
    """Let a copy of a network round as bfloat16's instructions do, where a CPU has none."""
    network = deepcopy(network)
    for convolution in convolutions(network)[:-1]:
        convolution.to(torch.bfloat16).float()
        convolution.register_forward_pre_hook(lambda _, x: (x[0].bfloat16().float(),))
        convolution.register_forward_hook(lambda _, x, y: y.bfloat16().float())
    return nullcontext((network, 1))


@pytest.mark.slow
def test_fast_arithmetic_changes_a_score_by_less_than_a_fiftieth_of_a_decibel(data_dir):
    network = vdsr.load_pretrained()
    has_bf16 = machine.bf16_is_fast(torch.device("cpu"))
    fastest = networks.fastest(network, "auto", 1) if has_bf16 else rounding(network)
    with fastest as (fast, _):
        quick = vdsr.evaluate(fast, "Set5", 3).psnr
    change = quick - vdsr.evaluate(network, "Set5", 3).psnr
    assert 0 < abs(change.mean()) < 0.02
    assert change.abs().max() < 0.04


@pytest.fixture
def threads():
    """Return a function that sets torch's number of threads; afterwards all is as it was."""
    products = torch.backends.mkldnn.conv
    before = torch.get_num_threads(), products.fp32_precision
    yield torch.set_num_threads
    torch.set_num_threads(before[0])
    products.fp32_precision = before[1]


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("ensemble", [False, True])
def test_threads_that_share_a_large_picture_leave_no_trace(number, ensemble, threads, monkeypatch):
    """As many at a time as torch has threads, each with a tile; the caller's state is kept."""
    pytest.importorskip("numba")
    monkeypatch.setattr(networks, "bf16_is_fast", lambda device: False)
    monkeypatch.setattr(networks, "_LARGE", 100 * 90)
    network = VDSR(depth=4)
    init_(network)
    image = picture("uint8", (4,))
    original, seen = networks.apply, []

    def apply(model, luma):
        seen.append((torch.get_num_threads(), threading.get_ident()))
        return original(model, luma)

    monkeypatch.setattr(networks, "apply", apply)
    threads(number)
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    results = []
    for least in (1, 10**9):
        monkeypatch.setattr(networks, "_LARGE", least)
        seen.clear()
        results.append(
            upscale(image, 12 / 5, model=network, ensemble=ensemble, precision="float32", tile=32)
        )
        assert {n for n, _ in seen} == {1 if least == 1 else number}
        own = {t for _, t in seen} == {threading.get_ident()}
        assert own == (number == 1 or least > 1)
        assert torch.get_num_threads() == number
        assert torch.backends.mkldnn.conv.fp32_precision == "bf16"
    assert np.abs(results[0].astype(int) - results[1]).max() <= 1


def test_files_are_shared_by_threads_too(silent, tmp_path, threads, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(networks, "bf16_is_fast", lambda device: False)
    monkeypatch.setattr(networks, "_LARGE", 1)
    network = VDSR(depth=3)
    init_(network)
    seen, original = set(), networks.apply
    monkeypatch.setattr(
        networks, "apply", lambda *a: seen.add(threading.get_ident()) or original(*a)
    )
    threads(2)
    Image.new("L", (300, 20), 9).save(tmp_path / "in.png")
    vdsr.upscale_file(tmp_path / "in.png", tmp_path / "out.png", 2, model=network)
    assert threading.get_ident() not in seen


def test_too_large_a_result_says_how_large(silent, monkeypatch):
    empty = np.empty

    def full(shape, *arguments, **options):
        if shape == (2**15, 2**16, 3):
            raise MemoryError
        return empty(shape, *arguments, **options)

    monkeypatch.setattr(np, "empty", full)
    image = np.broadcast_to(np.zeros(3, np.uint16), (2**12, 2**13, 3))
    with pytest.raises(MemoryError, match="65536×32768 pixels need 12 GiB of memory"):
        upscale(image, 8, model=silent)


def test_as_much_of_a_picture_is_read_as_a_part_needs():
    matrix = axis_weights(9, 18, 2)[6:8]
    assert _span(matrix) == slice(*np.flatnonzero(np.abs(matrix).sum(0))[[0, -1]] + (0, 1))


def test_what_a_thread_meets_is_raised(threads, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(networks, "bf16_is_fast", lambda device: False)
    monkeypatch.setattr(networks, "_LARGE", 1)

    def fail(model, luma):
        raise MemoryError("a tile is too large")

    monkeypatch.setattr(networks, "apply", fail)
    threads(2)
    network = VDSR(depth=3)
    init_(network)
    with pytest.raises(MemoryError, match="a tile is too large"):
        upscale(picture("uint8", (3,)), 2, model=network, tile=8)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("threads", "height", "width", "side"),
    [
        (1, 9000, 9000, 512),
        (2, 1024, 1024, 512),
        (2, 512, 512, 256),
        (2, 513, 100, 512),
        (4, 3000, 4000, 512),
        (5, 3000, 4000, 256),  # all tiles together have no more pixels than four of 512
        (64, 3000, 4000, 128),
        (64, 100, 100, 128),
    ],
)
def test_tiles_are_as_many_as_threads_and_no_larger_together_than_four(
    threads, height, width, side
):
    assert _shared(512, threads, height, width) == side
    assert _shared(7, threads, height, width) == 7


def test_a_network_is_left_as_it_is(model, monkeypatch):
    """Values, layout and mode, and one whose weights cannot be copied works, too."""
    monkeypatch.setattr(networks, "bf16_is_fast", lambda device: False)
    network = VDSR(depth=3)
    init_(network)
    before = [(p.clone(), p.stride()) for p in network.parameters()]
    image = picture("float32", ())
    out = upscale(image, 2, model=network)
    for (value, stride), p in zip(before, network.parameters(), strict=True):
        assert torch.equal(p, value)
        assert p.stride() == stride
    assert not any("forward" in vars(module) for module in network.modules())
    prune.identity(network.layers[2], "weight")
    network(torch.zeros(1, 1, 5, 5)).sum().backward()
    assert np.abs(upscale(image, 2, model=network) - out).max() < 1e-5


def test_an_ensemble_is_the_mean_of_eight_orientations(model):
    """And so it turns and mirrors with the picture, which the network alone does not."""
    image = 0.3 + 0.4 * picture("float32", (3,))  # away from what is clipped
    out = upscale(image, 2, model=model, ensemble=True, precision="float32")
    several = [
        np.rot90(wanted[:, ::-1] if mirrored else wanted, -turns)
        for turns in range(4)
        for mirrored in (False, True)
        for turned in [np.rot90(image, turns)]
        for seen in [turned[:, ::-1] if mirrored else turned]
        for wanted in [upscale(seen, 2, model=model, precision="float32")]
    ]
    assert np.abs(out - np.mean(several, axis=0)).max() < 1e-5
    assert np.abs(out - several[0]).max() > 1e-3
    tiles = upscale(image, 2, model=model, ensemble=True, precision="float32", tile=16)
    assert np.abs(tiles - out).max() < 1e-6
    turned = upscale(np.rot90(image), 2, model=model, ensemble=True, precision="float32")
    assert np.abs(turned - np.rot90(out)).max() < 1e-5


def test_an_ensemble_can_be_scored(model):
    score = vdsr.evaluate(vdsr.Ensemble(model), "samples-test", 2)
    assert not np.allclose(score.psnr, vdsr.evaluate(model, "samples-test", 2).psnr, atol=1e-6)


@pytest.mark.parametrize("ensemble", [1, "yes", None])
def test_an_ensemble_is_asked_for_by_true_or_false(silent, ensemble):
    with pytest.raises(TypeError, match=f"ensemble must be True or False, got {ensemble!r}"):
        upscale(np.zeros((5, 5)), 2, model=silent, ensemble=ensemble)


@pytest.mark.parametrize("precision", ["bf16", None, 32])
def test_bad_precisions_are_named(silent, precision):
    with pytest.raises(
        ValueError, match=f"precision must be 'auto' or 'float32', got {precision!r}"
    ):
        upscale(np.zeros((5, 5)), 2, model=silent, precision=precision)


def test_srcnn_just_made_works_and_stays_as_it_is():
    srcnn = SRCNN()
    srcnn.layers[1].eval()
    modes = [module.training for module in srcnn.modules()]
    state = torch.get_rng_state()
    image = picture("float32", ())
    whole = upscale(image, 2, model=srcnn, tile=1000)
    assert np.abs(upscale(image, 2, model=srcnn, tile=16) - whole).max() < 1e-6
    assert np.abs(upscale(image, 2, model=torch.jit.script(srcnn), tile=16) - whole).max() < 1e-6
    vdsr.evaluate(srcnn, {"a": picture("uint8", (), (48, 48))}, 2)
    assert [module.training for module in srcnn.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="fails on a picture"):
        upscale(image, 2, model=torch.nn.Sequential(srcnn, Fails()))
    assert srcnn.training


class Layer(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Fails(torch.nn.Module):
    def forward(self, x):
        raise RuntimeError("no reason\nat all")


def diverged():
    model = VDSR(depth=2, width=1)
    torch.nn.init.constant_(model.layers[0].weight, torch.nan)
    return model


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        (diverged(), ValueError, r"layers\.0\.weight has NaN or infinite values"),
        (Layer(lambda x: x / 0), ValueError, "the model gives NaN or infinite values"),
        (Layer(lambda x: x[..., 1:]), ValueError, r"must map \(1, 1, H, W\) to the same"),
        (Layer(lambda x: x.expand(-1, 3, -1, -1)), ValueError, r"gave \(1, 3, 8, 10\)"),
        (Layer(lambda x: (x, x)), ValueError, "gave tuple"),
        (Layer(lambda x: (255 * x).to(torch.uint8)), ValueError, r"not torch\.uint8"),
        (Layer(lambda x: x + 0j), ValueError, r"not torch\.complex64"),
        (VDSR(2, 2).state_dict(), TypeError, r"^model must be a torch\.nn\.Module.*, got [^\n]+$"),
        (torch.nn.Conv2d(3, 3, 3), ValueError, r"fails on a picture of shape \(1, 1, 8, 10\)"),
        (torch.nn.Conv2d(1, 1, 1, device="meta"), ValueError, "on the device 'meta'"),
        (Fails(), ValueError, "no reason$"),
        (VDSR, TypeError, "model must be a torch.nn.Module"),
        ("weights.pt", TypeError, "model must be a torch.nn.Module, .* got 'weights.pt'"),
        (lambda x: x, TypeError, "model must be a torch.nn.Module"),
    ],
)
def test_bad_models_are_named(model, kind, message):
    with pytest.raises(kind, match=message):
        upscale(np.zeros((4, 5), np.uint8), 2, model=model)


def test_an_ensemble_is_of_a_network():
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module.* got None"):
        networks.Ensemble(None)


def test_diverged_networks_are_named_where_their_weights_cannot_be_looked_at():
    frozen = torch.jit.freeze(torch.jit.script(diverged().eval()))
    with pytest.raises(ValueError, match="the model gives NaN or infinite values"):
        upscale(np.zeros((9, 9), np.uint8), 4, model=frozen, tile=16)


def test_what_somebody_has_put_into_a_network_is_seen(model):
    """Its convolutions alone do not tell how far it sees."""
    copy = deepcopy(model)
    copy.layers.insert(1, torch.nn.AvgPool2d(9, 1, 4, count_include_pad=False))
    assert networks.halo(model) == 3
    assert networks.halo(copy) == 7


def pooled(x):
    return torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(x, 2), x.shape[-2:])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x - x.mean(), "sees farther than 128 pixels"),
        (lambda x: x + torch.linspace(0, 1, x.shape[-1]), "where the picture is cut"),
        (pooled, "where the picture is cut"),
    ],
)
def test_networks_that_tiles_would_show_are_refused_where_there_are_several(function, message):
    image = np.zeros((9, 9), np.uint8)
    with pytest.raises(ValueError, match=message):
        upscale(image, 4, model=Layer(function), tile=16)
    assert upscale(image, 4, model=Layer(function)).shape == (36, 36)


def test_what_a_network_sees_is_measured_where_it_is_not_known():
    assert networks.halo(torch.jit.script(VDSR(depth=40, width=1))) == 40
    assert networks.halo(torch.nn.Identity()) == 0
    kernel = torch.full((1, 1, 7, 7), 1 / 49)
    assert networks.halo(Layer(lambda x: torch.conv2d(x, kernel, padding=3))) == 3


def test_evaluation_uses_the_models_own_type_and_leaves_its_mode():
    model = VDSR(depth=3, width=4).double()
    plane = np.random.default_rng(0).random((20, 20)) * 255
    wanted = super_resolve(model.float(), plane)
    assert np.abs(super_resolve(model.double(), plane) - wanted).max() < 1e-2
    assert model.training


@st.composite
def pictures(draw):
    dtype = np.dtype(draw(st.sampled_from(["uint8", "uint16", "float32", "float64", ">u2"])))
    channels = draw(st.sampled_from([(), (1,), (2,), (3,), (4,)]))
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pixels = rng.random((*size, *channels))
    if draw(st.booleans()):
        pixels = pixels.round()  # black, white, hidden and opaque
    return (pixels * np.iinfo(dtype).max if dtype.kind == "u" else pixels).astype(dtype)


def check_any_picture(model, image, scale, tile):
    low = image.ndim == 3 and image.shape[0] in (3, 4) and image.shape[0] < image.shape[1]
    if low:
        with pytest.raises(ValueError, match="channels come first"):
            upscale(image, scale, model=model)
        return
    before = image.copy()
    out = upscale(image, scale, model=model, tile=tile)
    sides = tuple(int(np.ceil(n * scale)) for n in image.shape[:2])
    assert (out.dtype, out.shape) == (image.dtype, (*sides, *image.shape[2:]))
    assert np.array_equal(image, before)
    whole = upscale(image, scale, model=model)
    top = np.iinfo(out.dtype).max if out.dtype.kind == "u" else 1
    assert np.abs(out.astype(float) - whole).max() <= max(1e-4 * top, top > 1)
    if out.dtype.kind == "f":
        assert 0 <= out.min() <= out.max() <= 1


SCALES = st.sampled_from([1, 1.1, 2, 2.5, 3, 4, 7.9, 8])


@settings(max_examples=150, deadline=None)
@given(image=pictures(), scale=SCALES, tile=st.integers(12, 80))
def test_any_picture(model, image, scale, tile):
    check_any_picture(model, image, scale, tile)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(image=pictures(), scale=st.floats(1, 8), tile=st.integers(8, 100))
def test_any_picture_of_thousands(model, image, scale, tile):
    check_any_picture(model, image, scale, tile)


WORDS = st.one_of(st.none(), st.booleans(), st.text(max_size=4), st.integers(), st.floats(),
                  st.lists(st.integers(0, 9), max_size=3), st.binary(max_size=3))  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(image=WORDS, scale=WORDS, tile=WORDS)
def test_anything_else_is_refused_by_name(silent, image, scale, tile):
    good = np.zeros((3, 3), np.uint8)
    for arguments in ((image, 2, 9), (good, scale, 9), (good, 2, tile)):
        try:
            upscale(arguments[0], arguments[1], model=silent, tile=arguments[2])
        except (TypeError, ValueError, OSError) as error:
            assert len(str(error).splitlines()) == 1


def test_progress_is_counted_in_tiles_if_it_is_asked_for(silent, tmp_path, capsys):
    image = picture("uint8", ())
    upscale(image, 2, model=silent, tile=32)
    Image.fromarray(image).save(tmp_path / "in.png")
    vdsr.upscale_file(tmp_path / "in.png", tmp_path / "out.png", 2, model=silent)
    assert capsys.readouterr().err == ""
    upscale(image, 2, model=silent, tile=32, progress=True)
    said = capsys.readouterr().err
    assert said.startswith("\rUpscaling ×2:")
    assert "4/4" in said
    assert "tile/s" in said or "s/tile" in said
    vdsr.upscale_file(tmp_path / "in.png", tmp_path / "out.png", 2, model=silent, progress=True)
    assert "1/1" in capsys.readouterr().err


def test_files_are_computed_in_tiles(silent, tmp_path, monkeypatch):
    seen, forward = [], VDSR.forward
    monkeypatch.setattr(VDSR, "forward", lambda m, x: seen.append(x.shape[2:]) or forward(m, x))
    Image.new("L", (300, 20), 9).save(tmp_path / "in.png")
    out = vdsr.upscale_file(tmp_path / "in.png", tmp_path / "out.png", 2, model=silent)
    assert out.shape == (40, 600)
    assert seen == [(40, 512 + 2), (40, 600 - 512 + 2)]  # each sees two pixels of the other
    assert (out == 9).all()


def test_network_of_the_package_is_loaded_once(monkeypatch):
    image = picture("uint8", ())
    wanted = upscale(image, 2, model=vdsr.load_pretrained())
    assert np.array_equal(upscale(image, 2), wanted)
    assert np.abs(upscale(image, 2).astype(int) - imresize(image, 2).round().clip(0, 255)).max() > 3
    monkeypatch.setattr(sys.modules["vdsr.upscale"], "load_checkpoint", None)
    assert np.array_equal(upscale(image, 2), wanted)
