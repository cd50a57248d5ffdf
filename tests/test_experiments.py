import pandas as pd
import pytest
import torch

from vdsr import data, experiments, paper, runs, train_all, verdicts
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


def histories(*rows):
    columns = ["run", "depth", "seed", "step", "dataset", "scale", "psnr"]
    return pd.DataFrame(rows, columns=columns)


def test_paper_tables():
    figure = paper.table("figure3").set_index(["scale", "depth"]).psnr
    assert figure[2, 20] == 37.06
    table = paper.table("table3").set_index(["dataset", "scale", "method"])
    assert table.psnr["Set5", 2, "VDSR"] == 37.53
    assert len(table) == 4 * 3 * 6


def test_depth_gain_and_verdict_follow_the_rows():
    rows = [
        ["a", 5, 0, 10, "Set5", 2, 30.0], ["a", 5, 0, 20, "Set5", 2, 36.0],
        ["b", 5, 1, 20, "Set5", 2, 36.2],
        ["c", 20, 0, 20, "Set5", 2, 37.0], ["d", 20, 1, 20, "Set5", 2, 37.2],
    ]  # fmt: skip
    gains = paper.depth_gain(histories(*rows))
    assert gains.gain[0] == pytest.approx(1.0)
    assert gains["standard error"][0] == pytest.approx((0.01 + 0.01) ** 0.5)
    assert gains["paper's gain"][0] == pytest.approx(0.61)
    assert verdicts.depth(gains).startswith("Reproduced: from depth 5 to 20")
    rows[3][-1] = rows[4][-1] = 36.15
    assert verdicts.depth(paper.depth_gain(histories(*rows))).startswith("Not reproduced")
    single = paper.depth_gain(histories(rows[1], rows[3]))
    assert "One seed" in verdicts.depth(single)
    assert verdicts.depth(single).startswith("Pointing the paper's way")
    assert verdicts.depth(paper.depth_gain(histories())).startswith("Not run")


def test_command_line_names_unknown_studies(capsys):
    with pytest.raises(SystemExit):
        main(["study", "width"])
    assert "unknown study width; known are" in capsys.readouterr().err


def search(*settings):
    """Return a search's scores, all else being the default."""
    rows = [
        {"depth": d, "scales": s, "loss": TrainConfig().loss, "theta": t, "clipping": c, "gain": g}
        for d, s, t, c, g in settings
    ]
    return pd.DataFrame(rows, columns=["depth", "scales", "loss", "theta", "clipping", "gain"])


def test_setting_verdict_follows_the_rows():
    kept = TrainConfig().theta
    rows = [
        (20, "3", kept, "adjustable", 1.0), (20, "3", 2 * kept, "adjustable", 0.4),
        (20, "3", 0.4, "norm", 1.3), (5, "2 3", 2 * kept, "adjustable", 0.7),
    ]  # fmt: skip
    first, second = verdicts.settings(search(*rows)).splitlines()[:2]
    assert first.startswith("- Depth 20, trained for ×3: of 2 settings")
    assert f"theta {kept}, +1.00 dB over bicubic; the worst is at +0.40 dB" in first
    assert "The default is 0.00 dB below it. Clipping the norm instead: +1.30 dB." in first
    assert second.startswith("- Depth 5, trained for ×2 ×3")
    assert "The default is not among them." in second
    assert verdicts.settings(search()) == "Not run."


def test_default_is_what_the_recorded_search_allows():
    """Near the best at all scales: nearer than one seed can tell."""
    histories = train_all(experiments.theta("cpu"), missing="skip")
    scores = paper.final(histories[histories.depth == 5])
    varied = ["loss", "theta", "clipping", "init", "last_scale"]
    psnr = scores.groupby(varied).psnr.mean()
    kept = psnr[tuple(getattr(TrainConfig(), name) for name in varied)]
    assert kept > psnr.xs("adjustable", level="clipping").max() - 0.05


def test_readmes_table_is_the_ledgers():
    readme = (runs.ROOT / "README.md").read_text()
    histories = {p: train_all(experiments.depth(p), missing="skip") for p in ("cpu", "paper")}
    assert paper.with_table(readme, histories) == readme
    seed = histories["cpu"].copy()
    seed["psnr"] += 1
    assert paper.with_table(readme, histories | {"cpu": seed}) != readme


