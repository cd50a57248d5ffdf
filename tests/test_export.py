import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.io import imsave

from vdsr import (
    SRCNN,
    VDSR,
    export_onnx,
    load_images,
    load_pretrained,
    receptive_field,
    upscale,
)
from vdsr.__main__ import main
from vdsr.model import init_

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[1]
NETWORKS = {
    "shipped": load_pretrained,
    "dilated": lambda: VDSR(depth=4, width=8, dilation=3),
    "no shortcut": lambda: VDSR(depth=3, width=5, residual=False),
    "no biases": lambda: VDSR(depth=3, width=4, bias=False),
    "shallowest": lambda: VDSR(depth=2, width=1),
}


def run(path, ilr):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [sr] = session.run(["sr"], {"ilr": ilr})
    return sr


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runtime_agrees_with_pytorch_at_any_size(tmp_path, name):
    model = NETWORKS[name]()
    if name != "shipped":
        init_(model, last_scale=0.5, generator=torch.Generator().manual_seed(0))
        for conv in model.layers[::2] if name != "no biases" else ():
            torch.nn.init.normal_(conv.bias, std=0.1)  # or a lost bias would not be seen
    export_onnx(tmp_path / "network.onnx", model=model)
    for shape in [(1, 1, 48, 64), (1, 1, 37, 5), (3, 1, 9, 21)]:
        ilr = np.random.default_rng(0).random(shape, dtype=np.float32)
        with torch.inference_mode():
            wanted = model(torch.from_numpy(ilr)).numpy()
        assert np.abs(wanted - ilr).max() > 1e-2  # the network does something
        np.testing.assert_allclose(run(tmp_path / "network.onnx", ilr), wanted, rtol=0, atol=1e-4)


def test_shell_writes_the_shipped_network(tmp_path):
    assert main(["export", str(tmp_path / "network.onnx")]) == 0
    export_onnx(tmp_path / "same.onnx")
    written = (tmp_path / "network.onnx").read_bytes()
    assert written == (tmp_path / "same.onnx").read_bytes()
    parameters = sum(p.numel() for p in load_pretrained().parameters())
    assert len(written) - 4 * parameters < 10_000
    assert {p.name for p in tmp_path.iterdir()} == {"network.onnx", "same.onnx"}


def test_what_cannot_be_written_is_named(tmp_path, capsys):
    with pytest.raises(TypeError, match="only a VDSR can be exported, got SRCNN"):
        export_onnx(tmp_path / "network.onnx", model=SRCNN())
    model = VDSR(2, 2)
    torch.nn.init.constant_(model.layers[0].weight, torch.nan)
    with pytest.raises(ValueError, match=r"layers\.0\.weight has NaN or infinite values"):
        export_onnx(tmp_path / "network.onnx", model=model)
    with pytest.raises(ValueError, match="on the device 'meta'"):
        export_onnx(tmp_path / "network.onnx", model=VDSR(2, 2).to("meta"))
    (tmp_path / "folder.onnx").mkdir()
    assert main(["export", str(tmp_path / "folder.onnx")]) == 1
    said = f"vdsr export: '{tmp_path / 'folder.onnx'}' is a folder; name the file to write"
    assert capsys.readouterr().err.startswith(said)
    for name, message in [
        ("", "'' is a folder"), ("new/", "'new/' is a folder"),
        ("no/net.onnx", "there is no folder"),
        ("/proc/net.onnx", "/proc/net.onnx cannot be written: "),
    ]:  # fmt: skip
        with pytest.raises(OSError, match=message):
            export_onnx(name)
    with pytest.raises(TypeError, match="path must be the path of a file, got None"):
        export_onnx(None)
    assert {p.name for p in tmp_path.iterdir()} == {"folder.onnx"}


class Other(VDSR):
    def forward(self, ilr):
        return super().forward(ilr) / 2


@pytest.mark.parametrize(
    ("place", "layer"),
    [
        (1, torch.nn.LeakyReLU(0.3)), (3, torch.nn.Identity()), (0, torch.nn.Identity()),
        (2, torch.nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
        (2, torch.nn.Conv2d(4, 4, 3, padding=1, groups=2)), (4, torch.nn.Conv2d(4, 1, 1)),
    ],
)  # fmt: skip
def test_other_layers_are_refused(tmp_path, place, layer):
    model = VDSR(depth=3, width=4)
    model.layers[place] = layer
    with pytest.raises(
        TypeError, match=f"layer {place} must be .*, got {layer.__class__.__name__}"
    ):
        export_onnx(tmp_path / "network.onnx", model=model)
    assert not [*tmp_path.iterdir()]


def hooked(model):
    model.layers[1].register_forward_hook(lambda *_: None)


def replaced(model):
    model.layers[0].forward = lambda x: x


def normed(model):
    torch.nn.utils.parametrizations.weight_norm(model.layers[2])


def buffered(model):
    model.layers[2].register_buffer("mask", torch.ones(1))


@pytest.mark.parametrize("change", [hooked, replaced, normed, buffered])
def test_layers_that_compute_otherwise_are_refused(tmp_path, change):
    model = VDSR(depth=3, width=4)
    change(model)
    with pytest.raises(TypeError, match="be exported"):
        export_onnx(tmp_path / "network.onnx", model=model)
    assert not [*tmp_path.iterdir()]


def test_exporting_draws_no_random_numbers(tmp_path):
    torch.manual_seed(0)
    export_onnx(tmp_path / "network.onnx", model=load_pretrained())
    drawn = torch.rand(1)
    torch.manual_seed(0)
    load_pretrained()
    assert torch.equal(drawn, torch.rand(1))


def test_what_computes_otherwise_or_has_more_layers_is_refused(tmp_path):
    with pytest.raises(TypeError, match="only a VDSR can be exported, got Other"):
        export_onnx(tmp_path / "network.onnx", model=Other(3, 4))
    model = VDSR(depth=3, width=4)
    model.layers.append(torch.nn.ReLU())
    with pytest.raises(TypeError, match="layer 5 must be None, got ReLU"):
        export_onnx(tmp_path / "network.onnx", model=model)
    model.layers = torch.nn.Sequential()
    with pytest.raises(TypeError, match=r"layer 0 must be Conv2d\(.*, got None"):
        export_onnx(tmp_path / "network.onnx", model=model)


def test_without_onnx_the_remedy_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(tmp_path / "network.onnx")]) == 1
    assert "pip install onnx" in capsys.readouterr().err


def test_importing_the_package_needs_no_onnx():
    code = "import sys, vdsr, vdsr.__main__; assert 'onnx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_page_try_it_says_how_the_file_is_used(tmp_path, monkeypatch):
    page = (ROOT / "book" / "tryit.md").read_text()
    [code] = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Session" in b]
    monkeypatch.chdir(tmp_path)
    imsave("photo.png", load_images("samples-test")["astronaut"][40:80, 160:216])
    export_onnx("network.onnx")
    space = {}
    exec(code.replace("photo.jpg", "photo.png"), space)
    wanted = upscale("photo.png", 3, precision="float32").astype(int)
    assert np.abs(space["larger"] - wanted).max() <= 1


def test_the_page_try_it_computes_tiles_with_all_that_the_network_sees():
    halo = int(re.search(r"HALO = (\d+)", (ROOT / "book" / "_tryit" / "page.js").read_text())[1])
    assert halo == receptive_field(load_pretrained()) // 2
