import hashlib
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image

from vdsr import data, load_images
from vdsr.patches import Patches


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
    assert [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()] == [".lock"]


# Without the package's __init__, which takes seconds to import torch.
DOWNLOAD = """
import sys, types
import pandas as pd
sys.modules["vdsr"] = package = types.ModuleType("vdsr")
package.__path__ = ["vdsr"]
from vdsr import data
data._registry = lambda: pd.read_csv(sys.argv[1], index_col=0)
data.fetch(["weights/net.mat"])
"""


def test_killed_download_leaves_nothing_behind(origin, tmp_path, monkeypatch):
    """A process is killed with half of a file in the cache; the next one cleans up."""
    half, go_on = threading.Event(), threading.Event()

    class Stalls(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "7")
            self.end_headers()
            self.wfile.write(b"wei")
            self.wfile.flush()
            half.set()
            go_on.wait(60)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalls)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stalls = data._registry().assign(url=f"http://127.0.0.1:{server.server_port}/net.mat")
    stalls.to_csv(tmp_path / "registry.csv")
    command = [sys.executable, "-c", DOWNLOAD, str(tmp_path / "registry.csv")]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    assert half.wait(60)
    folder = tmp_path / "cache" / "weights"
    while not any(p.name.startswith("tmp") for p in folder.iterdir()):  # it is made first
        pass
    process.kill()
    process.wait()
    go_on.set()
    server.shutdown()
    server.server_close()
    assert [p.name[:3] for p in folder.iterdir()] == ["tmp"]
    (folder / "tmp notes").touch()  # not a name that a temporary file has
    assert data.fetch(["weights/net.mat"])[0].read_bytes() == b"weights"
    assert sorted(p.name for p in folder.iterdir()) == ["net.mat", "tmp notes"]


def test_a_download_waits_for_another_process(origin, tmp_path):
    """What another process is downloading is no leftover."""
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    part = folder / "tmpabcdefgh"
    part.touch()
    thread = threading.Thread(target=data.fetch, args=(["weights/net.mat"],))
    with FileLock(tmp_path / "cache" / ".lock"):
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        assert part.exists()
    thread.join()
    assert [p.name for p in folder.iterdir()] == ["net.mat"]


def test_cache_folder_that_cannot_be_written(origin, tmp_path, monkeypatch):
    monkeypatch.setenv("VDSR_DATA_DIR", str(origin))
    with pytest.raises(OSError, match=r"cannot write to .*net\.mat.*VDSR_DATA_DIR"):
        data.fetch(["weights/net.mat"])


def test_home_in_the_cache_folders_name(origin, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VDSR_DATA_DIR", "~/images")
    assert data.fetch(["weights/net.mat"]) == [tmp_path / "images" / "weights" / "net.mat"]


@pytest.mark.parametrize("paths", [["Set5/nobody.bmp"], "weights/net.mat", [None]])
def test_file_that_is_not_registered(origin, paths):
    with pytest.raises(ValueError, match=r"paths must be a list of names in vdsr/registry\.csv"):
        data.fetch(paths)


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
    sets = data._files()
    counts |= {"BSD10": 10, "BSD190": 190}
    assert {name: len(files) for name, files in sets.items()} == counts
    assert sorted(sets["BSD10"] + sets["BSD190"]) == sorted(sets["BSD200"])


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
    data._registered_hash.cache_clear()
    assert data.data_hash("Set5") != before
    data._registered_hash.cache_clear()


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("Set5", "8e55f545"),
        ("T91+BSD200", "e317d843"),
        ("samples-test", "135a47bb"),
        ("samples-train", "68252b82"),
    ],
)
def test_hashes_that_recorded_runs_are_made_of(name, start):
    """The identity of every recorded run has them in it."""
    assert data.data_hash(name)[:8] == start


@pytest.fixture
def folder(tmp_path):
    """Three pictures of one's own, among other things, with the pixels of the first."""
    folder = tmp_path / "mine"
    (folder / "inner").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "b.png")
    Image.fromarray(pixels).save(folder / "inner" / "c.png")
    Image.fromarray(pixels).save(folder / "._b.png")
    Image.fromarray(pixels).save(folder / "a.JPG")
    Image.fromarray(pixels[..., 0]).save(folder / "c.tif")
    (folder / "notes.txt").write_text("mine")
    return folder


