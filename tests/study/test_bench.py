import platform
import re

import pytest
import torch

from vdsr.patches import Patches
from vdsr.study import bench


def test_bench_prints_ratios_of_one_run(monkeypatch, capsys):
    monkeypatch.setattr(bench, "sleep", lambda seconds: None)
    monkeypatch.setattr(bench, "DEPTH", 2)
    monkeypatch.setattr(bench, "BATCH", 2)
    assert bench.main(rounds=1) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"cores: {bench.psutil.cpu_count(logical=False)}, ")
    assert re.search(r"matrix product .* TFLOP/s", out)
    assert float(re.search(r"as rates: (\S+)", out)[1]) >= 0
    assert float(re.search(r"as times: +(\S+)", out)[1]) > 0


@pytest.mark.parametrize("cores", [0.0, 0.09, 0.1, 1.26])
def test_load_of_others_is_said(monkeypatch, cores):
    class Load:
        def __init__(self):
            assert not waited

        @property
        def cores(self):
            assert waited == [2]
            return cores

    waited = []
    monkeypatch.setattr(bench, "OtherLoad", Load)
    monkeypatch.setattr(bench, "sleep", waited.append)
    first, *rest = bench.circumstances().splitlines()
    assert first.endswith(f"torch {torch.__version__}")
    assert f" threads: {torch.get_num_threads()}, " in first
    assert bool(rest) == (cores >= 0.1)
    assert not rest or rest[0].startswith(f"Other processes keep {cores:.1f} cores busy")


@pytest.mark.parametrize(
    ("machine", "capability", "bf16", "amx", "named"),
    [
        ("x86_64", "AVX2", False, False, "AVX2"),
        ("x86_64", "AVX512", True, True, "AVX512 avx512_bf16 AMX"),
        ("aarch64", "DEFAULT", False, False, "NEON"),
        ("arm64", "SVE256", False, False, "NEON SVE256"),
        ("riscv64", "DEFAULT", False, False, "no wide instructions"),
    ],
)
def test_instructions_are_named(monkeypatch, machine, capability, bf16, amx, named):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert bench.instructions() == named


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
