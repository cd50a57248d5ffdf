"""Any argument works, or is refused by an error that names it, its value and the remedy."""

import os
import re
import tempfile
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vdsr import VDSR, TrainConfig, evaluate, imresize, load_images, train
from vdsr.checks import shown
from vdsr.data import SAMPLES, data_hash
from vdsr.folders import SUFFIXES
from vdsr.patches import Patches, as_ratio, degrade

REMEDY = re.compile("must|needs either|cannot be scaled")
NETWORK = VDSR(2, 2)


def cases(quick, slow):
    """Run a test on a few examples, and in the slow set on many."""
    return pytest.mark.parametrize(
        "examples", [quick, pytest.param(slow, marks=pytest.mark.slow)], ids=["quick", "slow"]
    )


def check(examples, **strategies):
    """Run a function with that many examples of its arguments."""

    def run(function):
        limits = settings(
            max_examples=examples,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )
        limits(given(**strategies)(function))()

    return run


# An error may name the part of an argument that is wrong.
PARTS = {"dataset": "dataset|image", "scales": "scales?"}


def call(function, errors=(TypeError, ValueError), **arguments):
    """Return what a function returns, or None if it refuses an argument as it should."""
    try:
        return function(**arguments)
    except errors as error:
        message = str(error)
        assert REMEDY.search(message), message
        assert any(
            re.search(rf"\b({PARTS.get(name, name)})\b", message)
            and any(text in message for text in texts(value))
            for name, value in arguments.items()
        ), message
        return None


def texts(value):
    """Return how an error may show a value, or the part of it that is wrong."""
    if isinstance(value, (str, Path)):
        paths = [str(value), os.path.expanduser(value), *str(value).split("+")]
        return [shown(value), *map(repr, paths)]
    array = isinstance(value, np.ndarray) and value.ndim > 0
    many = array or isinstance(value, (dict, list, tuple))
    parts = value.values() if isinstance(value, dict) else value if many else ()
    parts = [value, *parts]
    parts += [np.asarray(part) for part in parts if isinstance(part, Image.Image)]
    shapes = [part.shape for part in parts if hasattr(part, "shape")]
    sizes = [f"{shape[0]}×{shape[1]}" for shape in shapes if len(shape) > 1]
    return [*map(shown, parts), *map(str, shapes), *sizes]


numbers = st.one_of(
    st.floats(-2, 8),
    st.integers(-2, 8),
    st.fractions(-2, 8, max_denominator=200),
    st.sampled_from([np.float32, np.float64, np.float16]).flatmap(
        lambda kind: st.floats(0, 8, width=16).map(kind)
    ),
    st.sampled_from([np.uint8, np.int64]).flatmap(lambda kind: st.integers(0, 8).map(kind)),
)
junk = st.sampled_from(
    [
        None, True, False, "2", "", b"2", "a.png", (), {}, {2}, slice(2), object(), len, 1j,
        float("nan"), float("inf"), -float("inf"), np.float32("nan"), 1e300, 1e-300, -1e9, 1e9,
        10**400, Fraction(1, 10**400), np.bool_(True), np.array([[2.0]]), np.array("2"),
        np.datetime64("2016-06-27"), torch.tensor(2.0), pd.Timestamp(0), Image.new("L", (3, 3)),
    ]
)  # fmt: skip
scales = numbers | junk
whole = st.integers(-3, 30) | st.sampled_from([3.0, np.int32(9), 2.5]) | junk
sides = st.integers(0, 40)
kinds = ["u1", "i1", "u2", "i4", "f2", "f4", "f8", "?", "c8", "U1", "O", "M8[s]"]


@st.composite
def arrays(draw, kinds=kinds):
    """Arrays of any type and number of axes; those of objects hold None."""
    kind = draw(st.sampled_from(kinds))
    channels = draw(st.sampled_from([(), (), (), (1,), (2,), (3,), (4,), (3, 1)]))
    shape = (draw(sides), draw(sides), *channels)[draw(st.sampled_from([0, 0, 0, 0, 0, 1, 2])) :]
    values = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, shape)
    return np.full(shape, None) if kind == "O" else values.astype(kind)


