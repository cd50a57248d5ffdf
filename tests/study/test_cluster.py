"""The queue on workers that share nothing with the client but the images."""

import contextlib
import gc
import io
import re
import sys
from dataclasses import replace
from urllib.request import urlopen

import pytest
import torch

from vdsr import __main__ as cli
from vdsr import ledger, machine, runs
from vdsr.study import cluster, cost, queue
from vdsr.study.configs import PRESETS
from vdsr.study.evidence import Study
from vdsr.study.studies import STUDIES

# Workers keep their state after every step, note where each training starts, and die once, in the
# middle of a training, if they are asked to. Dask may load this twice.
PRELOAD = """
import os, signal
from pathlib import Path
from vdsr.train import Trainer

def changed(fit, one_step):
    folder = Path(os.environ["VDSR_RUNS_DIR"])

    def noting(self, **options):
        with open(folder / "starts", "a") as file:
            print(self.step, file=file)
        fit(self, **options)

    def dying(self):
        one_step(self)
        if self.step == 3 and (folder / "die").exists():
            (folder / "die").unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    return noting, dying

if Trainer.save_seconds:
    Trainer.fit, Trainer.one_step = changed(Trainer.fit, Trainer.one_step)
    Trainer.save_seconds = 0
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Two workers on this machine, the address of their scheduler, what was said, their folder."""
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    folder = tmp_path_factory.mktemp("worker")
    preload = folder / "preload.py"
    preload.write_text(PRELOAD)
    environment = {"VDSR_RUNS_DIR": folder, "GIT_DIR": folder / "none", "VDSR_COMMIT": "abc"}
    settings = {
        "distributed.nanny.environ": environment,
        "distributed.worker.preload": [str(preload)],
    }
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, dask.config.set(settings):
        patch.delenv("VDSR_RUNS_DIR", raising=False)  # which would win over the setting above
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("TQDM_DISABLE", "1")  # which dask sets, too, and leaves behind
        with contextlib.redirect_stdout(said), cluster.executor(workers=2) as executor:
            yield executor._client.scheduler.address, said.getvalue(), folder


@pytest.fixture
def both(elsewhere, monkeypatch, tmp_path):
    """Return a function that works through some configs here, then there, and compares."""
    monkeypatch.setattr(cost, "rate", lambda: 1.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    for name in reversed([*STUDIES]):  # whose order is as it was when they are put back
        monkeypatch.delitem(STUDIES, name)

    def work(configs, address):
        monkeypatch.setitem(STUDIES, "one", Study("one", "Why?", lambda preset: configs, None))
        found = []
        for name in ("here", "there"):
            monkeypatch.setattr(machine, "ROOT", tmp_path / name)
            (tmp_path / name).mkdir()
            if name == "here":
                assert queue.run(["one"], "smoke") == 0
            else:
                with cluster.executor(scheduler=address) as executor:
                    assert queue.run(["one"], "smoke", executor=executor) == 0
            weights = [runs.recorded(c).model.state_dict() for c in configs if c.clipping != "none"]
            table, scores = (t.sort_values("run", kind="stable") for t in ledger.read())
            table = table.drop(columns=["seconds", "others"])
            found.append((table.to_csv(index=False), scores.to_csv(index=False), weights))
        (table, scores, weights), (their_table, their_scores, their_weights) = found
        assert their_table == table
        assert their_scores == scores
        for ours, theirs in zip(weights, their_weights, strict=True):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[k], theirs[k]) for k in ours)
        assert len(elsewhere) == len(configs)  # nothing was trained here twice

    yield work
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_the_ledger_is_the_serial_one(started, both, tiny, capsys):
    """Rows and weights come home from a folder that the client does not look at."""
    address, _, folder = started
    wild = replace(tiny, clipping="none", learning_rate=1e30)
    both([tiny, wild, replace(tiny, depth=2), replace(tiny, seed=1)], address)
    assert len([*folder.glob("*.safetensors")]) >= 3
    assert re.search("workers: 2; dashboard: http://127.0.0.1:", capsys.readouterr().out)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_time_only(started, both):
    address, _, folder = started
    config = replace(PRESETS["smoke"], eval_scales=(2,), seed=2)
    (folder / "starts").unlink(missing_ok=True)
    (folder / "die").touch()
    both([config], address)
    assert (folder / "starts").read_text().split() == ["0", "3"]


@pytest.mark.slow
def test_the_dashboard_is_where_it_is_said_to_be(started):
    address = re.search(r"^workers: 2; dashboard: (http://127\.0\.0\.1:\d+/status)$", started[1])
    with urlopen(address[1], timeout=30) as page:
        assert b"Dask" in page.read()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "no address", "tcp://no.such.host:1"])
def test_an_unknown_scheduler_is_one_clear_error(monkeypatch, capsys, address):
    client = pytest.importorskip("distributed").Client

    def clients():
        return [each for each in gc.get_objects() if client in type(each).__mro__]

    before = {id(each) for each in clients()}
    monkeypatch.setattr(cluster, "CONNECTING", 0.5)
    assert cli.main(["study", "--preset", "smoke", "--scheduler", address]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"vdsr study: no scheduler answers at '{address}'; give the address")
    assert err.count("\n") == 1
    # Nothing is left whose end could meet another's start.
    assert {each.status for each in clients() if id(each) not in before} <= {"closed"}


@pytest.mark.parametrize("arguments", [("--workers", "2"), ("--scheduler", "tcp://127.0.0.1:9")])
def test_without_the_extra_the_remedy_is_named(monkeypatch, capsys, arguments):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert cli.main(["study", "--preset", "smoke", *arguments]) == 1
    err = capsys.readouterr().err
    assert err.startswith("vdsr study: more than one worker needs the package distributed, which")
    assert "pip install -c constraints.txt -e '.[scale]'" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("visible", "count", "workers", "gpus", "threads"),
    [
        (None, 0, "auto", [None, None, None], 2),
        (None, 0, 2, [None, None], 3),
        (None, 0, 9, [None] * 9, 1),
        (None, 2, "auto", ["0", "1"], 3),
        ("3,GPU-5,7", 3, "auto", ["3", "GPU-5", "7"], 2),
        ("3,5", 2, 3, ["3", "5", "3"], 2),
        ("", 0, 2, [None, None], 3),
    ],
)  # fmt: skip
def test_gpus_are_dealt_out_and_cores_shared(monkeypatch, visible, count, workers, gpus, threads):
    """On a machine of six cores."""
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(cluster.psutil, "cpu_count", lambda logical: 6)
    monkeypatch.setattr(dask.system, "CPU_COUNT", 12)
    seen = []

    def stand_in(specs, *_, **options):
        environment = dask.config.get("distributed.nanny.pre-spawn-environ")
        seen.append(([*specs.values()], environment["OMP_NUM_THREADS"]))

    monkeypatch.setattr(distributed, "SpecCluster", stand_in)
    cluster._local(workers)
    [(specs, each)] = seen
    assert [spec["options"]["env"].get("CUDA_VISIBLE_DEVICES") for spec in specs] == gpus
    assert {spec["options"]["nthreads"] for spec in specs} == {1}
    assert each == threads
