import random

import numpy as np
import pytest
from PIL import Image

from vdsr import evaluate, folders, load_images, pictures
from vdsr.data import data_hash

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
RGB, GREY = PIXELS[..., :3], PIXELS[..., 0]


@pytest.mark.parametrize("suffix", folders.SUFFIXES)
def test_formats(tmp_path, suffix):
    """Every suffix is of a format that is read; without loss, the pixels are the same."""
    path = tmp_path / f"a{suffix}"
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 95}, ".jpeg": {"quality": 95}}
    pixels = GREY if suffix == ".pgm" else RGB
    Image.fromarray(pixels).save(path, **options.get(suffix, {}))
    [image] = load_images(tmp_path).values()
    assert image.dtype == np.uint8
    assert image.shape == pixels.shape
    if "jp" not in suffix:
        assert np.array_equal(image, pixels)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.fromarray(GREY > 99), np.uint8(255) * (GREY > 99)),
        (Image.fromarray(RGB).quantize(256), None),
        (Image.fromarray(np.dstack([RGB, np.full_like(GREY, 255)])), RGB),
        (Image.fromarray(np.dstack([GREY, np.full_like(GREY, 255)])), GREY),
    ],
    ids=["bilevel", "palette", "opaque RGBA", "opaque grey and alpha"],
)
def test_kinds_that_are_8_bit(tmp_path, picture, expected):
    picture.save(tmp_path / "a.png")
    image = folders.read(tmp_path / "a.png")
    assert np.array_equal(image, np.array(picture.convert("RGB")) if expected is None else expected)
    image[:] = 0  # it can be written to


def test_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # the EXIF orientation: turned by a quarter
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(folders.read(tmp_path / "a.png"), np.rot90(RGB, -1))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_that_lies_on_a_side(tmp_path, mode, orientation):
    """However it is read: Pillow maps some into memory, and confuses their sides."""
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "a.tif"
    picture = Image.fromarray(RGB if mode == "RGB" else GREY)
    picture.convert(mode).save(path, exif=exif)
    expected = pictures.read(path)
    upright = Image.fromarray(RGB if mode == "RGB" else GREY).convert(mode)
    shown = pictures.turned(pictures.to_array(upright, "upright"), orientation)
    assert np.array_equal(expected, shown)
    with Image.open(path) as opened, Image.open(path) as another:
        for pixels in (
            folders.read(path), folders.from_pillow(opened)[0], pictures.from_pillow(another)
        ):  # fmt: skip
            assert np.array_equal(pixels, expected)
        assert opened.filename == str(path)


def test_a_telephones_picture(tmp_path):
    """It holds a smaller preview behind the picture itself."""
    picture = Image.fromarray(RGB)
    picture.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[picture.resize((6, 4))])
    with Image.open(tmp_path / "a.jpg") as file:
        assert (file.format, file.n_frames) == ("MPO", 2)
    assert folders.read(tmp_path / "a.jpg").shape == RGB.shape


def ppm16(path):
    path.write_bytes(b"P6 3 2 65535\n" + bytes(36))


def png16(path):
    """Write 16-bit RGB, which Pillow reads but cannot write."""
    import struct
    import zlib

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(2 * (1 + 18))))
        + chunk(b"IEND", b"")
    )


def saved(array, mode=None, **options):
    picture = Image.fromarray(array)
    return lambda path: (picture.convert(mode) if mode else picture).save(path, **options)


