import os
import platform
import subprocess
import sys
import threading
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from vdsr import machine


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone of a project with one commit, that the package is taken to lie in."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("VDSR_COMMIT", raising=False)
    folder = tmp_path / "project"
    for name in ("vdsr", "results"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text("1")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "1")
    monkeypatch.setattr(machine, "CLONE", folder)
    monkeypatch.setattr(machine, "_LOADED", float("inf"))  # the tests' own code is another matter
    machine.commit.cache_clear()
    yield folder
    machine.commit.cache_clear()


def git(folder, *arguments):
    done = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def unknown(reason, folder):
    return ("unknown", f"{reason}; set VDSR_COMMIT to the commit that {folder} is a copy of")


def test_a_clone_knows_its_commit(clone, monkeypatch):
    monkeypatch.setenv("VDSR_COMMIT", "0123456789")  # it knows better
    assert machine.commit() == (git(clone, "rev-parse", "--short=10", "HEAD"), "")


def test_results_and_other_files_may_be_changed(clone):
    (clone / "results" / "file").write_text("2")
    (clone / "notes").write_text("1")
    assert machine.commit()[1] == ""


@pytest.mark.parametrize("name", ["file", "another"])
def test_changed_code_is_trouble(clone, name):
    (clone / "vdsr" / name).write_text("2")
    name, trouble = machine.commit()
    assert name == git(clone, "rev-parse", "--short=10", "HEAD")
    assert trouble == "vdsr/ has changes that are not committed; commit them"


