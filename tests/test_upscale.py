import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms
from skimage.color import rgb2ycbcr, ycbcr2rgb

from vdsr import VDSR, imresize, upscale
from vdsr.__main__ import main
from vdsr.model import init_
from vdsr.upscale import read, upscale_file

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model():
    model = VDSR(depth=3, width=4)
    init_(model, last_scale=0.1, generator=torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="module")
def silent():
    """A network that adds nothing, so that what is left is interpolation."""
    model = VDSR(depth=2, width=1)
    torch.nn.init.zeros_(model.layers[-1].weight)
    torch.nn.init.zeros_(model.layers[-1].bias)
    return model


def picture(dtype, channels, size=(23, 31)):
    pixels = RNG.random((*size, *channels))
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
    wanted = imresize(image, scale).clip(0, top)
    assert np.abs(out - wanted).max() <= (0.5 + 1e-3 * top / 255 if top > 1 else 1e-6)


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
    image = picture("float64", (4,))
    out = upscale(image, 2, model=model)
    ycc = rgb2ycbcr(imresize(image[..., :3], 2))
    with torch.no_grad():
        luma = model(torch.tensor(ycc[None, None, ..., 0] / 255).float())[0, 0].numpy() * 255
    ycc[..., 0] = luma
    np.testing.assert_allclose(out[..., :3], ycbcr2rgb(ycc).clip(0, 1), atol=2e-5)
    np.testing.assert_allclose(out[..., 3], imresize(image[..., 3], 2).clip(0, 1), atol=1e-6)
    grey = upscale(image[..., 0], 2, model=model)
    with torch.no_grad():
        wanted = model(torch.tensor(imresize(image[..., 0], 2))[None, None].float())[0, 0].numpy()
    np.testing.assert_allclose(grey, wanted.clip(0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("image", "scale", "message"),
    [
        (np.zeros((4, 4), bool), 2, "pixels must be uint8, uint16 or float"),
        (np.zeros((4, 4, 5), np.uint8), 2, r"got \(4, 4, 5\)"),
        (np.zeros((0, 4), np.uint8), 2, r"got \(0, 4\)"),
        (np.full((4, 4), 255.0), 2, "divide them by their white"),
        (np.full((4, 4), np.nan), 2, r"must be in \[0, 1\]"),
        (np.zeros((4, 4), np.uint8), 0.5, "scale must be from 1 to 8, got 0.5"),
        (np.zeros((4, 4), np.uint8), 9, "scale must be from 1 to 8, got 9"),
        (np.zeros((4, 4), np.uint8), float("nan"), "scale must be"),
    ],
)
def test_bad_input_is_named(silent, image, scale, message):
    with pytest.raises((TypeError, ValueError), match=message):
        upscale(image, scale, model=silent)


def test_file_keeps_profile_and_exif_and_stands_upright(silent, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by a quarter
    exif[ExifTags.Base.Artist] = "Keys"
    pixels = picture("uint8", (3,))
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(pixels).save(source, icc_profile=profile, exif=exif)
    upscale_file(source, target, 2, model=silent)
    with Image.open(target) as out:
        assert out.size == (2 * 23, 2 * 31)
        assert out.info["icc_profile"] == profile
        assert out.getexif().get(ExifTags.Base.Artist) == "Keys"
        assert out.getexif().get(ExifTags.Base.Orientation, 1) == 1
        wanted = upscale(np.rot90(pixels, -1), 2, model=silent)
        assert np.array_equal(np.asarray(out), wanted)
    assert np.array_equal(upscale(source, 2, model=silent), wanted)
    assert [*tmp_path.glob(".*")] == []


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_modes_of_files(silent, tmp_path, mode):
    if mode == "I;16":
        small = Image.fromarray(picture("uint16", ()))
    else:
        small = Image.fromarray(picture("uint8", (3,))).convert(mode)
    small.save(tmp_path / "in.png")
    upscale_file(tmp_path / "in.png", tmp_path / "out.png", 2, model=silent)
    with Image.open(tmp_path / "out.png") as out:
        assert out.size == (62, 46)
        assert out.mode == {"1": "L", "P": "RGB"}.get(mode, mode)


def test_big_endian_files(silent, tmp_path):
    pixels = picture("uint16", ())
    Image.fromarray(pixels.astype(">u2")).save(tmp_path / "in.tif")
    with Image.open(tmp_path / "in.tif") as small:
        assert small.mode == "I;16B"
    assert np.array_equal(read(tmp_path / "in.tif"), pixels)
    assert upscale(tmp_path / "in.tif", 2, model=silent).dtype == np.uint16


def test_one_clear_colour_becomes_alpha(silent, tmp_path):
    pixels = picture("uint8", ())
    pixels[:10, :10] = 7
    Image.fromarray(pixels).save(tmp_path / "in.png", transparency=7)
    upscale_file(tmp_path / "in.png", tmp_path / "out.png", 2, model=silent)
    with Image.open(tmp_path / "out.png") as out:
        assert out.mode == "LA"
        assert np.asarray(out)[:10, :10, 1].max() == 0


@pytest.mark.parametrize(
    ("dtype", "shape", "name", "why"),
    [
        ("uint16", (4, 4), "out.webp", "not 8×8 pixels of 16 bits"),
        ("uint8", (2, 9000), "out.webp", ""),
        ("uint8", (4, 4, 4), "out.bmp", "no transparency"),
        ("uint8", (20, 30), "out.ico", "60×40 pixels"),
    ],
)
def test_formats_that_cannot_hold_the_result_are_refused(silent, tmp_path, dtype, shape, name, why):
    Image.fromarray(picture(dtype, shape[2:], shape[:2])).save(tmp_path / "in.png")
    with pytest.raises(ValueError, match=f"{name} cannot hold .*{why}"):
        upscale_file(tmp_path / "in.png", tmp_path / name, 2, model=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_damaged_exif_and_bombs_are_named(tmp_path, monkeypatch):
    Image.fromarray(picture("uint8", (3,))).save(tmp_path / "in.jpg", exif=b"Exif\0\0MM*\0\0")
    with pytest.raises(OSError, match=r"in\.jpg has damaged EXIF data"):
        upscale_file(tmp_path / "in.jpg", tmp_path / "out.png", 2)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(picture("uint8", (3,))).save(tmp_path / "in.png")
    with pytest.raises(OSError, match=r"in\.png is too large for Pillow"):
        read(tmp_path / "in.png")


def test_command_line(tmp_path, capsys):
    Image.fromarray(picture("uint8", (3,), (12, 10))).save(tmp_path / "in.jpg")
    source, target = str(tmp_path / "in.jpg"), str(tmp_path / "out.png")
    assert main(["upscale", source, "--scale", "1.5", "-o", target]) == 0
    with Image.open(target) as out:
        assert out.size == (15, 18)
    (tmp_path / "text.jpg").write_text("no picture")
    Image.fromarray(picture("uint8", (4,))).save(tmp_path / "alpha.png")
    alpha = str(tmp_path / "alpha.png")
    for arguments, message in [
        ([str(tmp_path / "none.jpg"), "-o", target], "none.jpg"),
        ([str(tmp_path / "text.jpg"), "-o", target], "not a picture"),
        ([source, "-o", str(tmp_path / "out.xyz")], "out.xyz"),
        ([source, "-o", str(tmp_path / "no" / "out.png")], "there is no folder"),
        ([alpha, "-o", str(tmp_path / "out.jpg")], "cannot hold a picture like"),
        ([source, "-o", target, "--scale", "9"], "scale must be from 1 to 8"),
    ]:
        capsys.readouterr()
        assert main(["upscale", *arguments]) == 1
        printed = capsys.readouterr().err.strip().splitlines()
        assert len(printed) == 1
        assert message in printed[0]
    assert not (tmp_path / "out.xyz").exists()