@pytest.mark.parametrize(
    ("write", "suffix", "wrong"),
    [
        (png16, ".png", "more than 8 bits"),
        (ppm16, ".ppm", "more than 8 bits"),
        (saved(GREY.astype(np.uint16)), ".png", "more than 8 bits"),
        (saved(GREY.astype(np.int32)), ".tif", "more than 8 bits"),
        (saved(GREY.astype(np.float32)), ".tif", "more than 8 bits"),
        (saved(PIXELS), ".png", "transparency"),
        (saved(PIXELS[..., :2]), ".png", "transparency"),
        (saved(GREY, "P", transparency=int(GREY[0, 0])), ".png", "transparency"),
        (saved(np.zeros_like(RGB), transparency=(0, 0, 0)), ".png", "transparency"),
        (saved(RGB, "CMYK"), ".jpg", "colours of kind CMYK"),
        (saved(RGB, "LAB"), ".tif", "colours of kind LAB"),
        (saved(RGB, save_all=True, append_images=[Image.new("RGB", (30, 20))]), ".tif", "2 frames"),
        (saved(RGB, save_all=True, append_images=[Image.new("RGB", (30, 20))]), ".png", "2 frames"),
        (saved(RGB, "RGBA", save_all=True, append_images=[Image.new("RGBA", (30, 20))]), ".png",
         "2 frames"),
    ],
)  # fmt: skip
def test_kinds_that_are_no_ground_truth(tmp_path, write, suffix, wrong):
    path = tmp_path / f"a{suffix}"
    write(path)
    with pytest.raises(ValueError, match=rf"a\{suffix} must be an opaque 8-bit .*{wrong}.*; save"):
        load_images(tmp_path)


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.png"
    for content in (b"", b"text", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage"):
        path.write_bytes(content)
        with pytest.raises(OSError, match=r"cannot read .*a\.png: .*; replace the file"):
            load_images(tmp_path)
    Image.fromarray(GREY).save(path, "GIF")  # not what its suffix says, nor a format of the list
    with pytest.raises(OSError, match=r"cannot read .*a\.png: .*; replace the file"):
        load_images(tmp_path)
    Image.fromarray(RGB).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OSError, match=r"cannot read .*a\.png: .*; replace the file"):
        load_images(tmp_path)


@pytest.mark.parametrize("suffix", folders.SUFFIXES)
@pytest.mark.parametrize("count", [10, pytest.param(400, marks=pytest.mark.slow)])
def test_damaged_files(tmp_path, suffix, count):
    """Whatever bytes are wrong, there is an image or one of two errors that name the file."""
    path = tmp_path / f"a{suffix}"
    exif = {"exif": Image.Exif()} if suffix in (".jpg", ".png", ".webp", ".tif") else {}
    if exif:
        exif["exif"][274] = 6
    Image.fromarray(GREY if suffix == ".pgm" else RGB).save(path, **exif)
    whole, rng = path.read_bytes(), random.Random(0)
    for i in range(count):
        damaged = bytearray(whole)
        for _ in range(1 + i % 3):
            place = rng.randrange(min(len(whole), 200) if i % 2 else len(whole))
            damaged[place] = rng.randrange(256)
        if i % 5 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        try:
            image = folders.read(path)
        except (OSError, ValueError) as error:
            assert str(path) in str(error)
            assert "take it out of the folder" in str(error)
        else:
            assert image.dtype == np.uint8
            assert image.shape[2:] in ((), (3,))


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(RGB),
        Image.fromarray(GREY),
        Image.fromarray(GREY > 99),
        Image.fromarray(RGB).quantize(256),
        Image.fromarray(RGB).quantize(7),
        Image.fromarray(np.dstack([RGB, np.full_like(GREY, 255)])),
        Image.fromarray(np.dstack([GREY, np.full_like(GREY, 255)])),
    ],
    ids=lambda picture: picture.mode,
)
def test_pillow_images_are_taken_as_their_files_would_be(tmp_path, picture):
    picture.save(tmp_path / "a.png")
    [expected] = load_images(tmp_path).values()
    assert np.array_equal(load_images([picture])["0"], expected)
    assert data_hash({"a": picture}) == data_hash({"a": expected})
    by_file = evaluate(None, tmp_path, 2).psnr[0]
    assert evaluate(None, [picture], 2).psnr[0] == by_file
    with Image.open(tmp_path / "a.png") as file:
        assert np.array_equal(load_images({"a": file})["a"], expected)


def test_pillow_images_are_turned_upright():
    picture = Image.fromarray(RGB)
    picture.getexif()[274] = 6
    assert np.array_equal(load_images([picture])["0"], np.rot90(RGB, -1))


@pytest.mark.parametrize(
    ("picture", "wrong", "remedy"),
    [
        (Image.fromarray(RGB).convert("CMYK"), "colours of kind CMYK", r"convert\('RGB'\)"),
        (Image.fromarray(RGB).convert("HSV"), "colours of kind HSV", r"convert\('RGB'\)"),
        (Image.fromarray(PIXELS), "transparency", r"convert\('RGB'\)"),
        (Image.fromarray(GREY.astype(np.uint16)), "more than 8 bits", "brought to 8 bits"),
        (Image.fromarray(GREY.astype(np.float32)), "more than 8 bits", "brought to 8 bits"),
    ],
)
def test_pillow_images_that_are_no_ground_truth(picture, wrong, remedy):
    with pytest.raises(ValueError, match=rf"image 'a' must be an opaque.*{wrong}.*; .*{remedy}"):
        evaluate(None, {"a": picture}, 2)
