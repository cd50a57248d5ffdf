import re
import sys
import warnings
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
import torch
from skimage.io import imsave

from vdsr import SRCNN, VDSR, data, evaluate, load_images, load_matconvnet
from vdsr.data import luma
from vdsr.evaluate import similarity
from vdsr.patches import degrade

MODULE = sys.modules["vdsr.evaluate"]  # whose name in the package is the function's

# Mean PSNR at ×2, ×3, ×4, measured with this protocol and within 0.01 dB of Kim et al., Table 3.
BICUBIC = {
    "Set5": (33.661, 30.392, 28.421),
    "Set14": (30.232, 27.541, 26.000),
    "B100": (29.558, 27.207, 25.961),
    "Urban100": (26.875, 24.458, 23.141),
}
AUTHORS = {"Set5": (37.527, 33.658, 31.343), "Set14": (33.064, 29.804, 28.016)}
SCALES = (2, 3, 4)


def small_first(datasets):
    """Return image sets as parameters, of which all but Set5 take more than seconds."""
    slow = pytest.mark.slow
    return [pytest.param(name, marks=[] if name == "Set5" else slow) for name in datasets]


@pytest.mark.parametrize("dataset", small_first(BICUBIC))
@pytest.mark.parametrize("scale", SCALES)
def test_bicubic_cells(data_dir, dataset, scale):
    scores = evaluate(None, dataset, scale)
    assert scores.psnr.mean() == pytest.approx(BICUBIC[dataset][scale - 2], abs=0.002)
    if dataset in ("Set5", "B100"):
        paper = {"Set5": (0.9299, 0.8682, 0.8104), "B100": (0.8431, 0.7385, 0.6675)}
        assert scores.ssim.mean() == pytest.approx(paper[dataset][scale - 2], abs=0.0005)


@pytest.fixture(scope="module")
def authors():
    return load_matconvnet(data.fetch(["weights/VDSR_Official.mat"])[0])


# The other cells of Table 3 take minutes each; they are recorded, and held to what is printed.
@pytest.mark.parametrize(
    ("dataset", "scale"),
    [
        ("Set5", 3),
        *(pytest.param(*cell, marks=pytest.mark.slow) for cell in [("Set5", 2), ("Set5", 4)]),
        pytest.param("Set14", 3, marks=pytest.mark.slow),
    ],
)
def test_authors_cells(data_dir, request, dataset, scale):
    model = request.getfixturevalue("authors")  # only after data_dir had its chance to skip
    scores = evaluate(model, dataset, scale)
    assert scores.psnr.mean() == pytest.approx(AUTHORS[dataset][scale - 2], abs=0.005)
    if dataset == "Set5":
        assert scores.ssim.mean() == pytest.approx((0.9587, 0.9213, 0.8838)[scale - 2], abs=0.0005)


def test_columns_and_rows():
    scores = evaluate(None, "samples-test", 2)
    assert [*scores] == ["dataset", "image", "scale", "psnr", "ssim", "seconds"]
    assert [*scores.image] == ["astronaut", "chelsea"]
    own = evaluate(None, load_images("samples-test"), 2)
    assert [*own.psnr] == [*scores.psnr]


def test_similarity_by_the_formulas():
    rng = np.random.default_rng(0)
    hr = rng.uniform(20, 32, (30, 25))  # dark and flat, where the formulas' constants count
    sr = hr + rng.normal(3, 5, hr.shape)
    psnr, ssim = similarity(hr, sr)
    assert psnr == pytest.approx(10 * np.log10(255**2 / np.mean((hr - sr) ** 2)))
    # Wang et al. 2004: an 11×11 Gaussian window of σ = 1.5, where it fits into the image.
    g = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(g, g) / g.sum() ** 2

    def blur(x):
        views = np.lib.stride_tricks.sliding_window_view(x, (11, 11))
        return (views * window).sum((2, 3))

    m, n = blur(hr), blur(sr)
    v, w, c = blur(hr * hr) - m * m, blur(sr * sr) - n * n, blur(hr * sr) - m * n
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * m * n + c1) * (2 * c + c2) / ((m * m + n * n + c1) * (v + w + c2))
    assert ssim == pytest.approx(expected.mean())


