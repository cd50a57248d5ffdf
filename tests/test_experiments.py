import pandas as pd
import pytest
import torch

from vdsr import data, experiments
from vdsr.__main__ import main
from vdsr.data import SAMPLES
from vdsr.train import TrainConfig


def test_auto_follows_the_machine(monkeypatch):
    for gpu, preset in ((True, "paper"), (False, "quick")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        assert experiments.preset_config("auto")[0] == preset


def test_unknown_preset_names_the_known():
    with pytest.raises(ValueError, match="one of auto, smoke, quick, cpu, paper; got 'full'"):
        experiments.preset_config("full")


@pytest.mark.parametrize("preset", experiments.PRESETS)
@pytest.mark.parametrize("study", experiments.STUDIES)
def test_studies_list_distinct_runs(study, preset):
    configs = experiments.STUDIES[study](preset)
    assert all(isinstance(c, TrainConfig) for c in configs)
    assert len(set(configs)) == len(configs) > 1


def test_paper_preset_of_depth_is_the_papers():
    configs = experiments.depth("paper")
    assert {c.depth for c in configs} == set(range(5, 21))
    assert {c.seed for c in configs} == {0, 1, 2}
    for config in configs:
        assert config == TrainConfig(depth=config.depth, seed=config.seed)


def test_no_study_is_scored_on_what_it_trains_on_except_smoke():
    def members(names):
        return {m for n in names for m in (SAMPLES[n] if n in SAMPLES else data._members(n))}

    assert members(["BSD10"]) < members(["BSD200"])
    for study in experiments.STUDIES.values():
        for preset in ("quick", "cpu", "paper"):
            for config in study(preset):
                assert not members(config.train_set.split("+")) & members(config.eval_sets)


def test_command_line_names_unknown_studies(capsys):
    with pytest.raises(SystemExit):
        main(["study", "width"])
    assert "unknown study width; known are" in capsys.readouterr().err


def test_caption_says_what_there_is():
    configs = experiments.depth("paper")
    assert experiments.caption("paper", configs, pd.DataFrame({"run": []})) == (
        "Preset paper: not run yet (0 of 48 runs)."
    )
    rows = pd.DataFrame({"run": ["a", "a", "b"], "seed": [0, 0, 1], "step": [5, 1000, 9]})
    assert experiments.caption("paper", configs, rows) == (
        "Preset paper: 2 of 48 runs, of 9 to 1,000 steps of 64 patches from T91, "
        "VDSR having 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 and 20 layers, "
        "scored on Set5; 2 seeds."
    )
    assert "VDSR having 20 layers" in experiments.caption("paper", experiments.srcnn("paper"), rows)
