"""The command line: every command, what it refuses, and its exit status."""

import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

import vdsr
from vdsr import __main__ as cli
from vdsr import machine
from vdsr.study import STUDIES, bench, cluster, cost, publish, queue, table3
from vdsr.study.evidence import SEEDS


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.delenv("VDSR_RUNS_DIR", raising=False)
    return tmp_path


def calls(monkeypatch, owner, name, answer):
    """Replace a function; the list of the arguments it is called with."""
    seen = []

    def stand_in(*arguments, **options):
        seen.append((*arguments, *options.items()))
        return answer

    monkeypatch.setattr(owner, name, stand_in)
    return seen


def test_it_is_a_program():
    command = [sys.executable, "-m", "vdsr", "--version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == f"vdsr {vdsr.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: command"),
        (["train"], "invalid choice: 'train'"),
        (["study", "--hours", "0"], "must be a positive number of hours, got 0"),
        (["study", "--hours", "nan"], "must be a positive number of hours, got nan"),
        (["study", "--hours", "inf"], "must be a positive number of hours, got inf"),
        (["study", "--hours", "-1"], "must be a positive number of hours, got -1"),
        (["study", "--hours", "two"], "must be a positive number of hours, got two"),
        (["study", "--preset", "cpu"], "invalid choice: 'cpu'"),
        (["study", "--seeds", "0"], "argument --seeds: invalid choice: 0"),
        (["study", "--seeds", f"{SEEDS + 1}"], f"argument --seeds: invalid choice: {SEEDS + 1}"),
        (["study", "--workers", "0"], "must be auto or a number from 1 to 1024, got 0"),
        (["study", "--workers", "many"], "must be auto or a number from 1 to 1024, got many"),
        (["study", "--workers", "2", "--scheduler", "tcp://a:1"], "not allowed with argument"),
        (["ledger"], "required: --check"),
        (["upscale", "photo.jpg"], "required: -o/--output"),
        (["upscale", "photo.jpg", "-o", "big.png", "--scale", "twice"], "argument --scale: "),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_word(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_study_works_through_all_or_some(elsewhere, monkeypatch):
    seen = calls(monkeypatch, queue, "run", 7)
    assert cli.main(["study"]) == 7
    assert cli.main(["study", "noise", "srcnn", "--preset", "smoke", "--hours", "1.5",
                     "--seeds", f"{SEEDS}"]) == 7  # fmt: skip
    assert seen == [
        ([*STUDIES], "paper", ("hours", None), ("seeds", 1)),
        (["noise", "srcnn"], "smoke", ("hours", 1.5), ("seeds", SEEDS)),
    ]


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["--workers", "2"], (2, None)),
        (["--workers", "auto"], ("auto", None)),
        (["--scheduler", "tcp://host:8786"], (None, "tcp://host:8786")),
        (["--scheduler", ""], (None, "")),  # of which the cluster says that it is no address
    ],
)
def test_study_gives_runs_to_a_cluster(elsewhere, monkeypatch, arguments, asked):
    seen = calls(monkeypatch, queue, "run", 7)
    begun = calls(monkeypatch, cluster, "executor", nullcontext("an executor"))
    assert cli.main(["study", "noise", *arguments]) == 7
    assert begun == [asked]
    options = ("hours", None), ("seeds", 1), ("executor", "an executor")
    assert seen == [(["noise"], "paper", *options)]


def test_study_names_what_it_does_not_know(elsewhere, monkeypatch, capsys):
    seen = calls(monkeypatch, queue, "run", 0)
    assert cli.main(["study", "width", "noise"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("vdsr study: unknown study width; known are search_theta, noise,")
    assert not seen


def test_study_lists_and_trains_nothing(elsewhere, monkeypatch, capsys):
    seen = calls(monkeypatch, queue, "run", 0)
    monkeypatch.setattr(cost, "rate", lambda: 1.0)
    assert cli.main(["study", "noise", "--preset", "smoke", "--list"]) == 0
    _, noise, total = capsys.readouterr().out.splitlines()
    assert noise.split()[:3] == ["noise", "0", "4"]
    assert "4 missing" in total
    assert not seen


def test_publish_takes_names(monkeypatch):
    seen = calls(monkeypatch, publish, "publish", 0)
    assert cli.main(["publish"]) == cli.main(["publish", "resizing"]) == 0
    assert seen == [(None,), (["resizing"],)]


def test_publish_names_what_it_does_not_know(capsys):
    assert cli.main(["publish", "width"]) == 1
    assert capsys.readouterr().err.startswith("vdsr publish: unknown notebook width; known are")


def test_release_says_what_ships(monkeypatch, capsys):
    seen = calls(monkeypatch, table3, "release", "0123456789ab")
    assert cli.main(["release"]) == 0
    assert seen == [("paper",)]
    assert "run 0123456789ab is now" in capsys.readouterr().out


def test_release_of_nothing_fails(elsewhere, capsys):
    assert cli.main(["release"]) == 1
    assert "vdsr release: no run of the benchmark is recorded" in capsys.readouterr().err


def test_ledger_is_whole(capsys):
    assert cli.main(["ledger", "--check"]) == 0
    assert capsys.readouterr().out == f"The ledger in {machine.ROOT / 'results'} is whole.\n"


def test_ledger_that_is_damaged_is_named(elsewhere, capsys):
    (elsewhere / "results").mkdir()
    (elsewhere / "results" / "runs.csv").write_text("run,preset\n")
    assert cli.main(["ledger", "--check"]) == 1
    assert "runs.csv, line 1: column 3 must be 'architecture', got None" in capsys.readouterr().out
    assert cli.main(["study", "noise", "--preset", "smoke", "--list"]) == 1  # in one line, too
    assert "git checkout" in capsys.readouterr().err


def test_bench(monkeypatch):
    seen = calls(monkeypatch, bench, "main", 0)
    assert cli.main(["bench", "step-20", "import"]) == 0
    assert cli.main(["bench"]) == 0
    assert seen == [(["step-20", "import"],), ([],)]


def test_upscale_writes_a_larger_picture(tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "small.png")
    source, target = str(tmp_path / "small.png"), str(tmp_path / "big.png")
    assert cli.main(["upscale", source, "-o", target, "--scale", "2.5"]) == 0
    with Image.open(target) as picture:
        assert picture.size == (23, 20)  # rounded up
    assert capsys.readouterr().err == ""  # a progress bar is for terminals


def test_upscale_fails_in_one_line(tmp_path, capsys):
    missing = tmp_path / "none.png"
    assert cli.main(["upscale", str(missing), "-o", str(tmp_path / "big.png")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("vdsr upscale: ")
    assert str(missing) in said
    assert said.count("\n") == 1
    assert not (tmp_path / "big.png").exists()