def test_border_is_shaved_and_output_is_8_bit():
    image = load_images("samples-test")["chelsea"]

    class Spoil(torch.nn.Module):
        """Ruins two border pixels, adds less than half a grey level elsewhere."""

        def __init__(self):
            super().__init__()
            self.zero = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x):
            x = (x * 255).round() / 255 + 0.4 / 255
            x[..., :2, :] = x[..., -2:, :] = x[..., :, :2] = x[..., :, -2:] = 9
            return x

    spoilt = evaluate(Spoil(), {"chelsea": image}, 2).psnr[0]
    assert spoilt == pytest.approx(evaluate(None, {"chelsea": image}, 2).psnr[0], abs=1e-9)


def test_untrained_network_and_fractional_scale():
    model = VDSR(3, 4)
    torch.nn.init.zeros_(model.layers[-1].weight)
    torch.nn.init.zeros_(model.layers[-1].bias)
    image = {"chelsea": load_images("samples-test")["chelsea"]}
    assert evaluate(model, image, 2.5).psnr[0] == pytest.approx(
        evaluate(None, image, 2.5).psnr[0], abs=1e-4
    )


def precisions():
    """Return how torch may round the factors of float32 products, of convolutions and others."""
    backends = torch.backends
    products = (
        backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.conv, backends.mkldnn.matmul
    )  # fmt: skip
    return [product.fp32_precision for product in products]


CHOICES = {
    "nothing": lambda b: None,
    "all tf32": lambda b: setattr(b, "fp32_precision", "tf32"),
    "all bf16": lambda b: setattr(b, "fp32_precision", "bf16"),
    "all ieee": lambda b: setattr(b, "fp32_precision", "ieee"),
    "convolutions ieee": lambda b: setattr(b.cudnn.conv, "fp32_precision", "ieee"),
    "convolutions bf16 on CPUs": lambda b: setattr(b.mkldnn.conv, "fp32_precision", "bf16"),
    "older, convolutions": lambda b: setattr(b.cudnn, "allow_tf32", False),
    "older, products": lambda b: torch.set_float32_matmul_precision("high"),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_float32_is_not_rounded_whatever_the_caller_chose(choice):
    seen = []

    class Look(VDSR):
        def forward(self, x):
            seen.append((*precisions(), torch.backends.cudnn.benchmark))
            return super().forward(x)

    model = Look(3, 8)
    image = {"chelsea": load_images("samples-test")["chelsea"][:60, :60]}
    expected = evaluate(model, image, 2).psnr[0]
    backends = torch.backends
    backends.cudnn.benchmark = True
    try:
        with warnings.catch_warnings():  # torch 2.9 to 2.11 warned of its older interface
            warnings.simplefilter("ignore")
            CHOICES[choice](backends)
        before = precisions()
        assert evaluate(model, image, 2).psnr[0] == expected
        assert precisions() == before
        assert {*seen[-1][:-1]} <= {"ieee", "none"}
        assert seen[-1][-1]  # the caller's
    finally:
        backends.fp32_precision = "none"
        for product in (backends.mkldnn.conv, backends.mkldnn.matmul, backends.cuda.matmul):
            product.fp32_precision = "none"
        backends.cudnn.conv.fp32_precision = "tf32"  # as torch starts
        backends.cudnn.rnn.fp32_precision = "tf32"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            backends.cudnn.allow_tf32 = True
            torch.set_float32_matmul_precision("highest")
        backends.cudnn.benchmark = False


def test_input_is_not_rounded():
    image = {"grey": np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)}
    hr, ilr = degrade(image["grey"].astype(float), 2)
    assert np.abs(ilr - ilr.round()).max() > 0.1
    assert hr.shape == (40, 40)


class Returns(torch.nn.Module):
    """A network that does what it is told, and keeps what it saw."""

    def __init__(self, function):
        super().__init__()
        self.function, self.inputs = function, []

    def forward(self, x):
        self.inputs.append(x)
        return self.function(x)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


