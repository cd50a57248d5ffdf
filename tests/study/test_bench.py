import subprocess
import sys
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from vdsr import TrainConfig, machine
from vdsr.patches import Patches
from vdsr.study import bench, profiles, timings

QUICK = (
    "enlarge",
    "enlarge-onnx",
    "enlarge-file",
    "enlarge-sizes",
    "step-10",
    "step-plain",
    "step-srcnn",
)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """All that is timed is small, and the table lies elsewhere."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(timings, "SIDE", 12)
    monkeypatch.setattr(timings, "LARGE", (12, 14))
    monkeypatch.setattr(timings, "BATCH", 2)
    monkeypatch.setattr(timings, "ROUNDS", 2)
    monkeypatch.setattr(bench, "sleep", lambda seconds: None)
    (tmp_path / "results").mkdir()
    return tmp_path / "results" / "bench.csv"


def row(name, values, **options):
    return bench.Row(name, f"what {name} is", "that", "≥ 2.0", "×", lambda: values, **options)


@pytest.mark.parametrize("name", QUICK)
def test_what_is_timed_runs(tiny, name):
    assert bench.main([name]) == 0
    [measured] = pd.read_csv(tiny).to_dict("records")
    assert measured["row"] == name
    assert 0 < measured["low"] <= measured["value"] <= measured["high"]
    assert measured["device"] == machine.device_name("cpu")
    assert measured["threads"] == torch.get_num_threads()
    assert measured["product"] > 0
    [known] = [each for each in bench.ROWS if each.name == name]
    if known.profile:
        parts = pd.read_csv(tiny.with_name("bench_profiles.csv"))
        assert set(parts.row) == {name}
        assert parts.share.between(0, 1).all()
        assert parts.share.sum() == pytest.approx(1, abs=1e-3)
        assert f"| {known.what} | {profiles.CONVOLUTIONS} " in bench.profile_table()


def test_operations_are_told_apart():
    wide, last = [64, 64, 3, 3], [1, 64, 3, 3]
    for name, shapes, part in [
        ("aten::bmm", [], profiles.CONVOLUTIONS),
        ("aten::mkldnn_convolution", [[2, 64, 9, 9], wide, [64]], profiles.CONVOLUTIONS),
        ("aten::convolution_backward", [[2, 1, 9, 9], [2, 64, 9, 9], last], profiles.ENDS),
        ("aten::threshold_backward", [], profiles.RELU),
        ("aten::copy_", [wide, wide], profiles.REST),
    ]:
        assert profiles._part(name, shapes) == part


def test_cutting_patches_is_profiled(monkeypatch):
    monkeypatch.setattr(timings, "TRAINING_SET", ("samples-train", (2,)))
    shares = profiles.of_patches()
    assert sum(shares.values()) == pytest.approx(1)
    assert all(0 < share < 1 for share in shares.values())


def test_a_ratio_is_that_of_each_turn_and_the_median_stands(tiny, monkeypatch, capsys):
    ticks = count()
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(timings, "perf_counter", lambda: clock.now)

    def task(*seconds):
        each = iter(seconds)

        def run():
            next(ticks)
            clock.now += next(each)

        return run

    slow, fast = timings._turns(task(9, 2, 6), task(9, 1, 2), warm=1)
    assert (slow, fast) == ([2, 6], [1, 2])
    assert timings._ratios(slow, fast) == [2, 3]
    monkeypatch.setattr(bench, "ROWS", (row("first", [5.0, 1.0, 2.0]),))
    monkeypatch.setattr(bench.timings, "product", lambda: 3e12)
    bench.main()
    [measured] = pd.read_csv(tiny).to_dict("records")
    assert [measured[k] for k in ("value", "low", "high", "rounds")] == [2, 1, 5, 3]
    assert "its matrix product 3.00 TFLOP/s" in capsys.readouterr().out


def test_rows_are_kept_in_order_and_measured_again(tiny, monkeypatch):
    monkeypatch.setattr(bench.timings, "product", lambda: 3e12)
    rows = [row("a", [1.0]), row("b", [3.0, 3.0]), row("c", [4.0], device="cuda")]
    monkeypatch.setattr(bench, "ROWS", rows)
    for names in (["b"], ["a"], ["b"], []):
        bench.main(names)
    assert list(pd.read_csv(tiny).row) == ["a", "b"]
    table = bench.table().splitlines()
    assert table[2].startswith("| what a is | that | ≥ 2.0 × | 1.00 × missed | 1 |")
    assert table[3].startswith("| what b is | that | ≥ 2.0 × | 3.00 × (3.00 to 3.00) | 2 |")
    assert table[4] == "| what c is | that | ≥ 2.0 × | not measured | | |"
    assert machine.device_name("cpu") in bench.machines()


def test_a_row_that_cannot_be_measured_stops_no_other(tiny, monkeypatch, capsys):
    def fail():
        command = [sys.executable, "-c", "raise SystemExit('no such file')"]
        subprocess.run(command, check=True, capture_output=True, text=True)

    monkeypatch.setattr(bench.timings, "product", lambda: 3e12)
    broken = replace(row("a", []), measure=fail)
    monkeypatch.setattr(bench, "ROWS", [broken, row("b", [1.0])])
    assert bench.main() == 1
    assert [*pd.read_csv(tiny).row] == ["b"]
    said = capsys.readouterr().err
    assert "a could not be measured: " in said and "no such file" in said


def test_unknown_rows_are_named(tiny):
    with pytest.raises(ValueError, match="unknown row nonsense; known are enlarge, "):
        bench.main(["nonsense"])


def test_rows_of_another_kind_of_device_are_refused_by_name(tiny, monkeypatch):
    monkeypatch.setattr(bench.timings, "product", lambda: 3e12)
    monkeypatch.setattr(bench, "ROWS", [row("a", [1.0]), row("b", [1.0], device="cuda")])
    with pytest.raises(ValueError, match="row b is measured on cuda, and this is cpu: leave it"):
        bench.main(["a", "b"])
    assert not tiny.exists()


def test_the_load_of_others_is_said(tiny, monkeypatch, capsys):
    monkeypatch.setattr(bench.timings, "product", lambda: 3e12)
    monkeypatch.setattr(bench, "ROWS", ())
    for cores, said in ((1.25, True), (0.0, False)):
        monkeypatch.setattr(machine, "OtherLoad", lambda c=cores: SimpleNamespace(cores=c))
        bench.main()
        assert ("Others keep 1.2 cores busy" in capsys.readouterr().out) == said


def test_goals_are_judged_by_their_sign():
    assert bench._met("≥ 2", 2.1)
    assert not bench._met("≥ 2", 1.9)
    assert bench._met("≤ 2", 1.9)
    assert not bench._met("≤ 2", 2.1)
    assert len({each.name for each in bench.ROWS}) == len(bench.ROWS)
    for each in bench.ROWS:
        assert bench._met(each.goal, float(each.goal.split()[1]))


def test_memory_is_measured_beyond_both_pictures(monkeypatch):
    monkeypatch.setattr(timings, "MEMORY", timings.MEMORY.replace("3000, 4000", "30, 40"))
    mine = torch.ones(2**28)  # 1 GiB that is not the other program's
    [gib] = timings.memory()
    assert -0.1 < gib < 0.5
    del mine


def test_commands_are_timed(monkeypatch):
    seen = []
    monkeypatch.setattr(timings.subprocess, "run", lambda command, **_: seen.append(command))
    [seconds] = timings.book(again=1)()
    assert 0 < seconds < 10
    timings.import_beyond_torch()
    timings.quick_tests()
    assert [str(part).rpartition("/")[2] for part in seen[0][:2]] == ["jupyter-book", "build"]
    assert seen[0] == seen[1]
    assert [sys.executable, "-c", "import vdsr"] in seen
    assert seen[-1][-2:] == ["-m", "not slow"]


def test_a_whole_training_is_timed(tmp_path):
    config = TrainConfig(depth=2, width=4, batch_size=4, train_set="samples-test", scales=(2,),
                         epochs=None, steps=2)  # fmt: skip
    [minutes] = timings.whole_run(lambda: config)()
    assert 0 < minutes < 1


def test_a_plain_loop_trains(monkeypatch):
    monkeypatch.setattr(timings, "BATCH", 4)
    seen = []
    monkeypatch.setattr(
        timings.torch.nn.utils, "clip_grad_norm_", lambda p, norm: seen.append((list(p), norm))
    )
    step = timings._plain_loop(Patches("samples-test", (2,)), torch.device("cpu"), depth=2)
    step()
    [(parameters, norm)] = seen
    assert norm == 0.4
    assert all(p.grad is not None and p.dtype == torch.float32 for p in parameters)
