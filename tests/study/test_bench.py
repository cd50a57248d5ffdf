import re

from vdsr.patches import Patches
from vdsr.study import bench


def test_bench_prints_ratios_of_one_run(monkeypatch, capsys):
    monkeypatch.setattr(bench, "DEPTH", 2)
    monkeypatch.setattr(bench, "BATCH", 2)
    assert bench.main(rounds=1) == 0
    out = capsys.readouterr().out
    assert float(re.search(r"as rates: (\S+)", out)[1]) >= 0
    assert float(re.search(r"as times: +(\S+)", out)[1]) > 0


def test_plain_loop_trains(monkeypatch):
    monkeypatch.setattr(bench, "DEPTH", 2)
    monkeypatch.setattr(bench, "BATCH", 4)
    seen = []
    monkeypatch.setattr(
        bench.torch.nn.utils, "clip_grad_norm_", lambda p, norm: seen.append((list(p), norm))
    )
    patches = Patches("samples-test", (2,))
    step = bench._plain_loop(patches, bench.torch.device("cpu"))
    step()
    [(parameters, norm)] = seen
    assert norm == 0.4
    assert all(p.grad is not None and p.dtype == bench.torch.float32 for p in parameters)
