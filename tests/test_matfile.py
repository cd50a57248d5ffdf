import os
import random

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from vdsr import data, load_matconvnet
from vdsr.matfile import read_mat


def cells(*values):
    """Return what savemat makes a cell array of."""
    array = np.empty(len(values), object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def network(width=2, depth=3, kind=np.float32):
    """Return weights and biases as MatConvNet has them."""
    rng = np.random.default_rng(0)
    channels = [1, *[width] * (depth - 1), 1]
    weights = [rng.normal(size=(3, 3, *channels[i : i + 2])).astype(kind) for i in range(depth)]
    return weights, [rng.normal(size=n).astype(kind) for n in channels[1:]]


def write(path, weights, biases, **options):
    savemat(path, {"model": {"weight": cells(*weights), "bias": cells(*biases)}}, **options)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_reads_what_scipy_writes(tmp_path, packed):
    rng = np.random.default_rng(0)
    numbers = {
        kind: (100 * rng.normal(size=(3, 4, 2))).astype(kind)
        for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
    }
    others = {"text": "abc", "complex": 1j, "bool": True, "empty": [], "row": [1, 2]}
    others |= {"list": cells(1, cells(2.5, "x")), "struct": {"a": 1, "long_name": cells()}}
    savemat(tmp_path / "a.mat", numbers | others, do_compression=packed)
    read = read_mat(tmp_path / "a.mat")
    for name, value in numbers.items():
        assert np.array_equal(read[name], value)
        assert read[name].dtype == value.dtype
    assert read["complex"] is None
    assert read["bool"] == 1
    assert read["empty"].size == 0
    assert read["row"].tolist() == [[1, 2]]
    assert read["list"][0] == 1
    assert read["list"][1] == [2.5, None]
    assert read["struct"] == {"a": 1, "long_name": []}


def test_reads_what_matlab_wrote(data_dir):
    for path in ("matlab/butterfly_x3.mat", "weights/VDSR_Official.mat"):
        [path] = data.fetch([path])
        read, expected = read_mat(path), loadmat(path)
        for name in {name for name in expected if name[:2] != "__"} - {"model"}:
            assert np.array_equal(read[name], expected[name])
    for field in ("weight", "bias"):
        arrays = expected["model"][field].item().ravel()
        assert all(map(np.array_equal, read["model"][field], arrays))
        assert len(arrays) == 20


# A single 1×1 double named x, 1.5, as a big-endian machine's MATLAB writes it.
WORDS = [14, 56, 6, 8, 6, 0, 5, 8, 1, 1, 0x00010001, 0x78000000, 9, 8, 0x3FF80000, 0]


def big_endian(path, **changed):
    """Write the words above, some of them changed by their place."""
    words = np.array(WORDS, ">u4")
    for place, word in changed.items():
        words[int(place[1:])] = word
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + words.tobytes())
    return path


def test_the_other_order_of_bytes(tmp_path):
    assert read_mat(big_endian(tmp_path / "a.mat"))["x"] == 1.5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"w0": 13}, "element of type 13 is no array"),
        ({"w1": 64}, "longer than what holds it"),
        ({"w7": 4}, r"cannot be of shape \[1\]"),
        ({"w8": 2**32 - 1}, r"cannot be of shape \[-1, 1\]"),
        ({"w8": 2**31 - 1}, "cannot reshape"),
        ({"w10": 0x00050001}, "longer than what holds it"),
        ({"w11": 0xFF000000}, "ascii"),
        ({"w12": 8}, "KeyError: 8"),  # on which SciPy ends Python
        ({"w12": 2**16 - 1}, "KeyError: 65535"),
    ],
)
def test_every_part_is_checked(tmp_path, changed, message):
    path = big_endian(tmp_path / "a.mat", **changed)
    with pytest.raises(ValueError, match=rf"it is damaged \(.*{message}"):
        read_mat(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("width", "depth"), [(1, 2), (2, 3), (5, 4)])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_networks(tmp_path, packed, width, depth, kind):
    weights, biases = network(width, depth, kind)
    model = load_matconvnet(write(tmp_path / "a.mat", weights, biases, do_compression=packed))
    convolutions = model.layers[::2]
    assert len(convolutions) == depth
    for convolution, w, b in zip(convolutions, weights, biases, strict=True):
        assert np.array_equal(convolution.weight.detach(), np.float32(w.transpose(3, 2, 0, 1)))
        assert np.array_equal(convolution.bias.detach(), np.float32(b))
    assert not model.training


