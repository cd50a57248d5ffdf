import numpy as np
import pytest
import torch

from vdsr import VDSR, data, evaluate, load_images, load_matconvnet
from vdsr.evaluate import border_profile, prepare, similarity
from vdsr.patches import degrade

# Mean PSNR at ×2, ×3, ×4, measured with this protocol and within 0.01 dB of Kim et al., Table 3.
BICUBIC = {
    "Set5": (33.661, 30.392, 28.421),
    "Set14": (30.232, 27.541, 26.000),
    "B100": (29.558, 27.207, 25.961),
    "Urban100": (26.875, 24.458, 23.141),
}
AUTHORS = {"Set5": (37.527, 33.658, 31.343), "Set14": (33.064, 29.804, 28.016)}
SCALES = (2, 3, 4)


@pytest.mark.parametrize("dataset", BICUBIC)
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


@pytest.mark.parametrize("dataset", AUTHORS)
@pytest.mark.parametrize("scale", SCALES)
def test_authors_cells(data_dir, request, dataset, scale):
    model = request.getfixturevalue("authors")  # only after data_dir had its chance to skip
    scores = evaluate(model, dataset, scale)
    assert scores.psnr.mean() == pytest.approx(AUTHORS[dataset][scale - 2], abs=0.005)
    if dataset == "Set5":
        assert scores.ssim.mean() == pytest.approx((0.9587, 0.9213, 0.8838)[scale - 2], abs=0.0005)


def test_authors_network_on_b100(data_dir, request):
    scores = evaluate(request.getfixturevalue("authors"), "B100", 3)
    assert scores.psnr.mean() == pytest.approx(28.822, abs=0.005)
    assert scores.ssim.mean() == pytest.approx(0.7976, abs=0.0005)


def test_columns_and_rows():
    scores = evaluate(None, "samples-test", 2)
    assert [*scores] == ["dataset", "image", "scale", "psnr", "ssim", "seconds"]
    assert [*scores.image] == ["astronaut", "chelsea"]
    own = evaluate(None, load_images("samples-test"), 2)
    assert [*own.psnr] == [*scores.psnr]


def test_similarity_by_the_formulas():
    rng = np.random.default_rng(0)
    hr = rng.uniform(0, 255, (30, 25))
    sr = hr + rng.normal(0, 5, hr.shape)
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


def test_gpus_keep_cudnn_and_leave_tf32():
    seen = []

    class Look(VDSR):
        def forward(self, x):
            seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
            return super().forward(x)

    evaluate(Look(2, 1), "samples-test", 2)
    assert set(seen) == {(True, False)}


def test_input_is_not_rounded():
    image = {"grey": np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)}
    hr, ilr = degrade(image["grey"].astype(float), 2)
    assert np.abs(ilr - ilr.round()).max() > 0.1
    assert hr.shape == (40, 40)


def test_border_profile_knows_padding_from_surroundings():
    """A network that blurs by 3×3 is wrong at the cut's outermost pixel, and nowhere else."""
    model = VDSR(depth=2, width=1, residual=False)
    with torch.no_grad():
        for i, kernel in enumerate((torch.zeros(3, 3), torch.full((3, 3), 1 / 9))):
            kernel[1, 1] += 1 - kernel.sum()
            model.layers[2 * i].weight.copy_(kernel[None, None])
            model.layers[2 * i].bias.zero_()
    images = {"a": load_images("samples-test")["astronaut"][:96, :120]}
    profile = border_profile(model, images, 2, width=5)
    table = profile.pivot(index="distance", columns="method", values="psnr")
    assert [*table.index] == [0, 1, 2, 3, 4]
    assert table["zero padding"][0] < table["true surroundings"][0] - 1
    same = table.loc[1:]
    assert [*same["zero padding"]] == pytest.approx([*same["true surroundings"]])
    _, hr, ilr = next(prepare(images, 2))
    ring = np.ones((48, 60), bool)
    ring[1:-1, 1:-1] = False
    error = (ilr.round().clip(0, 255) - hr)[24:72, 30:90][ring]
    assert table["bicubic"][0] == pytest.approx(10 * np.log10(255**2 / (error**2).mean()))
