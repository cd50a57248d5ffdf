import hashlib
import http.server
import threading

import numpy as np
import pandas as pd
import pytest

from vdsr import data, load_images


@pytest.fixture
def origin(tmp_path, monkeypatch):
    """A registry of one file under eight names, on a server of our own; returns the file."""
    source = tmp_path / "origin" / "weights"
    source.mkdir(parents=True)
    file = source / "net.mat"
    file.write_bytes(b"weights")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=source)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    table = pd.DataFrame(
        {"sha256": hashlib.sha256(b"weights").hexdigest(),
         "url": f"http://127.0.0.1:{server.server_port}/net.mat"},
        index=["weights/net.mat", *(f"new/folder/{i}.mat" for i in range(7))],
    )  # fmt: skip
    monkeypatch.setattr(data, "_registry", lambda: table)
    monkeypatch.setenv("VDSR_DATA_DIR", str(tmp_path / "cache"))
    yield file
    server.shutdown()
    server.server_close()


def test_downloads_once(origin):
    [path] = data.fetch(["weights/net.mat"])
    assert path.read_bytes() == b"weights"
    origin.unlink()
    assert data.fetch(["weights/net.mat"]) == [path]


def test_many_at_once_into_a_new_folder(origin):
    paths = data.fetch([*data._registry().index])
    assert [p.read_bytes() for p in paths] == [b"weights"] * 8


def test_half_written_file_is_replaced(origin, tmp_path):
    path = tmp_path / "cache" / "weights" / "net.mat"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"wei")
    assert data.fetch(["weights/net.mat"])[0].read_bytes() == b"weights"


def test_wrong_hash_keeps_nothing(origin, tmp_path):
    origin.write_bytes(b"poison")
    with pytest.raises(OSError, match=r"cannot get weights/net.mat from http.*VDSR_DATA_DIR"):
        data.fetch(["weights/net.mat"])
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_no_network(origin, monkeypatch):
    table = data._registry().assign(url="http://127.0.0.1:9/net.mat")
    monkeypatch.setattr(data, "_registry", lambda: table)
    with pytest.raises(OSError, match="Try again with a network"):
        data.fetch(["weights/net.mat"])


def test_unknown_set():
    with pytest.raises(ValueError, match=r"unknown image set 'Set6'.*Set5"):
        load_images("Set6")


def test_registry_holds_every_set():
    counts = {"T91": 91, "BSD200": 200, "Set5": 5, "Set14": 14, "B100": 100, "Urban100": 100}
    assert {name: len(files) for name, files in data._files().items()} == counts | {"BSD10": 10}


def test_training_and_test_sets_share_no_image():
    hashes = data._registry().sha256.groupby(lambda path: path.split("/")[0]).agg(set)
    for test in ("Set5", "Set14", "B100", "Urban100"):
        for training in ("T91", "BSD200"):
            assert not hashes[test] & hashes[training]


def test_samples_need_no_download(monkeypatch):
    monkeypatch.setattr(data, "fetch", None)
    images = load_images("samples-train+samples-test")
    assert len(images) == 10
    assert all(image.dtype == np.uint8 for image in images.values())


def test_luma():
    black, white = np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)
    assert data.luma(black) == 16
    assert data.luma(white) == 235
    by_hand = 16 + (65.481 * 200 + 128.553 * 100 + 24.966 * 50) / 255  # 122.7
    assert data.luma(np.array([[[200, 100, 50]]], np.uint8)) == round(by_hand)
    grey = np.array([[0, 255]], np.uint8)
    assert data.luma(grey).tolist() == [[0, 255]]
    with pytest.raises(ValueError, match="uint8"):
        data.luma(np.zeros((2, 2, 3)))


def test_hash_follows_the_contents(monkeypatch):
    before = data.data_hash("Set5")
    changed = data._registry().copy()
    changed.loc["Set5/baby.bmp", "sha256"] = "0" * 64
    monkeypatch.setattr(data, "_registry", lambda: changed)
    data.data_hash.cache_clear()
    assert data.data_hash("Set5") != before
    data.data_hash.cache_clear()
