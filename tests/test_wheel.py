"""A wheel made of a source distribution, in an environment of its own and far from the clone."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from pathlib import Path

import vdsr
from vdsr import data, machine, runs
from vdsr.study import paper

installed = Path(vdsr.__file__)
assert installed.is_relative_to(sys.prefix), installed
assert machine.ROOT == Path.cwd() / "vdsr-study", machine.ROOT
Path("results").mkdir()
Path("results/scores.csv").write_text("somebody,1")  # which is nothing of ours
assert {"Set5", "T91"} <= {*data.dataset_names()}
assert len(paper.table("table3"))

picture = vdsr.load_images("samples-test")["astronaut"][100:160, 200:250]
network = vdsr.load_pretrained()
assert vdsr.upscale(picture, 2.5, model=network).shape == (150, 125, 3)
scores = [vdsr.evaluate(each, [picture], 2).psnr[0] for each in (None, network)]
assert scores[1] > scores[0] + 0.3, scores

config = vdsr.TrainConfig(depth=2, width=2, epochs=None, steps=2, schedule="constant",
                          decay_epochs=None, train_set="samples-test", scales=(2,), batch_size=4,
                          eval_sets=(), eval_scales=())
run = vdsr.train(config)
assert run.record["updates"] == 2
assert machine.ROOT / "runs" / f"{run.id}.safetensors" == runs.checkpoint(run.id)
assert not (machine.ROOT / "results").exists()  # nothing was recorded
assert runs.checkpoint(run.id).exists()
print(run.id)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The path of a wheel, built from the source distribution of what is in the clone."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "vdsr", source / "vdsr", ignore=unwanted)
    # With no list of what is to be built, it makes the wheel out of the source distribution.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    [path] = (source / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with the wheel in it, and the other packages within its reach."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, capture_output=True, text=True)
    # What stands in .pth files there is not followed, so that the clone stays out of reach.
    others = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (packages / "others.pth").write_text("\n".join(sorted(others)))
    return folder


def run(environment, tmp_path, *command):
    """Return what a command prints that runs in the environment and in an empty folder."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("VDSR_", "PYTHON"))}
    done = subprocess.run(
        [environment / "bin" / command[0], *command[1:]], cwd=tmp_path, env=kept,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_holds_the_package_and_its_data(wheel):
    kinds = {".py", ".csv", ".safetensors"}
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "vdsr").rglob("*")
        if path.suffix in kinds
    }
    assert {"vdsr/pretrained.safetensors", "vdsr/registry.csv"} < expected
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
    assert held == expected


def test_wheel_works_outside_the_clone(environment, tmp_path):
    """Import, enlarging, scoring, and a training whose checkpoint lies where it was started."""
    identity = run(environment, tmp_path, "python", "-W", "error", "-c", SCRIPT).strip()
    assert [path.name for path in (tmp_path / "vdsr-study" / "runs").glob("*.safetensors")] == [
        f"{identity}.safetensors"
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"vdsr-study", "results"}


def test_command_works_outside_the_clone(environment, tmp_path):
    Image.new("RGB", (20, 30), "teal").save(tmp_path / "a.png")
    run(environment, tmp_path, "vdsr", "upscale", "a.png", "--scale", "2", "-o", "b.png")
    with Image.open(tmp_path / "b.png") as larger:
        assert larger.size == (40, 60)
    assert "0.1.0" in run(environment, tmp_path, "vdsr", "--version")
    run(environment, tmp_path, "vdsr", "ledger", "--check")  # of results/, where nothing is yet
