import errno
import os
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
import zlib
from contextlib import redirect_stderr
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from vdsr import deep, formats, load_images, upscale
from vdsr.__main__ import main
from vdsr.formats import FORMATS, KEPT
from vdsr.pictures import LossWarning, load, read
from vdsr.upscale import upscale_file

ROOT = Path(__file__).parents[1]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6" '
    b'exif:PixelXDimension="31" exif:PixelYDimension="23"/></rdf:RDF></x:xmpmeta>'
)
loses = pytest.mark.filterwarnings("ignore::vdsr.pictures.LossWarning")


def noise(channels=(3,), bits=8, size=(23, 31), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2**bits, (*size, *channels)).astype(f"uint{bits}")


def exif(orientation=1):
    data = Image.Exif()
    data[ExifTags.Base.Artist] = "Keys"
    data[ExifTags.Base.Orientation] = orientation
    data[ExifTags.IFD.Exif] = {
        ExifTags.Base.ExifImageWidth: 31,
        ExifTags.Base.ExifImageHeight: 23,
        ExifTags.Base.FocalPlaneXResolution: 1000.0,
        ExifTags.Base.UserComment: b"ASCII\0\0\0why",
        0x9214: (10, 12, 4, 6),
    }
    data[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    return data.tobytes()


def pnginfo():
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", (100_000).to_bytes(4, "big"))
    info.add_text("Comment", "hello")
    info.add_text("Title", "Ärger")
    info.add_itxt("XML:com.adobe.xmp", XMP)
    return info


def encoded(pixels, kind, **options):
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def samples():
    """A small file of every kind that is read, by name."""
    rgb, rgba, grey = noise(size=(6, 7)), noise((4,), size=(6, 7)), noise((), size=(6, 7))

    def several(kind, **options):
        first, *others = (Image.fromarray(noise(size=(6, 7), seed=i)) for i in range(3))
        return encoded(first, kind, save_all=True, append_images=others, **options)

    data = {"exif": exif(6), "icc_profile": PROFILE, "xmp": XMP}
    deeper = noise((4,), 16, (6, 7))
    files = {
        "rgb.png": encoded(rgb, "PNG", pnginfo=pnginfo(), dpi=(300, 200), **data),
        "palette.png": encoded(Image.fromarray(rgba).quantize(8), "PNG"),
        "clear.png": encoded(Image.fromarray(rgb), "PNG", transparency=(1, 2, 3)),
        "bits.png": encoded(Image.fromarray(grey).convert("1"), "PNG"),
        "frames.png": several("PNG"),
        "16.png": imagecodecs.png_encode(deeper),
        "grey16.png": encoded(deeper[..., 0].copy(), "PNG"),
        "rgb.jpg": encoded(rgb, "JPEG", comment=b"hi", dpi=(300, 300), **data),
        "exif.jpg": encoded(rgb, "JPEG", exif=exif(3)),
        "views.jpg": several("MPO"),
        "cmyk.jpg": encoded(Image.fromarray(rgb).convert("CMYK"), "JPEG"),
        "rgba.webp": encoded(rgba, "WEBP", lossless=True, **data),
        "frames.webp": several("WEBP"),
        "rgba.avif": encoded(rgba, "AVIF", speed=10, **data),
        "10.avif": imagecodecs.avif_encode((deeper[..., :3] >> 6).copy(), bitspersample=10),
        "rgba.tif": encoded(rgba, "TIFF", exif=exif(6), icc_profile=PROFILE, dpi=(300, 200)),
        "lzw.tif": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": encoded(rgb, "TIFF", compression="jpeg"),
        "frames.tif": several("TIFF"),
        "big.tif": encoded(rgb, "TIFF", big_tiff=True),
        "rgba.jp2": encoded(rgba, "JPEG2000"),
        "grey16.jp2": encoded(deeper[..., 0].copy(), "JPEG2000"),
        "frames.gif": several("GIF", comment=b"hi"),
        "rgb.bmp": encoded(rgb, "BMP"),
        "palette.bmp": encoded(Image.fromarray(rgb).quantize(8), "BMP"),
        "rgb.ppm": encoded(rgb, "PPM"),
        "16.ppm": b"P6 7 6 65535\n" + deeper[..., :3].astype(">u2").tobytes(),
        "plain.pgm": b"P2 3 2 9\n1 2 3\n4 5 6\n",
    }  # fmt: skip
    for name, options in {
        "16.tif": {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        "lzw16.tif": {"photometric": "rgb", "extrasamples": ["assocalpha"], "compression": "lzw"},
    }.items():
        file = BytesIO()
        tifffile.imwrite(file, deeper, **options)
        files[name] = file.getvalue()
    return files


SAMPLES = samples()


def told(action):
    """Run something and return the losses that it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    assert all(w.category is LossWarning for w in caught), [str(w.message) for w in caught]
    return [str(w.message) for w in caught]


def everything(folder, channels=3, bits=8):
    """Write a PNG that holds all that is kept anywhere; return its path."""
    path = folder / f"in{channels}-{bits}.png"
    pixels = noise((channels,) if channels > 1 else (), bits)
    options = {"pnginfo": pnginfo(), "dpi": (300, 200), "exif": exif()}
    if bits == 16 and channels > 1:
        with path.open("wb") as file:
            deep.write_png(pixels, file, **options)
    else:
        path.write_bytes(encoded(pixels, "PNG", **options))
    return path


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_table_of_formats_is_what_files_come_back_as(kind, silent, tmp_path):
    target = tmp_path / f"out{kind.suffixes[-1]}"
    for bits, held in ((8, kind.bits8), (16, kind.bits16)):
        for channels in (1, 2, 3, 4):
            source = everything(tmp_path, channels, bits)
            if channels not in held:
                with pytest.raises(ValueError, match=f"{target.name} cannot hold .*; PNG"):
                    upscale_file(source, target, 2, model=silent)
                continue
            losses = told(partial(upscale_file, source, target, 2, model=silent))
            wanted = upscale(source, 2, model=silent)
            back = read(target)
            assert back.itemsize == bits // 8
            if back.ndim > wanted.ndim:  # some know no grey
                wanted = np.repeat(wanted[..., None], 3, axis=2)
            elif back.shape[-1] > wanted.shape[-1]:
                wanted = wanted[..., [0, 0, 0, 1]]
            error = np.abs(back.astype(int) - wanted)
            exact = kind.pixels.startswith("exact") or (kind.name == "GIF" and channels == 1)
            assert error.max() == 0 if exact else error.mean() < 20
            assert_kept(kind, load(target).metadata, losses)
            target.unlink()


def assert_kept(kind, got, losses):
    values = {
        "exif": got.exif.get(ExifTags.Base.Artist) == "Keys"
        and got.exif[ExifTags.IFD.GPSInfo] == {1: "N"}
        and got.exif[ExifTags.IFD.Exif]
        == {
            ExifTags.Base.ExifImageWidth: 62,
            ExifTags.Base.ExifImageHeight: 46,
            ExifTags.Base.FocalPlaneXResolution: 2000.0,
            ExifTags.Base.UserComment: b"ASCII\0\0\0why",
            0x9214: (20, 24, 8, 12),
        },
        "xmp": got.xmp
        == XMP.replace(b'n="6"', b'n="1"').replace(b'"31"', b'"62"').replace(b'"23"', b'"46"'),
        "resolution": got.resolution == pytest.approx((300, 200), abs=1e-3),
        "gamma": got.gamma == {b"gAMA": (100_000).to_bytes(4, "big")},
        "comment": got.comment == b"hello",
        "text": got.text == {"Title": "Ärger"},
    }
    assert {name for name, kept in values.items() if kept} == kind.keeps - {"profile"}
    lost = [KEPT[name] for name in values if name not in kind.keeps]
    lost = ["text (Title)" if name == "other text" else name for name in lost]
    lost += ["colours beyond 256"] * (kind.name == "GIF" and "colours" in losses[-1])
    assert losses == [
        next(m for m in losses if f"does not keep the {name} of in" in m) for name in lost
    ]


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_colour_profile_is_kept_or_named(kind, silent, tmp_path):
    grey = noise((), size=(4, 5))
    (tmp_path / "in.png").write_bytes(encoded(grey, "PNG", icc_profile=PROFILE))
    target = tmp_path / f"out{kind.suffixes[0]}"
    losses = told(lambda: upscale_file(tmp_path / "in.png", target, 2, model=silent))
    assert (load(target).metadata.profile == PROFILE) == ("profile" in kind.keeps)
    assert len(losses) == ("profile" not in kind.keeps)


def test_book_shows_the_table_of_formats():
    assert formats.table() in (ROOT / "book" / "use.md").read_text()


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_sides_are_held_up_to_the_limit(kind, tmp_path):
    for size in ((1, kind.side), (kind.side, 1)):
        assert kind.refusal(1, 8, *size) is None
        assert "a side has at most" in kind.refusal(1, 8, *(n + (n > 1) for n in size))
        path = tmp_path / "long"
        path.write_bytes(encoded(np.zeros(size, np.uint8), kind.pillow, **kind.options))
        assert read(path).shape[:2] == size


def test_area_and_bytes_are_refused_before_the_work():
    by_name = {kind.name: kind for kind in FORMATS}
    assert by_name["AVIF"].refusal(3, 8, 16_384, 16_384) is None
    assert "at most 268,435,456 in all" in by_name["AVIF"].refusal(3, 8, 16_384, 16_385)
    for name in ("TIFF", "BMP"):
        assert by_name[name].refusal(3, 8, 37_000, 37_000) is None
        assert "their bytes are at most" in by_name[name].refusal(3, 8, 38_000, 38_000)
    assert by_name["PNG"].refusal(4, 16, 90_000, 90_000) is None


@pytest.mark.parametrize(
    ("pixels", "name", "why"),
    [
        (noise((), 16, (4, 4)), "out.webp", "16 bits a channel; PNG, TIFF, JPEG 2000, PPM"),
        (noise((), size=(2, 9000)), "out.webp", "18000×4 pixels: a side has at most 16,383; PNG"),
        (noise((4,), size=(4, 4)), "out.bmp", "RGB with transparency; PNG, TIFF, WebP, AVIF, JPEG"),
        (noise((2,), size=(4, 4)), "out.gif", "grey with transparency; PNG"),
        (noise((3,), size=(4, 4)), "out.pgm", "RGB; PNG"),
    ],
)  # fmt: skip
def test_what_cannot_be_held_is_refused_before_the_work(pixels, name, why, tmp_path, monkeypatch):
    monkeypatch.setattr("vdsr.networks.apply", None)
    (tmp_path / "in.png").write_bytes(encoded(pixels, "PNG"))
    with pytest.raises(ValueError, match=f"{name} cannot hold {why}"):
        upscale_file(tmp_path / "in.png", tmp_path / name, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


@pytest.mark.parametrize("name", ["out.ico", "out", "out.pdf", "out.eps", "out.png.gz", ".png"])
def test_unknown_formats_are_refused_before_the_work(name, silent, tmp_path):
    (tmp_path / "in.png").write_bytes(SAMPLES["rgb.png"])
    with pytest.raises(ValueError, match=r"no format to write; use \.png, \.tif, "):
        upscale_file(tmp_path / "in.png", tmp_path / name, 2, model=silent)


def test_result_may_have_more_pixels_than_pillow_would_open(silent, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 250)
    (tmp_path / "in.png").write_bytes(encoded(noise((), size=(20, 20)), "PNG"))
    assert (
        told(lambda: upscale_file(tmp_path / "in.png", tmp_path / "out.png", 4, model=silent)) == []
    )
    with pytest.raises(OSError, match=r"out\.png has more than 500 pixels"):
        read(tmp_path / "out.png")
    monkeypatch.undo()
    assert read(tmp_path / "out.png").shape == (80, 80)


def test_encoders_are_set_to_keep_detail(silent, tmp_path):
    image = noise(size=(32, 32))
    (tmp_path / "in.png").write_bytes(encoded(image, "PNG"))
    upscale_file(tmp_path / "in.png", tmp_path / "out.jpg", 1, model=silent)
    with Image.open(tmp_path / "out.jpg") as out:
        wanted = Image.open(BytesIO(encoded(image, "JPEG", quality=95)))
        assert out.quantization == wanted.quantization
        assert all(layer[1:3] == (1, 1) for layer in out.layer)  # no colour is subsampled
    upscale_file(tmp_path / "in.png", tmp_path / "out.avif", 1, model=silent)
    assert np.abs(read(tmp_path / "out.avif").astype(int) - image).max() <= 4


@loses
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", "16.tif", "16.png"])
def test_pictures_stand_upright(silent, tmp_path, orientation, suffix):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:2, :2] = 255  # what lies first
    options = {"exif": exif(orientation), "dpi": (300, 200)}
    source = tmp_path / f"in{suffix}"
    with source.open("w+b") as file:
        if suffix.startswith("16"):
            pixels = pixels.astype(np.uint16) * 257
            writer = deep.write_tiff if suffix.endswith("tif") else deep.write_png
            writer(pixels, file, **options)
        else:
            Image.fromarray(pixels).save(file, Image.registered_extensions()[suffix], **options)
    larger = upscale_file(source, tmp_path / f"out{suffix}", 2, model=silent)
    corners = {
        1: (0, 0),
        2: (0, 1),
        3: (1, 1),
        4: (1, 0),
        5: (0, 0),
        6: (0, 1),
        7: (1, 1),
        8: (1, 0),
    }
    assert larger.shape[:2] == ((8, 12) if orientation < 5 else (12, 8))
    white = np.argwhere(larger[..., 0] > np.iinfo(larger.dtype).max * 0.9).mean(axis=0)
    assert tuple((white > np.array(larger.shape[:2]) / 2).astype(int)) == corners[orientation]
    back = load(tmp_path / f"out{suffix}")
    assert np.array_equal(back.pixels, larger) or suffix == ".jpg"
    assert back.metadata.exif.get(274, 1) == 1
    assert back.metadata.resolution == pytest.approx(
        (300, 200) if orientation < 5 else (200, 300), 1e-3
    )


@pytest.mark.parametrize(
    ("name", "losses"),
    [
        ("frames.png", ["in has 3 frames, of which the first alone is read"]),
        ("frames.gif", ["in has 3 frames, of which the first alone is read"]),
        ("frames.webp", ["in has 3 frames, of which the first alone is read"]),
        ("frames.tif", ["in has 3 frames, of which the first alone is read"]),
        ("views.jpg", ["in has 3 frames, of which the first alone is read"]),
        ("16.ppm", ["in has 16 bits a channel, of which 8 are read"]),
        ("10.avif", ["in has 10 bits a channel, of which 8 are read"]),
        ("16.png", []),
        ("16.tif", []),
        ("lzw16.tif", []),
        ("grey16.jp2", []),
        ("grey16.png", []),
        ("rgb.jpg", []),
    ],
)
def test_what_is_not_read_of_a_file_is_said(name, losses, tmp_path):
    (tmp_path / "in").write_bytes(SAMPLES[name])
    assert told(lambda: read(tmp_path / "in")) == losses
    deeper = "16" in name and not losses
    assert read_quietly(tmp_path / "in").dtype == (np.uint16 if deeper else np.uint8)


@loses
def read_quietly(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(path)


def test_deep_jpeg_2000_is_said(tmp_path):
    data = imagecodecs.jpeg2k_encode(noise(bits=16, size=(6, 7)), level=0)
    (tmp_path / "in").write_bytes(data)
    assert told(lambda: read(tmp_path / "in")) == ["in has 16 bits a channel, of which 8 are read"]


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
@pytest.mark.parametrize("options", [
    {}, {"compression": "lzw"}, {"compression": "zlib", "predictor": True}, {"byteorder": ">"},
    {"tile": (16, 16)}, {"planarconfig": "separate"}, {"bigtiff": True},
])  # fmt: skip
def test_tiffs_of_16_bits_in_any_layout(channels, options, tmp_path):
    pixels = noise(channels, 16)
    stored = pixels
    if options.get("planarconfig") and channels:
        stored = np.moveaxis(pixels, 2, 0)
    elif channels:
        options = options | {"planarconfig": "contig"}
    else:
        options = {k: v for k, v in options.items() if k != "planarconfig"}
    tifffile.imwrite(
        tmp_path / "in.tif", stored, photometric="rgb" if sum(channels) > 2 else "minisblack",
        extrasamples=["unassalpha"] if channels == (4,) else None, metadata=None, **options,
    )  # fmt: skip
    assert np.array_equal(read(tmp_path / "in.tif"), pixels)


def test_tiffs_of_other_meanings(tmp_path):
    grey = noise((), 16)
    tifffile.imwrite(tmp_path / "white.tif", 65535 - grey, photometric="miniswhite", metadata=None)
    assert np.array_equal(read(tmp_path / "white.tif"), grey)
    tifffile.imwrite(tmp_path / "12.tif", np.full((5, 6), 4095, np.uint16), bitspersample=12,
                     photometric="minisblack", metadata=None)  # fmt: skip
    assert (read(tmp_path / "12.tif") == 65535).all()
    straight = np.full((5, 6, 4), (40000, 20000, 10000, 65535), np.uint16)
    straight[2:] = 30000, 20000, 10000, 32768
    multiplied = np.round(straight * (straight[..., 3:] / 65535)).astype(np.uint16)
    multiplied[..., 3] = straight[..., 3]
    tifffile.imwrite(tmp_path / "a.tif", multiplied, photometric="rgb",
                     extrasamples=["assocalpha"], metadata=None)  # fmt: skip
    assert np.abs(read(tmp_path / "a.tif").astype(int) - straight).max() <= 2
    tifffile.imwrite(tmp_path / "5.tif", noise((5,), 16), photometric="minisblack",
                     planarconfig="contig", metadata=None)  # fmt: skip
    with pytest.raises((ValueError, OSError), match=r"5\.tif|5 channels"):
        read(tmp_path / "5.tif")


@loses
def test_tags_of_a_tiff(silent, tmp_path):
    extra = [(33550, "d", 3, (1.0, 1.0, 0.0), True), (315, "s", 0, "Keys", True)]
    tifffile.imwrite(tmp_path / "in.tif", noise(), photometric="rgb", extratags=extra)
    losses = told(lambda: upscale_file(tmp_path / "in.tif", tmp_path / "out.tif", 2, model=silent))
    assert losses == [
        "out.tif does not keep the TIFF tags ModelPixelScaleTag (33550) of in.tif"
    ] or (len(losses) == 1 and "(33550)" in losses[0])
    tags = load(tmp_path / "out.tif").metadata.exif
    assert tags[315] == "Keys"
    assert 270 not in tags  # tifffile's description of the shape is no longer true


def png(bits, rows, *chunks):
    """Return a grey PNG of any depth, which Pillow does not write with a clear level."""

    def chunk(name, body):
        size, crc = len(body), zlib.crc32(name + body)
        return struct.pack(">I", size) + name + body + struct.pack(">I", crc)

    width, height = 8 * len(rows[0]) // bits, len(rows)
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = (b"IHDR", head), *chunks, (b"IDAT", body), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


@pytest.mark.parametrize(
    ("bits", "row", "levels"),
    [(1, 0b01_000000, [0, 255]), (2, 0b01_10_00_11, [85, 170, 0, 255]), (4, 0x1C, [17, 204])],
)
def test_the_clear_level_of_a_grey_png_of_any_depth(silent, tmp_path, bits, row, levels):
    (tmp_path / "in.png").write_bytes(png(bits, [bytes([row])], (b"tRNS", b"\0\1")))
    clear = levels[1] if bits == 1 else levels[0]
    wanted = [[level, 0 if level == clear else 255] for level in levels]
    assert read(tmp_path / "in.png")[0, : len(levels)].tolist() == wanted
    with Image.open(tmp_path / "in.png") as opened:
        assert upscale(opened, 1, model=silent)[0, : len(levels), 1].tolist() == [
            alpha for _, alpha in wanted
        ]
    with pytest.raises(ValueError, match="got one with transparency"):
        load_images(tmp_path)


def test_a_colour_profile_that_cannot_be_unpacked_is_named(tmp_path):
    data = png(8, [b"abcd"], (b"iCCP", b"name\0\0no zlib stream"))
    (tmp_path / "in.png").write_bytes(data)
    with pytest.warns(LossWarning, match=r"in\.png has damaged colour profile, which are left out"):
        assert read(tmp_path / "in.png").tolist() == [[*b"abcd"]]


def test_odd_chunks_of_a_png_and_other_data_are_named(silent, tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add(b"vpAg", b"\0" * 9)
    (tmp_path / "in.png").write_bytes(encoded(noise(), "PNG", pnginfo=info))
    losses = told(lambda: upscale_file(tmp_path / "in.png", tmp_path / "out.png", 1, model=silent))
    assert losses == ["out.png does not keep the PNG chunks vpAg of in.png"]
    jpeg = encoded(noise(), "JPEG")
    app13 = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\4abcd"
    jpeg = jpeg[:2] + b"\xff\xed" + (len(app13) + 2).to_bytes(2, "big") + app13 + jpeg[2:]
    (tmp_path / "in.jpg").write_bytes(jpeg)
    losses = told(lambda: upscale_file(tmp_path / "in.jpg", tmp_path / "out.jpg", 1, model=silent))
    assert losses == ["out.jpg does not keep the IPTC data of in.jpg"]


def test_what_pillow_passes_over_is_named(silent, tmp_path):
    def losses(data):
        (tmp_path / "in").write_bytes(data)
        target = tmp_path / "out.png"
        texts = told(partial(upscale_file, tmp_path / "in", target, 1, model=silent))
        assert all(text.startswith("out.png does not keep the ") for text in texts)
        return [text[26:-6] for text in texts]

    gif = encoded(noise((), size=(4, 5)), "GIF")
    at = gif.index(b",", 13 + 3 * 2 ** (1 + gif[10] % 8))
    icc = b"!\xff\x0bICCRGBG1012\x01x\0"
    assert losses(gif) == []
    assert losses(gif[:at] + icc + gif[at:]) == ["colour profile"]
    jp2 = encoded(noise(size=(4, 5)), "JPEG2000")
    at = jp2.index(b"jp2c") - 4
    assert losses(jp2) == []
    assert losses(jp2[:at] + b"\0\0\0\x18uuid" + b"\1" * 16 + jp2[at:]) == [
        "data in boxes of their own"
    ]
    avif = encoded(noise(size=(4, 5)), "AVIF")
    assert losses(avif) == []
    at = avif.index(b"colrnclx") + 8
    wide = avif[:at] + b"\0\x09\0\x10" + avif[at + 4 :]  # BT.2020, PQ
    assert losses(wide) == ["wide range of colours"]


def test_data_too_long_for_a_format_are_named(silent, tmp_path):
    data = Image.Exif()
    data[ExifTags.Base.Artist] = "x" * 70_000
    (tmp_path / "in.png").write_bytes(encoded(noise(), "PNG", exif=data, dpi=(300, 300)))
    losses = told(lambda: upscale_file(tmp_path / "in.png", tmp_path / "out.jpg", 1, model=silent))
    assert losses == [
        "out.jpg does not keep the EXIF data (damaged, or too long for JPEG) of in.png"
    ]
    assert load(tmp_path / "out.jpg").metadata.resolution == (300, 300)


def test_damaged_exif_leaves_the_picture(silent, tmp_path):
    pixels, path, target = noise(), tmp_path / "in.png", tmp_path / "out.png"
    for data, loss in (
        (b"MM*\0", "EXIF data"),
        (b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 30, ""),
        (exif()[6:60], ""),
        (exif()[6:].replace(b"\x01\x00\x02", b"\x01\x00\x09"), ""),
    ):
        Image.fromarray(pixels).save(path, exif=b"Exif\0\0" + data)
        losses = told(partial(upscale_file, path, target, 1, model=silent))
        assert all("damaged" in text and loss in text for text in losses)
        assert np.array_equal(read_quietly(target), upscale(pixels, 1, model=silent))


@pytest.mark.parametrize("name", ["in.png", "in.jpg", "in.eps"])
def test_page_descriptions_are_not_interpreted(name, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "check_call", None)
    text = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    (tmp_path / name).write_text(text)
    with pytest.raises(OSError, match=f"{name} is not a picture in a format that is read .PNG"):
        read(tmp_path / name)


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "F", "I"])
def test_modes_that_cannot_be_enlarged_are_named(mode, tmp_path):
    Image.new(mode, (4, 4)).save(tmp_path / "in.tif")
    with pytest.raises(ValueError, match=f"in.tif has pixels of mode {mode}, .* save it as RGB"):
        read(tmp_path / "in.tif")


def test_sources_that_are_no_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read(tmp_path / "none.png")
    with pytest.raises(OSError, match="is not a file"):
        read(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="is not a file"):  # and does not wait for a writer
        read(tmp_path / "fifo")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(OSError, match="is not a picture"):
        read(tmp_path / "empty")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in" / "in.png"
    path.parent.mkdir()
    path.write_bytes(encoded(noise(size=(4, 5)), "PNG"))
    return path


def test_mode_of_the_target_is_kept(source, tmp_path, silent):
    target = tmp_path / "out.png"
    mask = os.umask(0o027)
    try:
        upscale_file(source, target, 2, model=silent)
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
        target.chmod(0o604)
        upscale_file(source, target, 2, model=silent)
        assert stat.S_IMODE(target.stat().st_mode) == 0o604
    finally:
        os.umask(mask)


def test_links_are_followed(source, tmp_path, silent):
    (tmp_path / "far").mkdir()
    target, real = tmp_path / "out.png", tmp_path / "far" / "real.bin"
    target.symlink_to(real)
    for _ in range(2):  # before and after the file is there
        upscale_file(source, target, 2, model=silent)
        assert target.is_symlink()
        assert read(real).shape == (8, 10, 3)
        assert sorted(p.name for p in tmp_path.rglob("*.p*")) == ["in.png", "out.png"]
    target.unlink()
    target.symlink_to(tmp_path / "nowhere" / "real.png")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        upscale_file(source, target, 2, model=silent)


def test_source_may_be_the_target(source, silent):
    wanted = upscale(source, 2, model=silent)
    upscale_file(source, source, 2, model=silent)
    assert np.array_equal(read(source), wanted)


def test_targets_that_cannot_be_written_are_refused_before_the_work(source, tmp_path, monkeypatch):
    monkeypatch.setattr("vdsr.networks.apply", None)
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "kept.png").write_bytes(b"kept")
    real = os.access
    monkeypatch.setattr(os, "access", lambda p, m: Path(p).name != "kept.png" and real(p, m))
    for name, message in [
        ("folder.png", "is a folder; name the file to write"),
        ("fifo.png", "is no file"),
        ("kept.png", "is write-protected"),
        ("no/out.png", "there is no folder .* to write out.png to"),
        ("x" * 300 + ".png", "too long"),
    ]:
        with pytest.raises(OSError, match=message):
            upscale_file(source, tmp_path / name, 2)
    assert (tmp_path / "kept.png").read_bytes() == b"kept"
    assert list(tmp_path.rglob("*.part")) == []


def test_what_was_computed_is_not_lost(source, tmp_path, monkeypatch, silent):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "rescue"))
    (tmp_path / "rescue").mkdir()
    target = tmp_path / "out.png"
    target.write_bytes(b"before")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"out\.png could not be written: .*No space left") as error:
        upscale_file(source, target, 2, model=silent)
    [rescued] = (tmp_path / "rescue").iterdir()
    assert str(rescued) in str(error.value)
    assert np.array_equal(read(rescued), upscale(source, 2, model=silent))
    assert target.read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out.png", "rescue"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_what_is_interrupted(source, tmp_path, monkeypatch, silent, error):
    def interrupted(*arguments):
        raise error

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(error):
        upscale_file(source, tmp_path / "out.png", 2, model=silent)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_signal_to_end_leaves_nothing_behind(source, tmp_path):
    code = (
        "import os, sys, time; from vdsr.__main__ import main\n"
        "def slow(*_): print('writing', flush=True); time.sleep(600)\n"
        "os.fsync = slow; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["upscale", str(source), "--scale", "1", "-o", str(tmp_path / "out.png")]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with process:
        assert process.stdout.readline() == "writing\n"
        assert [p.suffix for p in tmp_path.iterdir() if p.is_file()] == [".part"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_command_line(tmp_path, capsys):
    (tmp_path / "in.jpg").write_bytes(encoded(noise(size=(12, 10)), "JPEG"))
    source, target = str(tmp_path / "in.jpg"), str(tmp_path / "out.png")
    handlers = signal.getsignal(signal.SIGTERM)
    assert main(["upscale", source, "--scale", "2.5", "-o", target]) == 0
    assert signal.getsignal(signal.SIGTERM) is handlers
    assert capsys.readouterr() == ("", "")
    assert read(target).shape == (30, 25, 3)
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "alpha.png").write_bytes(SAMPLES["palette.png"])
    alpha = str(tmp_path / "alpha.png")
    for arguments, message in [
        ([str(tmp_path / "none.jpg"), "-o", target], "none.jpg"),
        ([str(tmp_path / "text.jpg"), "-o", target], "not a picture"),
        ([source, "-o", str(tmp_path / "out.xyz")], "out.xyz"),
        ([source, "-o", str(tmp_path / "no" / "out.png")], "there is no folder"),
        ([alpha, "-o", str(tmp_path / "out.jpg")], "cannot hold RGB with transparency"),
        ([source, "-o", target, "--scale", "9"], "scale must be a number from 1 to 8"),
    ]:
        assert main(["upscale", *arguments]) == 1
        [printed] = capsys.readouterr().err.strip().splitlines()
        assert printed.startswith("vdsr upscale: ")
        assert message in printed
    assert not (tmp_path / "out.xyz").exists()


def test_command_line_says_each_loss_unless_it_is_to_be_quiet(tmp_path, capsys):
    (tmp_path / "in.png").write_bytes(SAMPLES["rgb.png"])
    arguments = ["upscale", str(tmp_path / "in.png"), "--scale", "1", "-o", str(tmp_path / "o.gif")]
    assert main(arguments) == 0
    lines = capsys.readouterr().err.splitlines()
    names = [
        "colour profile",
        "EXIF data",
        "XMP data",
        "resolution",
        "text (Title)",
        "place of the",
    ]
    for name, line in zip([*names, "colours beyond 256"], lines, strict=True):
        assert line.startswith(f"vdsr upscale: warning: o.gif does not keep the {name}")
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_command_line_in_another_thread(tmp_path, source):
    status = []
    arguments = ["upscale", str(source), "--scale", "2", "-o", str(tmp_path / "out.png")]
    thread = threading.Thread(target=lambda: status.append(main(arguments)))
    thread.start()
    thread.join()
    assert status == [0]


def test_command_is_vdsr(capsys):
    with pytest.raises(SystemExit) as error:
        main(["--version"])
    assert error.value.code == 0
    assert capsys.readouterr().out == "vdsr 0.1.0\n"
    with pytest.raises(SystemExit) as error:
        main(["upscal"])
    assert error.value.code == 2
    assert "invalid choice: 'upscal' (choose from" in capsys.readouterr().err


NAMES = st.one_of(
    st.sampled_from([suffix for kind in FORMATS for suffix in kind.suffixes]),
    st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=5),
).map("out{}".format)
NUMBERS = st.one_of(
    st.sampled_from(["1", "1.5", "2", "0", "nan", "inf", "1e0", "-1", "²"]), st.text()
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(sample=st.sampled_from([*SAMPLES]), name=NAMES, scale=NUMBERS, quiet=st.booleans())
def test_any_command_line(silent, tmp_path, monkeypatch, sample, name, scale, quiet):
    # vdsr.upscale is the function, which hides the module of that name.
    monkeypatch.setattr(sys.modules["vdsr.upscale"], "_default_model", lambda: silent)
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    (folder / "in").write_bytes(SAMPLES[sample])
    errors = StringIO()
    with redirect_stderr(errors):
        try:
            status = main(
                ["upscale", f"{folder}/in", f"--output={folder}/{name}", f"--scale={scale}"]
                + ["--quiet"] * quiet
            )
        except SystemExit as error:  # argparse's, of words that are no number
            assert error.code == 2
            status = 2
    lines = errors.getvalue().splitlines()
    if status == 1:
        assert lines[-1].startswith("vdsr upscale: ")
    assert all("warning: " in line for line in lines[: len(lines) - status]) or status == 2
    assert not (quiet and status == 0 and lines)
    assert len([*folder.iterdir()]) == (2 if status == 0 else 1)


def damage(data, rng):
    """Return a file with some of its bytes changed, cut off, doubled or put in."""
    data = bytearray(data)
    way = rng.integers(5)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = int(rng.integers(len(data) if rng.random() < 0.6 else min(len(data), 200)))
        if way == 0:
            data[at] = rng.integers(256)
        elif way == 1:
            data[at] ^= 1 << rng.integers(8)
        elif way == 2:
            data = data[: max(at, 1)]
        elif way == 3:
            data[at : at + rng.integers(1, 9)] = rng.choice(
                [b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff"]
            )
        else:
            data[at:at] = data[at // 2 : at // 2 + rng.integers(20)]
    return bytes(data)


def check_damaged(number, model, folder, capfd):
    """A damaged file is enlarged, or refused in one line; nothing else is said or left."""
    rng = np.random.default_rng(number)
    name = [*SAMPLES][number % len(SAMPLES)]
    source = folder / "in"
    source.write_bytes(damage(SAMPLES[name], rng))
    suffixes = [suffix for kind in FORMATS for suffix in kind.suffixes]
    target = folder / f"out{suffixes[rng.integers(len(suffixes))]}"
    try:
        told(lambda: upscale_file(source, target, 1, model=model))
    except (OSError, ValueError) as error:
        assert len(str(error).splitlines()) == 1
        assert "in " in str(error) or target.name in str(error)
        assert [path.name for path in folder.iterdir()] == ["in"]
    else:
        read_quietly(target)
        target.unlink()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("start", range(0, 400, 50))
def test_damaged_files(start, silent, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)  # larger ones only take longer
    for number in range(start, start + 50):
        check_damaged(number, silent, tmp_path, capfd)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(10_000, 13_000, 500))
def test_thousands_of_damaged_files(start, silent, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    for number in range(start, start + 500):
        check_damaged(number, silent, tmp_path, capfd)