images = arrays(["u1"]) | arrays() | junk
shapes = st.tuples(whole, whole) | st.lists(whole, max_size=3) | arrays(["u1"]) | junk


@cases(40, 3000)
def test_imresize(examples):
    @check(examples, image=images, scale=st.none() | scales | shapes, shape=st.none() | shapes)
    def _(image, scale, shape):
        out = call(imresize, image=image, scale=scale, shape=shape)
        if out is None:
            return
        assert out.dtype == np.float64
        height, width = np.shape(image)[:2]
        two = shape if scale is None else scale if np.ndim(scale) == 1 else None
        if two is not None:
            assert out.shape[:2] == tuple(two)
        else:
            scale = scale if isinstance(scale, (int, Fraction)) else float(scale)
            assert out.shape[:2] == (ceil(height * scale), ceil(width * scale))
        assert out.shape[2:] == np.shape(image)[2:]
        finite = np.asarray(image).astype(float)
        if np.isfinite(finite).all():
            span = np.ptp(finite) + 1e-9  # bicubic overshoots by less than that
            assert finite.min() - span <= out.min() <= out.max() <= finite.max() + span


@pytest.mark.parametrize("function", [
    lambda image: imresize(image, 2), lambda image: degrade(image, 2),
    lambda image: evaluate(None, [image], 2), lambda image: load_images({"a": image}),
])  # fmt: skip
def test_masks_are_not_dropped(function):
    plain = load_images("samples-test")["chelsea"][:40, :50, 0]
    function(np.ma.array(plain))
    with pytest.raises((TypeError, ValueError), match=r"image\.filled\(0\)"):
        function(np.ma.masked_less(plain, 100))


@cases(30, 2000)
def test_degrade(examples):
    @check(examples, hr=images, scale=scales)
    def _(hr, scale):
        out = call(degrade, hr=hr, scale=scale)
        if out is not None:
            cropped, ilr = out
            assert cropped.shape == ilr.shape
            assert not any(n % as_ratio(scale).numerator for n in ilr.shape)
            assert np.array_equal(cropped, np.asarray(hr)[: ilr.shape[0], : ilr.shape[1]])


sets = st.one_of(
    st.lists(images, max_size=3),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), images, max_size=3),
    st.lists(arrays(["u1"]), min_size=1, max_size=2),
    arrays(["u1"]),
    junk,
)


@cases(30, 2000)
def test_evaluate(examples):
    models = st.sampled_from([None, None, NETWORK, VDSR, "VDSR", 3, torch.relu])

    @check(examples, model=models, dataset=sets, scale=scales)
    def _(model, dataset, scale):
        rows = call(evaluate, (TypeError, ValueError), model=model, dataset=dataset, scale=scale)
        if rows is not None:
            assert len(rows) == len(dataset)
            assert (rows.psnr > 0).all()
            assert (rows.ssim.abs() <= 1 + 1e-9).all()
            assert (rows.scale == float(as_ratio(scale))).all()
        assert NETWORK.training


@cases(20, 1000)
def test_patches(examples):
    factors = st.lists(scales, max_size=2) | scales
    options = {"size": whole, "overlap": whole | st.just(0), "augment": st.booleans() | junk}

    @check(examples, dataset=sets, scales=factors, **options)
    def _(**arguments):
        patches = call(Patches, **arguments)
        if patches is not None:
            assert len(patches) == len(patches.hr) * (8 if arguments["augment"] else 1) > 0
            assert patches.hr.shape == patches.ilr.shape
            assert patches.hr.max() <= 1