def spoil(what):
    """Return weights and biases of which something is wrong."""
    weights, biases = network()
    match what:
        case "5×5 kernels":
            weights[1] = np.ones((5, 5, 2, 2))
        case "other channels":
            weights[1] = np.ones((3, 3, 2, 3))
        case "torch's order":
            weights = [w.transpose(3, 2, 0, 1) for w in weights]
        case "one bias more":
            biases.append(biases[-1])
        case "no layer":
            weights, biases = [], []
        case "one layer":
            weights, biases = weights[:1], [np.ones(2)]
        case "long bias":
            biases[1] = np.ones(3)
        case "square bias":
            biases = [np.ones((2, 2)), np.ones((2, 2)), np.ones(1)]
        case "text":
            weights[2] = "weights"
        case "struct":
            weights[2] = {"a": 1}
        case "cells in a cell":
            weights[2] = cells(*weights)
        case "complex":
            weights[2] = weights[2] * 1j
        case "nan":
            weights[2][0, 0] = np.nan
        case "infinity":
            biases[2][0] = np.inf
        case "beyond float32":
            weights[2] = np.full(weights[2].shape, 1e300)
        case "empty":
            biases = [np.ones(0), np.ones(0), np.ones(1)]
    return weights, biases


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("5×5 kernels", r"its weights 2 are \(5, 5, 2, 2\), not \(3, 3, 2, 2\)"),
        ("other channels", r"its weights 2 are \(3, 3, 2, 3\), not"),
        ("torch's order", r"its weights 1 are \(2, 1, 3, 3\), not"),
        ("one bias more", "it has 3 weights and 4 biases"),
        ("no layer", "it has 0 weights and 0 biases"),
        ("one layer", "it has 1 weights and 1 biases"),
        ("long bias", r"its biases 2 are \(1, 3\), not \(1, 2\)"),
        ("square bias", r"its weights 1 are \(3, 3, 1, 2\), not \(3, 3, 1, 4\)"),
        ("text", r"its weights 3 are"),
        ("struct", r"its weights 3 are"),
        ("cells in a cell", r"its weights 3 are"),
        ("complex", r"its weights 3 are"),
        ("nan", "its weights 3 are not all finite"),
        ("infinity", "its biases 3 are not all finite"),
        ("beyond float32", "its weights 3 are not all finite"),
        ("empty", r"its weights 1 are \(3, 3, 1, 2\), not \(3, 3, 1, 0\)"),
    ],
)
def test_what_is_no_network(tmp_path, what, message):
    path = write(tmp_path / "net.mat", *spoil(what))
    with pytest.raises(ValueError, match=rf"net\.mat does not hold a MatConvNet VDSR: {message}"):
        load_matconvnet(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"other": 1}, "no struct `model` with the fields"),
        ({"model": 1}, "no struct `model` with the fields"),
        ({"model": {"weight": cells(1)}}, "no struct `model` with the fields"),
        ({"model": {"weight": np.ones(3), "bias": cells(1)}}, "no cell arrays"),
        ({"model": {"weight": cells(1, 2), "bias": "b"}}, "no cell arrays"),
    ],
)
def test_foreign_variables(tmp_path, content, message):
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(ValueError, match=rf"a\.mat does not hold .*{message}"):
        load_matconvnet(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no .mat file"),
        (b"text" * 99, "no .mat file"),
        (b"\x80\x04cbuiltins\nexit\n.", "no .mat file"),
        (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n", r"HDF5.*save\(\.\.\., '-v7'\)"),
        (b"\x89HDF\r\n\x1a\n" + bytes(500), r"HDF5.*save\(\.\.\., '-v7'\)"),
    ],
)
def test_foreign_files(tmp_path, content, message):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.mat does not hold .*{message}"):
        load_matconvnet(tmp_path / "a.mat")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.mat"):
        load_matconvnet(tmp_path / "no.mat")
    with pytest.raises(IsADirectoryError):
        load_matconvnet(tmp_path)
    for path in (None, 0, b"a.mat", ["a.mat"]):
        with pytest.raises(TypeError, match="path must be the path of a file, got"):
            load_matconvnet(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("count", [100, pytest.param(3000, marks=pytest.mark.slow)])
def test_damaged_files(tmp_path, packed, count):
    """A byte that is wrong, or a lost end, is an error or other numbers, and nothing worse."""
    path = write(tmp_path / "a.mat", *network(), do_compression=packed)
    whole, rng, refused = path.read_bytes(), random.Random(0), 0
    for i in range(count):
        damaged = bytearray(whole)
        if i % 5:
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        else:
            del damaged[rng.randrange(len(whole)) :]
        path.write_bytes(damaged)
        try:
            load_matconvnet(path)
        except ValueError as error:
            assert f"{os.fspath(path)} does not hold a MatConvNet VDSR: " in str(error)
            refused += 1
        else:
            assert i % 5, "what is cut off is missed"
    assert refused > count / 5
