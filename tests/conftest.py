import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]

settings.register_profile("no deadline", deadline=None)  # the machine may be busy
settings.load_profile("no deadline")

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


@pytest.fixture(scope="session")
def html(tmp_path_factory):
    """The book as built by a reader with no torch and no network; any warning is an error."""
    jupyter_book = shutil.which("jupyter-book", path=Path(sys.executable).parent)
    if jupyter_book is None:
        pytest.skip("jupyter-book is not installed")
    clone = tmp_path_factory.mktemp("clone")
    for name in ("book", "results", "vdsr"):
        ignored = shutil.ignore_patterns("notebooks") if name == "book" else None
        shutil.copytree(ROOT / name, clone / name, ignore=ignored)
    shutil.copy(ROOT / "_config.yml", clone)
    (clone / "guard").mkdir()
    (clone / "guard" / "sitecustomize.py").write_text(GUARD)
    build = subprocess.run(
        [jupyter_book, "build", "book/", "-W", "-n", "--keep-going"],
        cwd=clone,
        env=os.environ | {"PYTHONPATH": str(clone / "guard")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    return clone / "_build" / "html"