def test_code_that_changed_after_it_was_loaded_is_trouble(clone, monkeypatch):
    code = clone / "vdsr" / "code.py"
    code.write_text("1")
    git(clone, "add", ".")
    git(clone, "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "2")
    monkeypatch.setattr(machine, "_LOADED", 2e9)
    loaded = {
        "vdsr.code": SimpleNamespace(__name__="vdsr.code", __file__=str(code)),
        "vdsr.none": SimpleNamespace(__name__="vdsr.none"),
        "other": SimpleNamespace(__name__="other", __file__=str(clone / "gone")),
    }
    monkeypatch.setattr(machine, "sys", SimpleNamespace(modules=loaded))
    (clone / "vdsr" / ".#code.py").symlink_to("nowhere")  # of an editor, which nobody loads
    (clone / ".git" / "info" / "exclude").write_text(".#*")
    for when, trouble in ((1e9, ""), (2e9 + 5, "vdsr/ was changed after this process")):
        os.utime(code, (when, when))
        machine.commit.cache_clear()
        assert machine.commit()[1].startswith(trouble)
        assert bool(machine.commit()[1]) == bool(trouble)


def test_without_git(clone, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.commit() == unknown("git is not installed", clone)


def test_a_copy_such_as_a_zip_download(clone):
    (clone / ".git").rename(clone.parent / "gone")
    name, trouble = machine.commit()
    assert name == "unknown"
    assert trouble.startswith("git says: fatal: not a git repository")
    assert trouble.endswith(f"; set VDSR_COMMIT to the commit that {clone} is a copy of")


def test_a_copy_inside_another_project(clone, monkeypatch):
    inner = clone / "copy"
    inner.mkdir()
    monkeypatch.setattr(machine, "CLONE", inner)
    reason = f"{inner} is not a clone of the project, but inside {clone}"
    assert machine.commit() == unknown(reason, inner)


def test_another_owners_clone(clone, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own way to try it
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    name, trouble = machine.commit()
    assert name == "unknown"
    assert f"dubious ownership in repository at '{clone}'" in trouble
    remedy = f"git config --global --add safe.directory {clone} makes git trust it, or set VDSR_"
    assert f"; {remedy}" in trouble


def test_a_clone_without_a_commit(clone, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    monkeypatch.setattr(machine, "CLONE", empty)
    assert machine.commit()[1].startswith("git says: fatal: ")


@pytest.mark.parametrize("how", ["no git", "no clone", "other owner"])
def test_a_copy_may_say_its_commit(clone, monkeypatch, tmp_path, how):
    monkeypatch.setenv("VDSR_COMMIT", "0123456789")
    if how == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    elif how == "no clone":
        (clone / ".git").rename(clone.parent / "gone")
    else:
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert machine.commit() == ("0123456789", "")


def test_it_is_asked_once(clone):
    """The code that runs is the one that was there when it started."""
    before = machine.commit()
    (clone / "vdsr" / "file").write_text("2")
    assert machine.commit() == before


def test_device_names(monkeypatch):
    monkeypatch.setattr(machine, "_cpu_name", lambda: "A processor")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert machine.device_name("cpu") == "A processor, 2 threads"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert machine.device_name(torch.device("cpu")) == "A processor, 1 thread"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a GPU, {device}")
    assert machine.device_name("cuda:1") == "a GPU, cuda:1"


def test_cpu_has_a_name():
    assert machine._cpu_name()


@pytest.mark.parametrize(
    ("busy", "own", "wall", "cores"),
    [(60, 40, 10, 2), (40, 40, 10, 0), (40, 41, 10, 0), (20, 10, 40, 0.25)],
)
def test_load_of_others_is_what_is_busy_but_not_ours(monkeypatch, busy, own, wall, cores):
    """Waiting is not being busy, and a guest's time is part of its host's."""
    Times = namedtuple("Times", "user system idle iowait steal guest guest_nice")
    Own = namedtuple("Own", "user system")
    first = Times(100, 10, 50, 1, 1, 7, 2), Own(5, 1), 1000.0
    then = Times(100 + busy, 10, 80, 9, 5, 7 + busy / 2, 2), Own(5 + own / 2, 1 + own / 2)
    now = iter([first, (*then, 1000.0 + wall)])
    current = []

    class Process:
        def cpu_times(self):
            return current[-1][1]

    def cpu_times():
        current.append(next(now))
        return current[-1][0]

    monkeypatch.setattr(machine.psutil, "cpu_times", cpu_times)
    monkeypatch.setattr(machine.psutil, "Process", Process)
    monkeypatch.setattr(machine.time, "monotonic", lambda: current[-1][2])
    load = machine.OtherLoad()
    assert load.cores == pytest.approx(cores)


def test_load_can_be_measured_here():
    assert machine.OtherLoad().cores >= 0


@pytest.mark.parametrize(
    ("kind", "capability", "bf16", "amx", "named"),
    [
        ("x86_64", "AVX2", False, False, "AVX2"),
        ("x86_64", "AVX512", True, True, "AVX512 avx512_bf16 AMX"),
        ("aarch64", "DEFAULT", False, False, "NEON"),
        ("arm64", "SVE256", False, False, "NEON SVE256"),
        ("riscv64", "DEFAULT", False, False, "no wide instructions"),
    ],
)
def test_instructions_are_named(monkeypatch, kind, capability, bf16, amx, named):
    monkeypatch.setattr("platform.machine", lambda: kind)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert machine.instructions() == named


def test_the_name_of_a_copy_has_no_spaces_around_it(clone, monkeypatch):
    (clone / ".git").rename(clone.parent / "gone")
    for given, name in ((" 0123456789\n", "0123456789"), (" ", "unknown")):
        monkeypatch.setenv("VDSR_COMMIT", given)
        machine.commit.cache_clear()
        assert machine.commit()[0] == name


def test_a_processors_name_is_one_line_without_gaps(monkeypatch):
    text = "processor\t: 0\nmodel name\t:   Intel(R) Xeon(TM)    CPU 2.80GHz \n"
    monkeypatch.setattr(machine.Path, "read_text", lambda self: text)
    assert machine.device_name("cpu").startswith("Intel(R) Xeon(TM) CPU 2.80GHz, ")


@pytest.mark.parametrize("first_out", ["first", "second"])
def test_blocks_of_one_thread_may_overlap(monkeypatch, first_out):
    """As if all threads had one number, which is what each finds that begins after it was set."""
    found, number = {}, [2]
    monkeypatch.setattr(torch, "get_num_threads", lambda: number[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: number.__setitem__(0, n))
    inside, leave = {n: threading.Event() for n in "ab"}, {n: threading.Event() for n in "ab"}

    def block(name):
        with machine.one_thread() as found[name]:
            assert torch.get_num_threads() == 1
            with machine.one_thread() as nested:
                assert nested == 1
            assert torch.get_num_threads() == 1
            inside[name].set()
            leave[name].wait(10)

    both = {name: threading.Thread(target=block, args=[name]) for name in "ab"}
    for name in "ab":
        both[name].start()
        inside[name].wait(10)
    for name in "ab" if first_out == "first" else "ba":
        leave[name].set()
        both[name].join()
    assert (found, number) == ({"a": 2, "b": 2}, [2])
    assert not machine._before


FAULTS = """
import resource, sys
import torch
from vdsr import machine
if "keep" in sys.argv:
    machine.keep_memory()
for turn in range(12):  # the first two may take what the others then have
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    some = [torch.ones(5_000_000) for _ in range(3)]
    del some
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this needs glibc's malloc")
def test_kept_memory_is_used_again():
    """60 MB that are taken ten times are 146,000 pages, unless they are kept.

    By itself glibc keeps more or less of them, as the addresses happen to lie; a threshold that is
    set from outside makes it keep none.
    """

    def faults(*arguments):
        command = [sys.executable, "-c", FAULTS, *arguments]
        env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
        return int(done.stdout)

    assert 4 * faults("keep") < faults()