def test_readmes_table_shows_mean_spread_and_gaps():
    rows = [["a", 5, 0, 9, "Set5", 2, 36.0], ["b", 5, 1, 9, "Set5", 2, 36.2]]
    text = paper.with_table("top <!-- table -->old<!-- /table --> end", {"x": histories(*rows)})
    assert "| depth 5, ×2 | 36.45 | 36.10 ± 0.14 (2 seeds) |" in text
    assert "| depth 20, ×4 | 30.95 | not run |" in text
    assert text.startswith("top")
    assert text.endswith(" end")
    assert "old" not in text


def table1_rows(*psnr):
    """Histories of two kinds of network at one learning rate, in a schedule of 8 epochs."""
    kinds = [(True, 1), (True, 8), (False, 1), (False, 8)]
    rows = [
        {"run": str(r), "residual": r, "learning_rate": 0.1, "epoch": e, "epochs": 8,
         "seed": 0, "psnr": p}
        for (r, e), p in zip(kinds, psnr, strict=True)
    ]  # fmt: skip
    return paper.as_table1(pd.DataFrame(rows))


def test_residual_table_and_verdict_follow_the_rows():
    scores = table1_rows(36, 37, 30, 36.5)
    table = paper.beside(scores, paper.table("table1"), ["learning_rate", "network", "epoch"])
    row = table.set_index(["learning_rate", "network", "epoch"]).loc[(0.1, "non-residual", 10)]
    assert (row.paper, row.ours, row.seeds) == (27.42, 30, 1)
    assert row.difference == pytest.approx(2.58)
    assert len(table) == 24
    assert table.ours.notna().sum() == 4
    assert verdicts.residual(scores).startswith(
        "Pointing the paper's way: residual networks lead early by 6.00"
    )
    assert verdicts.residual(table1_rows(36, 36, 30, 37)).startswith("Mixed")
    assert verdicts.residual(table1_rows(30, 36, 31, 37)).startswith("Not seen")
    seeds = pd.concat([scores, scores.assign(seed=1)])
    assert verdicts.residual(seeds).startswith("Reproduced")
    assert verdicts.residual(scores[:2]).startswith("Not run")


def test_scales_verdict_follows_the_rows():
    bicubic = {2: 33, 3: 30}
    good = {"2": (37, 30), "3": (32, 33), "2 3 4": (37, 33.2)}
    rows = [
        {"run": scales, "scales": scales, "scale": scale, "step": 1, "seed": 0, "psnr": psnr}
        for scales, pair in good.items()
        for scale, psnr in zip((2, 3), pair, strict=True)
    ]
    scores = paper.as_table2(pd.DataFrame(rows))
    assert set(scores.train_scales) == {"2", "3", "2,3,4"}
    verdict = verdicts.scales(scores, bicubic)
    assert verdict.startswith("Pointing the paper's way")
    assert "-1.00 to +0.00 dB from bicubic" in verdict
    assert "+0.00 to +0.20 dB from the single-scale ones" in verdict
    scores.loc[scores.train_scales == "2,3,4", "psnr"] -= 1
    assert verdicts.scales(scores, bicubic).startswith("Mixed")
    assert verdicts.scales(scores[:4], bicubic).startswith("Not run")
    table = paper.beside(scores, paper.table("table2"), ["train_scales", "test_scale"])
    assert table.set_index(["train_scales", "test_scale"]).paper["3", 2] == 30.05
    assert table.ours.notna().sum() == 6


def test_field_verdict_follows_the_rows():
    rows = [
        {"depth": 5, "field": field, "scale": scale, "seed": 0, "psnr": psnr}
        for scale, line in ((2, (36, 36.5, 36.2)), (4, (30, 30.4, 29)))
        for field, psnr in zip((11, 17, 29), line, strict=True)
    ]
    scores = pd.DataFrame(rows)
    verdict = verdicts.field(scores)
    assert verdict.startswith("Context alone helped: at equal depth")
    assert "+0.40 to +0.50 dB from the narrowest, and better in 2 of 2" in verdict
    scores.loc[scores.field > 11, "psnr"] = 0
    assert verdicts.field(scores).startswith("Context alone did not help")
    assert verdicts.field(scores[:1]).startswith("Not run")


def test_caption_says_what_there_is():
    configs = experiments.depth("paper")
    assert experiments.caption("paper", configs, pd.DataFrame({"run": []})) == (
        "Preset paper: not run yet (0 of 48 runs)."
    )
    rows = pd.DataFrame({"run": ["a", "a", "b"], "seed": [0, 0, 1], "step": [5, 1000, 9]})
    assert experiments.caption("paper", configs, rows) == (
        "Preset paper: 2 of 48 runs, of 9 to 1,000 steps of 64 patches from T91, "
        "scored on Set5; 2 seeds."
    )