@cases(20, 1500)
def test_image_sets(examples):
    names = st.sampled_from(["Set6", "set5", "samples-test", "samples-test+", "+", "a/b", "~", "."])

    @check(examples, dataset=sets | names | st.text(max_size=5) | names.map(Path))
    def _(dataset):
        loaded = call(load_images, (TypeError, ValueError, OSError), dataset=dataset)
        hashed = call(data_hash, (TypeError, ValueError, OSError), dataset=dataset)
        if loaded is not None:
            assert len(hashed) == 64
            assert all(image.dtype == np.uint8 for image in loaded.values())
            expected = SAMPLES["samples-test"] if isinstance(dataset, str) else dataset
            assert len(loaded) == len(expected)


def write(path, kind, pixels):
    """Write a file of some kind, and return its pixels if a folder may hold it, else why not."""
    if kind == "text":
        path.write_text("no picture")
        return "cannot read"
    if kind == "damaged":
        Image.fromarray(pixels[..., :3]).save(path)
        path.write_bytes(path.read_bytes()[:-40])
        return "cannot read"
    array = {
        "RGB": pixels[..., :3],
        "grey": pixels[..., 0],
        "bilevel": pixels[..., 0] > 127,
        "opaque": np.dstack([pixels[..., :3], np.full_like(pixels[..., 0], 255)]),
        "clear": np.dstack([pixels[..., :3], np.zeros_like(pixels[..., 0])]),
        "16 bits": pixels[..., 0].astype(np.uint16),
    }[kind]
    Image.fromarray(array).save(path)
    wrong = {"clear": "transparency", "16 bits": "more than 8 bits a channel"}.get(kind)
    expected = {"opaque": pixels[..., :3], "bilevel": np.uint8(255) * (pixels[..., 0] > 127)}
    return wrong or expected.get(kind, array)


@cases(20, 1000)
def test_folders(examples):
    kinds = ["RGB"] * 4 + ["grey", "bilevel", "opaque", "clear", "16 bits", "text", "damaged"]
    files = st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "Ü", "c.d", "e f", ".g", "a+b"]),
            st.sampled_from([".png", ".PNG", ".tif", ".txt", ""]),
            st.sampled_from(kinds),
        ),
        max_size=4,
        unique_by=lambda file: file[:2],
    )

    @check(examples, files=files, seed=st.integers(0, 9), height=st.integers(9, 20))
    def _(files, seed, height):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, 12, 4), np.uint8)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "mine"
            folder.mkdir()
            expected = {}
            for stem, suffix, kind in files:
                file = folder / f"{stem}{suffix}"
                if suffix.lower() in SUFFIXES:
                    result = write(file, kind, pixels)
                    if stem[0] != ".":
                        expected[file.name] = result
                else:
                    file.write_text("not looked at")
            stems = [Path(name).stem for name in expected]
            try:
                images = load_images(folder)
            except (ValueError, OSError) as error:
                message = str(error)
                assert str(folder) in message
                assert re.search("which has none|take it out of the folder|rename one", message)
                wrong = [n for n, e in expected.items() if isinstance(e, str)]
                twice = [s for s in stems if stems.count(s) > 1]
                assert not expected or any(n in message for n in wrong) or twice
            else:
                assert [*images] == [Path(name).stem for name in sorted(expected)]
                for name, result in expected.items():
                    assert np.array_equal(images[Path(name).stem], result)
                assert data_hash(folder) == data_hash(folder)


def test_a_training_on_ones_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VDSR_RUNS_DIR", str(tmp_path / "runs"))
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        image = load_images("samples-test")["chelsea"][:90, :100]
        Image.fromarray(image).save(tmp_path / name / "cat.png")
    config = TrainConfig(
        depth=2, width=2, epochs=1, batch_size=2, scales=(2,), eval_scales=(2,),
        train_set=str(tmp_path / "train"), eval_sets=(str(tmp_path / "test"), "samples-test"),
    )  # fmt: skip
    run = train(config)
    assert [*run.history.dataset] == [str(tmp_path / "test"), "samples-test"]
    score = evaluate(run.model, tmp_path / "test", 2).psnr[0]
    assert run.history.psnr[0] == pytest.approx(score)
    Image.fromarray(image[::-1]).save(tmp_path / "train" / "cat.png")
    assert train(config).id != run.id