@pytest.mark.parametrize("scale", [1, 1.1, 2, 2.5, 3, 4])
def test_as_many_pixels_are_cut_off_as_the_scale_says(scale):
    """What the outermost pixels are does not count, and the next ring does."""
    border = ceil(scale)
    images = {"a": noise(60, 66)}

    def spoil(rings):
        def function(x):
            x = x.clone()
            x[..., :rings, :] = x[..., -rings:, :] = x[..., :, :rings] = x[..., :, -rings:] = 9
            return x

        return evaluate(Returns(function), images, scale).psnr[0]

    same = evaluate(Returns(lambda x: x), images, scale).psnr[0]
    assert spoil(border) == same
    assert spoil(border + 1) < min(same, 30)


def test_output_is_rounded_and_clipped_to_8_bits():
    images = {"black": np.zeros((20, 20), np.uint8), "white": np.full((20, 20), 255, np.uint8)}
    for offset, psnr in ((0.49 / 255, np.inf), (0.51 / 255, 20 * np.log10(255))):
        scores = evaluate(Returns(lambda x, o=offset: x + o), {"a": images["black"]}, 2)
        assert scores.psnr[0] == pytest.approx(psnr)
        scores = evaluate(Returns(lambda x, o=offset: x + o), {"a": images["white"]}, 2)
        assert scores.psnr[0] == np.inf  # nothing is whiter
        scores = evaluate(Returns(lambda x, o=offset: x - o), {"a": images["black"]}, 2)
        assert scores.psnr[0] == np.inf


def test_what_the_network_sees():
    """Luminance from 0 to 1 in float32, without gradients."""
    rgb = np.random.default_rng(0).integers(0, 256, (20, 25, 3), np.uint8)
    network = Returns(lambda x: x if torch.is_inference_mode_enabled() else None)
    scores = evaluate(network, {"a": rgb}, 2.5)
    [x] = network.inputs
    assert (x.shape, x.dtype) == ((1, 1, 20, 25), torch.float32)
    _, ilr = degrade(luma(rgb), 2.5)
    np.testing.assert_allclose(x[0, 0] * 255, ilr, atol=1e-4)
    grey = evaluate(network, {"a": luma(rgb).astype(np.uint8)}, 2.5)
    assert scores.psnr[0] == grey.psnr[0]