def test_own_folder(folder, monkeypatch):
    images = load_images(folder)
    assert [*images] == ["a", "b", "c"]
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    assert np.array_equal(images["b"], pixels)
    assert np.array_equal(images["c"], pixels[..., 0])
    images["b"][:] = 0  # the caller's own
    assert np.array_equal(load_images(str(folder))["b"], pixels)
    monkeypatch.chdir(folder.parent)
    assert [*load_images("mine")] == [*load_images("./mine/")] == ["a", "b", "c"]
    joined = load_images("samples-test+mine")
    assert [*joined] == ["astronaut", "chelsea", "a", "b", "c"]
    monkeypatch.setenv("HOME", str(folder.parent))
    assert [*load_images("~/mine")] == ["a", "b", "c"]


def test_own_folder_is_trained_on(folder):
    patches = Patches(str(folder), (2,), size=20)
    assert len(patches) == 3 * 3 * 2  # 60 × 50 pixels
    assert len(Patches([*load_images(folder).values()], (2, 3), size=20)) == 2 * len(patches)


def test_a_folder_with_an_image_sets_name(folder, monkeypatch):
    """A name is the image set's wherever one works; a path is a folder's."""
    monkeypatch.chdir(folder.parent)
    own = folder.rename(folder.parent / "samples-test").relative_to(folder.parent)
    assert [*load_images("samples-test")] == ["astronaut", "chelsea"]
    assert [*load_images("./samples-test")] == [*load_images(own)] == ["a", "b", "c"]
    assert data.dataset_name(own) == "./samples-test"
    assert data.dataset_name("samples-test") == "samples-test"
    both = own.rename("samples-test+samples-train")
    assert "astronaut" in load_images("samples-test+samples-train")
    assert [*load_images(data.dataset_name(both))] == ["a", "b", "c"]
    plus = both.rename("mine+yours")
    assert [*load_images("mine+yours")] == [*load_images(plus)] == ["a", "b", "c"]
    assert data.dataset_name(plus) == "mine+yours"


def test_hash_of_own_images(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    before = data.data_hash("mine")
    assert data.data_hash(folder) == data.data_hash(str(folder)) == before
    assert data.data_hash("samples-test+mine") != data.data_hash("mine+samples-test")
    assert data.data_hash("samples-test+mine") != data.data_hash("samples-train+mine")
    (folder / "notes.txt").write_text("no picture")
    assert data.data_hash("mine") == before
    stamp = (folder / "b.png").stat()
    raw = bytearray((folder / "b.png").read_bytes())
    raw[-20] ^= 1
    (folder / "b.png").write_bytes(raw)
    os.utime(folder / "b.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    changed = data.data_hash("mine")
    assert changed != before
    (folder / "b.png").rename(folder / "d.png")
    assert data.data_hash("mine") not in (before, changed)
    image = np.zeros((20, 30), np.uint8)
    hashes = [
        data.data_hash(images)
        for images in ({"a": image}, {"b": image}, [image], [image, image], {"a": image.T},
                       {"a": image + np.uint8(1)})
    ]  # fmt: skip
    assert len(set(hashes)) == 6
    assert data.data_hash({"a": image.copy()}) == hashes[0]


def test_images_by_name_and_in_a_list():
    image = np.zeros((4, 5), np.uint8)
    assert load_images({"x": image}) == {"x": image}
    assert [*load_images((image, image))] == ["0", "1"]
    mine = {"x": image}
    load_images(mine).clear()
    assert [*mine] == ["x"]


def test_what_is_no_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"a folder of pictures, got './no'.*not exist"):
        load_images("./no")
    with pytest.raises(FileNotFoundError, match=r"got 'no'.*does not exist"):
        load_images(Path("no"))
    with pytest.raises(NotADirectoryError, match=r"b\.png', which is a file; give its folder"):
        load_images("mine/b.png")
    with pytest.raises(ValueError, match=r"unknown image set 'no'; known are .*Set5"):
        load_images("samples-test+no")
    for empty in ("", "samples-test+"):
        with pytest.raises(ValueError, match="unknown image set ''"):
            load_images(empty)
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"pictures directly in it.*\.png.*got 'empty'"):
        load_images("empty")


def test_one_name_twice(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    Image.new("L", (9, 9)).save(folder / "b.bmp")
    with pytest.raises(ValueError, match=r"name once, got two files named 'b' in 'mine'; rename"):
        load_images("mine")
    (folder / "b.bmp").rename(folder / "chelsea.bmp")
    with pytest.raises(ValueError, match=r"name once, got 'chelsea' twice in 'samples-test\+mine'"):
        load_images("samples-test+mine")