def test_clipping_verdict_follows_the_rows():
    rows = [
        (0.1, "adjustable", 36.0), (0.1, "none", float("nan")), (0.1, "norm", 36.5),
        (0.01, "adjustable", 35.0), (0.01, "none", 34.0),
    ]  # fmt: skip
    scores = pd.DataFrame(rows, columns=["learning_rate", "clipping", "psnr"]).assign(seed=0)
    verdict = verdicts.clipping(scores)
    assert "rate 0.1, against adjustable clipping: none diverges, norm +0.50 dB." in verdict
    assert "rate 0.01, against adjustable clipping: none -1.00 dB." in verdict
    assert verdicts.clipping(scores[:1]).startswith("Not run")


def test_two_readings_of_9960_iterations():
    budget = paper.iteration_budget(7_992)
    total, epoch = budget.loc["9,960 in all"], budget.loc["9,960 an epoch"]
    assert total["patches an epoch"] == 7_968
    assert epoch["patches an epoch"] == 80 * 7_968
    assert epoch["TFLOP/s needed"] == pytest.approx(23.7, abs=0.1)
    assert epoch["of the peak"] > 2.5
    assert total["of the peak"] < 0.1


def test_reach_and_its_verdict_follow_the_rows():
    rows = [("a", 8, 10, 36.0), ("a", 8, 20, 36.5), ("b", 80, 100, 37.0), ("b", 80, 200, 36.8)]
    histories = pd.DataFrame(rows, columns=["run", "epochs", "step", "psnr"])
    table = paper.reach(histories, 36.9)
    assert [*table.epochs] == [8, 80]
    assert [*table["by"]] == ["0 of 1 seeds", "1 of 1 seeds"]
    assert table["reached after"][1] == 100
    first, second = verdicts.iterations(table, 36.9).splitlines()
    assert first == (
        "- 20 steps: never reaches it, and ends at 36.50 dB, -0.40 dB from the paper's "
        "(0 of 1 seeds)."
    )
    assert "first reaches it after 100 steps, and ends at 36.80 dB" in second
    assert verdicts.iterations(paper.reach(histories[:0], 36.9), 36.9) == "Not run."


def test_srcnn_verdict_follows_the_rows():
    rows = [
        ("v", "VDSR", "2 3", 2, 10, 5.0, 37.0), ("v", "VDSR", "2 3", 3, 10, 5.0, 33.0),
        ("s", "SRCNN 9-1-5", "3", 3, 50, 9.0, 32.0), ("m", "SRCNN 9-1-5", "2 3", 3, 50, 9.0, 31.5),
    ]  # fmt: skip
    columns = ["run", "architecture", "scales", "scale", "step", "seconds", "psnr"]
    scores = pd.DataFrame(rows, columns=columns).assign(seed=0)
    verdict = verdicts.srcnn(scores)
    assert "×3: VDSR ends +1.00 dB from SRCNN" in verdict
    assert "One SRCNN for all scales is -0.50 to -0.50 dB" in verdict
    assert "after 10 steps and 5 s, against 50 steps and 9 s" in verdict
    scores.loc[1, "psnr"] = 30
    assert "VDSR does not pass" in verdicts.srcnn(scores)
    assert verdicts.srcnn(scores[:2]).startswith("Not run")


def test_border_verdict_follows_the_rows():
    rows = [
        (d, method, psnr)
        for d, line in enumerate([(30, 31, 31.5), (30, 31.2, 31.4), (30, 31.2, 31.2)])
        for method, psnr in zip(("bicubic", "zero padding", "true surroundings"), line, strict=True)
    ]
    verdict = verdicts.border(pd.DataFrame(rows, columns=["distance", "method", "psnr"]))
    assert "costs 0.50 dB" in verdict
    assert "a gain of +1.00 dB" in verdict
    assert "up to 1 pixels" in verdict


def test_init_verdict_follows_the_rows():
    rows = [("fan_in", 1.0, 34.0), ("fan_out", 0.1, 35.0), ("normal", 1.0, 33.5)]
    scores = pd.DataFrame(rows, columns=["init", "last_scale", "psnr"]).assign(seed=0)
    verdict = verdicts.init(scores)
    assert "fan_out with the last layer times 0.1 ends best, 1.00 dB before" in verdict
    assert "normal with the last layer times 1 ends 1.50 dB behind" in verdict
    assert verdicts.init(scores[:1]).startswith("Not run")