def test_seconds_are_the_models(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(MODULE, "perf_counter", lambda: next(ticks) ** 2)
    scores = evaluate(None, [noise(20, 20), noise(20, 20)], 2)
    assert [*scores.seconds] == [1, 5]  # 1² - 0² and 3² - 2²


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_networks_of_every_precision(kind):
    model = VDSR(3, 4)
    images = {"a": noise(30, 30)}
    expected = evaluate(model, images, 2).psnr[0]
    assert evaluate(model.to(kind), images, 2).psnr[0] == pytest.approx(expected, abs=0.1)


def test_a_network_of_buffers_alone_is_computed_in_their_type():
    network = Returns(lambda x: x * network.one)
    network.register_buffer("one", torch.ones(1, dtype=torch.float64))
    evaluate(network, [noise(20, 20)], 2)
    assert network.inputs[0].dtype == torch.float64


def test_a_perfect_image_has_no_error():
    scores = evaluate(None, {"a": np.full((20, 20), 99, np.uint8)}, 2)
    assert [scores.psnr[0], scores.ssim[0]] == [np.inf, 1]
    assert evaluate(None, [noise(20, 20)], 1).psnr[0] == np.inf


@pytest.mark.parametrize("scale", [2, 2.0, np.int64(2), np.float32(2), Fraction(2), np.array(2)])
def test_scales_of_every_type(scale):
    scores = evaluate(None, [noise(40, 40)], scale)
    assert scores.scale.dtype == np.int64
    assert scores.drop(columns="seconds").equals(
        evaluate(None, [noise(40, 40)], 2).drop(columns="seconds")
    )


def test_scale_is_shown_as_it_was_used():
    images = [noise(80, 80)]
    assert evaluate(None, images, np.float32(2.4)).scale[0] == 2.4
    assert evaluate(None, images, 10 / 3).scale[0] == 10 / 3
    assert evaluate(None, images, 0.1 * 30).scale[0] == 3  # 3.0000000000000004


def test_images_by_name_in_a_list_and_in_a_folder(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (30, 34, 3), np.uint8)
    imsave(tmp_path / "a.png", rgb, check_contrast=False)
    by_name = evaluate(None, {"a": rgb, "b": rgb}, 3)
    assert [*by_name.image] == ["a", "b"]
    in_a_list = evaluate(None, [rgb, rgb], 3)
    assert [*in_a_list.image] == ["0", "1"]
    assert {*by_name.dataset, *in_a_list.dataset} == {"images"}
    for folder in (tmp_path, str(tmp_path)):
        own = evaluate(None, folder, 3)
        assert (own.dataset[0], own.image[0]) == (str(tmp_path), "a")
        assert own.psnr[0] == by_name.psnr[0] == in_a_list.psnr[1]


@pytest.mark.parametrize(
    ("scale", "least"), [(1, 13), (2, 16), (2.5, 20), (3, 18), (4, 20), (1.1, 22), (2.71, 271)]
)
def test_the_smallest_image(scale, least):
    """Cut to fit and shaved, it has the 11 pixels of SSIM's window."""
    assert np.isfinite(evaluate(None, [noise(least, least + 3)], scale).ssim[0])
    network = Returns(lambda x: x)
    for shape in ((least - 1, 300), (300, least - 1)):
        message = f"image 'b' must have at least {least} pixels a side .* {scale}, got {shape[0]}×"
        with pytest.raises(ValueError, match=message):
            evaluate(network, {"a": noise(300, 300), "b": noise(*shape)}, scale)
    assert not network.inputs  # nothing was done in vain


def test_model_is_as_it_was():
    """Scores are those of evaluation mode, and each module is back in its own then."""
    model = torch.nn.Sequential(VDSR(2, 2), torch.nn.BatchNorm2d(1), torch.nn.Dropout(0.5))
    model[1].eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    scores = [evaluate(model, [noise(30, 30)], 2).psnr[0] for _ in range(2)]
    assert scores[0] == scores[1] == evaluate(model.eval(), [noise(30, 30)], 2).psnr[0]
    model.train()
    model[1].eval()
    with pytest.raises(ValueError, match=r"^the model fails on a picture of .* 30, 30\): stop$"):
        evaluate(torch.nn.Sequential(model, Returns(stop)), [noise(30, 30)], 2)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def stop(x):
    raise RuntimeError("stop")


def test_networks_that_are_not_plain():
    images = [noise(30, 30)]
    assert evaluate(SRCNN(), images, 2).psnr[0] > 0  # which pads in evaluation mode alone
    assert evaluate(torch.nn.Identity(), images, 2).psnr[0] == pytest.approx(
        evaluate(None, images, 2).psnr[0], abs=1e-3
    )
    model = VDSR(3, 4)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit")
        traced = torch.jit.trace(model, torch.zeros(1, 1, 9, 9))
    assert evaluate(traced, images, 2).psnr[0] == evaluate(model, images, 2).psnr[0]


@pytest.mark.parametrize("got", ["network", VDSR, 3, np.zeros(3), lambda x: x])
def test_what_is_no_model(got):
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, .*None for bicubic"):
        evaluate(got, "samples-test", 2)


def test_models_that_do_not_fit():
    images = {"a": noise(30, 32)}
    for function in (lambda x: x[..., 1:], lambda x: x[:, 0], lambda x: (x, x), lambda x: None):
        message = r"model must map \(1, 1, H, W\) to the same shape, but \(1, 1, 30, 32\) gave "
        with pytest.raises(ValueError, match=message):
            evaluate(Returns(function), images, 2)
    for network in (torch.nn.Conv2d(3, 3, 3), torch.nn.Conv2d(1, 1, 1, device="meta")):
        with pytest.raises(ValueError, match=r"^the model fails on a picture of shape \(1, 1, 30"):
            evaluate(network, images, 2)
    with pytest.raises(ValueError, match=r"model must give floating-point numbers, .* not torch"):
        evaluate(Returns(lambda x: (255 * x).to(torch.uint8)), images, 2)
    with pytest.raises(ValueError, match=r"model must return numbers, .* none for image 'a'"):
        evaluate(Returns(lambda x: x / 0), images, 2)
    corner = torch.zeros(30, 32)
    for value in (np.nan, np.inf):  # even where nothing is scored
        corner[0, 0] = value
        with pytest.raises(ValueError, match=r"model must return numbers, .* none for image 'a'"):
            evaluate(Returns(lambda x: x + corner), images, 2)
    model = VDSR(2, 2)
    torch.nn.init.constant_(model.layers[0].weight, np.nan)
    with pytest.raises(ValueError, match=r"model must return numbers, .* none for image 'a'"):
        evaluate(model, images, 2)


IMAGE = noise(30, 30)


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        (None, TypeError, "dataset must be an image set's name, .*, got None"),
        (3, TypeError, "dataset must be .*, got 3"),
        (
            IMAGE,
            TypeError,
            r"dataset must be .* list of arrays .*got ndarray of uint8 .*\(30, 30\)",
        ),
        (iter([IMAGE]), TypeError, "dataset must be .*, got <list_"),
        ([], ValueError, r"dataset must hold an image, got \[\]"),
        ({}, ValueError, "dataset must hold an image, got {}"),
        ("Set6", ValueError, "dataset must be .*unknown image set 'Set6'; known are .*Set5"),
        (["a.png"], TypeError, r"image '0' must be .*, got 'a\.png'; .*skimage\.io\.imread"),
        ([torch.zeros(9, 9)], TypeError, r"image '0' must be .*, got Tensor .*; np\.asarray"),
        ({"a": IMAGE / 255}, ValueError, r"image 'a' must be .* of float64 .*\(255 \* image\)"),
        ({"a": IMAGE > 9}, ValueError, r"image 'a' must be .* of bool .*255 \* image.astype"),
        ({"a": IMAGE.astype(np.uint16)}, ValueError, r"image 'a' .* of uint16 .*image / 257"),
        ({"a": IMAGE.astype(int)}, ValueError, r"image 'a' .* of int64 .*image\.astype"),
        ({"a": noise(30, 120).reshape(30, 30, 4)}, ValueError, r"image 'a' .*image\[\.\.\., :3\]"),
        ({"a": IMAGE[..., None]}, ValueError, r"image 'a' .*image\[\.\.\., 0\]"),
        ({"a": IMAGE[None].repeat(3, 0)}, ValueError, r"image 'a' .*transpose\(1, 2, 0\)"),
        ({"a": IMAGE[None, None]}, ValueError, "image 'a' .*each image as an array of its own"),
        ({"a": IMAGE[:, :0]}, ValueError, "image 'a' must have at least 16 pixels .* got 30×0"),
    ],
)
def test_what_is_no_image_set(dataset, error, message):
    with pytest.raises(error, match=message):
        evaluate(None, dataset, 2)


@pytest.mark.parametrize(
    ("scale", "error"),
    [(None, TypeError), ("2", TypeError), (True, TypeError), ([2], TypeError), (2j, TypeError),
     (0, ValueError), (-2, ValueError), (0.5, ValueError), (float("nan"), ValueError),
     (float("inf"), ValueError), (Fraction(1, 2), ValueError)],
)  # fmt: skip
def test_what_is_no_scale(scale, error, monkeypatch):
    monkeypatch.setattr(MODULE, "load_images", None)  # refused before anything is loaded
    message = (
        f"scale must be a number of at least 1, such as 2 or 2.5, got {re.escape(repr(scale))}"
    )
    with pytest.raises(error, match=message):
        evaluate(None, "Set5", scale)
