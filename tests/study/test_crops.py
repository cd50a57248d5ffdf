import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from skimage.color import rgb2ycbcr

import vdsr
from vdsr import load_images
from vdsr.imresize import imresize
from vdsr.study import crops


@pytest.fixture(scope="module")
def image():
    return load_images("samples-test")["astronaut"][:120, :150]


@pytest.fixture(scope="module")
def brighter():
    """A network that adds a tenth of white to the luminance."""
    model = vdsr.VDSR(depth=2, width=1)
    torch.nn.init.zeros_(model.layers[-1].weight)
    torch.nn.init.constant_(model.layers[-1].bias, 0.1)
    return model.eval()


def test_compare_restores_colour_and_scores_the_whole(image, brighter):
    box = (30, 24, 40, 32)
    rows = crops.compare(image, 2, {"bicubic": None, "brighter": brighter}, box)
    assert [*rows.method] == ["ground truth", "bicubic", "brighter"]
    assert np.array_equal(rows.crop[0], image[24:56, 30:70])
    wanted = imresize(imresize(image / 255, 0.5), 2)[24:56, 30:70].clip(0, 1) * 255
    assert np.abs(rows.crop[1] - wanted).max() <= 0.5 + 1e-6
    change = rgb2ycbcr(rows.crop[2])[..., 0] - rgb2ycbcr(rows.crop[1])[..., 0]
    assert np.median(change) == pytest.approx(25.5, abs=0.5)
    assert rows.psnr[1] == pytest.approx(vdsr.evaluate(None, {"a": image}, 2).psnr[0])


def test_grey_pictures(image, brighter):
    rows = crops.compare(image[..., 0], 2, {"x": brighter, "bicubic": None}, (8, 8, 9, 9))
    assert (rows.crop[1].astype(int) - rows.crop[2])[..., 0].max() == pytest.approx(26, abs=1)


def test_errors_are_dark_where_a_method_is_right(image, brighter):
    box = (30, 24, 40, 32)
    rows = crops.errors(image, 2, {"bicubic": None, "brighter": brighter}, box)
    assert [*rows.method] == ["bicubic", "brighter"]
    assert rows.psnr[0] == pytest.approx(vdsr.evaluate(None, {"a": image}, 2).psnr[0])
    assert rows.crop[0].shape == (32, 40, 3)
    assert rows.crop[1].mean() > rows.crop[0].mean() + 50
    black, half, most, more = crops.error_colours(np.array([[0, -16, 32, 99]]))[0].sum(axis=1)
    assert black < 10 < half < most == more


def test_scales_have_a_row_each(image, brighter):
    rows = crops.scales(image, (1.5, 3), brighter, (8, 8, 9, 9))
    assert [*rows.method] == ["×1.5", "×3"]


def test_failure_is_the_least_gain():
    kinds = {"bicubic": (30, 30), "ours": (31, 29.5), "ours, eight orientations": (29, 29)}
    rows = [
        ("bicubic" if name == "bicubic" else "1f", name, image, psnr)
        for name, pair in kinds.items()
        for image, psnr in zip("ab", pair, strict=True)
    ]
    rows.append(("2e", "ours", "a", 20))  # by an older run
    scores = pd.DataFrame(rows, columns=["run", "method", "image", "psnr"])
    worst = crops.failure(scores.assign(dataset="X", scale=2), "1f", "ours")
    assert (worst.image, worst.gain) == ("b", -0.5)


def test_worst_crop_is_where_the_network_errs_most(image, monkeypatch):
    def worse(model, ilr):
        out = ilr.copy()
        out[40:60, 70:90] += 80
        return out

    monkeypatch.setattr(crops, "super_resolve", worse)
    assert crops.worst_crop(image, 2, None, side=20) == (70, 40, 20, 20)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float64"])
@pytest.mark.parametrize("channels", [np.s_[...], np.s_[..., 0], np.s_[..., :2]])
def test_enlargements_of_any_picture(image, brighter, kind, channels):
    top = np.iinfo(kind).max if kind != "float64" else 1
    pixels = (image[channels] / 255 * top).astype(kind)
    larger = vdsr.upscale(pixels, 2.5, model=brighter)
    rows = crops.enlargements(pixels, larger, 2.5, side=16)
    assert [*rows.method] == ["bicubic", "VDSR"]
    assert all(crop.shape == (40, 40, 3) and crop.dtype == np.uint8 for crop in rows.crop)
    seen = pixels / top
    if seen.shape[-1] == 2:
        seen = seen[..., :1] * seen[..., 1:] + 1 - seen[..., 1:]
    wanted = imresize(seen, 2.5).clip(0, 1).reshape(300, 375, -1)[130:170, 167:207] * 255
    assert np.abs(rows.crop[0] - wanted).max() <= 0.5 + 1e-6
    assert (rows.crop[1].astype(int) - rows.crop[0] >= -1).all()


def test_enlargements_do_not_show_hidden_colours():
    image = np.zeros((9, 9, 4), np.uint8)
    image[3:6, 3:6] = 255
    rows = crops.enlargements(image, image, 1)
    assert all((crop == 255).all() for crop in rows.crop)


@pytest.mark.slow
def test_every_picture_of_the_book_is_one(data_dir):
    places = {**crops.FIGURES, **crops.SAMPLE, "slider": crops.SLIDER}
    for dataset, name, scale, (left, top, width, height) in places.values():
        pixels = load_images(dataset)[name]
        rows, columns = (n // scale * scale for n in pixels.shape[:2])
        assert 0 < left < left + width <= columns
        assert 0 < top < top + height <= rows


def test_slider_has_two_pictures_of_one_size(image, brighter, tmp_path, monkeypatch):
    monkeypatch.setattr(crops, "load_images", lambda name: {"butterfly": image})
    monkeypatch.setattr(crops, "SLIDER", ("Set5", "butterfly", 3, (6, 9, 20, 15)))
    crops.write_slider(tmp_path / "new" / "figures", brighter)
    files = sorted((tmp_path / "new" / "figures").iterdir())
    assert [path.name for path in files] == ["bicubic.png", "vdsr.png"]
    pictures = [np.asarray(Image.open(path)).astype(int) for path in files]
    wanted = crops.compare(image, 3, {"bicubic": None, "vdsr": brighter}, (6, 9, 20, 15))
    for picture, crop in zip(pictures, wanted.crop[1:], strict=True):
        assert picture.shape == (60, 80, 3)
        assert np.array_equal(picture[::4, ::4], crop)  # each pixel is a square of four
        assert np.array_equal(picture[3::4, 3::4], crop)
    assert (pictures[1] - pictures[0]).mean() > 10
