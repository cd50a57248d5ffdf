import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from skimage.io import imsave

from vdsr import VDSR, TrainConfig, load_images, machine
from vdsr.train import Trainer

ROOT = Path(__file__).parents[1]

settings.register_profile("no deadline", deadline=None)  # the machine may be busy
settings.load_profile("no deadline")

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)

# Runs at the start of the book's build: what a reader's build must do without is out of reach.
GUARD = """
import sys

def guard(event, args):
    if event == "import" and args[0].partition(".")[0] == "torch":
        raise RuntimeError("building the book must not import torch")
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"building the book must not use the network: {args}")

sys.addaudithook(guard)
"""


@pytest.fixture
def data_dir():
    """The folder of downloaded images, for tests of numbers that only real images have."""
    folder = os.environ.get("VDSR_DATA_DIR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("VDSR_DATA_DIR is not set: this test needs the downloaded images")
    return Path(folder)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Keep runs and ledger of the project out of reach; the configs of all trainings begun."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(machine, "commit", lambda: ("abc", ""))
    monkeypatch.delenv("VDSR_RUNS_DIR", raising=False)
    trained, fit = [], Trainer.fit

    def counting(self, **options):
        trained.append(self.config)
        fit(self, **options)

    monkeypatch.setattr(Trainer, "fit", counting)
    return trained


@pytest.fixture(scope="session")
def build_book():
    """Return a function that builds the book as a reader with no torch and no network would."""
    jupyter_book = shutil.which("jupyter-book", path=Path(sys.executable).parent)
    if jupyter_book is None:
        pytest.skip("jupyter-book is not installed")

    def build(clone, *flags, toc=None, runtime=True):
        for name in ("book", "results", "vdsr"):
            ignored = shutil.ignore_patterns("notebooks") if name == "book" else None
            shutil.copytree(ROOT / name, clone / name, ignore=ignored)
        shutil.copy(ROOT / "_config.yml", clone)
        if toc is not None:
            (clone / "book" / "_toc.yml").write_text(toc)
        # What make book has fetched for the page Try it.
        if runtime and (ROOT / "_build" / "tryit").exists():
            shutil.copytree(ROOT / "_build" / "tryit", clone / "_build" / "tryit")
        (clone / "guard").mkdir()
        (clone / "guard" / "sitecustomize.py").write_text(GUARD)
        build = subprocess.run(
            [jupyter_book, "build", "book/", *flags],
            cwd=clone,
            env=os.environ | {"PYTHONPATH": str(clone / "guard")},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert build.returncode == 0, build.stdout + build.stderr
        return clone / "_build" / "html"

    return build


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder with one small grey picture, of 18 patches at ×2 and ×3."""
    folder = tmp_path_factory.mktemp("pictures")
    imsave(folder / "astronaut.png", load_images("samples-test")["astronaut"][:130, 150:280, 0])
    return str(folder)


@pytest.fixture
def tiny(folder):
    """A run of two epochs, of six steps each, scored after each of them at ×2."""
    return TrainConfig(
        depth=3, width=4, epochs=2, decay_epochs=1, train_set=folder, scales=(2, 3), batch_size=3,
        eval_sets=(folder,), eval_scales=(2,),
    )  # fmt: skip


@pytest.fixture(scope="session")
def silent():
    """A network that adds nothing, so that what is left is interpolation."""
    model = VDSR(depth=2, width=1)
    torch.nn.init.zeros_(model.layers[-1].weight)
    torch.nn.init.zeros_(model.layers[-1].bias)
    return model


@pytest.fixture(scope="session")
def html(build_book, tmp_path_factory):
    """The whole book; any warning is an error."""
    return build_book(tmp_path_factory.mktemp("clone"), "-W", "-n", "--keep-going")


@pytest.fixture(scope="session")
def site(html):
    """The address of the built book, served as a web server would."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=html))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def launch(tmp_path_factory):
    """Return a function that starts a Chromium, with some further flags."""
    chromium, driver = (
        next(filter(None, map(shutil.which, names)), None)
        for names in [("chromium", "chromium-browser", "google-chrome"), ("chromedriver",)]
    )
    if not (chromium and driver):
        pytest.skip("no Chromium with its driver is installed")
    from selenium import webdriver  # which a machine with a GPU need not have

    browsers = []

    def start(*flags):
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*FLAGS.split(), *flags):
            options.add_argument(flag)
        options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        browsers.append(webdriver.Chrome(options, webdriver.ChromeService(driver)))
        return browsers[-1]

    yield start
    for browser in browsers:
        browser.quit()


@pytest.fixture(scope="session")
def browser(launch):
    return launch()
