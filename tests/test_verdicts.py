from dataclasses import replace

import pandas as pd
import pytest

from vdsr import paper, verdicts
from vdsr.train import TrainConfig


def test_depth_gain_and_verdict_follow_the_rows(histories):
    rows = [
        ["a", 5, 0, 10, "Set5", 2, 30.0], ["a", 5, 0, 20, "Set5", 2, 36.0],
        ["b", 5, 1, 20, "Set5", 2, 36.2],
        ["c", 20, 0, 20, "Set5", 2, 37.0], ["d", 20, 1, 20, "Set5", 2, 37.2],
    ]  # fmt: skip
    gains = paper.depth_gain(histories(*rows))
    assert gains.gain[0] == pytest.approx(1.0)
    assert gains["standard error"][0] == pytest.approx((0.01 + 0.01) ** 0.5)
    assert gains["paper's gain"][0] == pytest.approx(0.61)
    assert verdicts.depth(gains).startswith("Pointing the paper's way")
    more = ["e", 5, 2, 20, "Set5", 2, 36.1], ["f", 20, 2, 20, "Set5", 2, 37.1]
    gains = paper.depth_gain(histories(*rows, *more))
    assert verdicts.depth(gains).startswith("Pointing the paper's way: from depth 5 to 20")
    rows[3][-1] = rows[4][-1] = more[1][-1] = 36.15
    gains = paper.depth_gain(histories(*rows, *more))
    assert verdicts.depth(gains).startswith("Not seen")
    more[1][-1] = float("nan")  # one of three seeds diverged
    gains = paper.depth_gain(histories(*rows, *more))
    assert verdicts.depth(gains).startswith("Not seen")
    assert "the change is 1 diverged" in verdicts.depth(gains)
    single = paper.depth_gain(histories(rows[1], rows[3]))
    assert "One seed" in verdicts.depth(single)
    assert verdicts.depth(single).startswith("Pointing the paper's way")
    assert verdicts.depth(paper.depth_gain(histories())).startswith("Not run")


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
        "Pointing the paper's way: residual networks lead early by +6.00 dB, and at the end by +0.5"
    )
    nan = float("nan")
    assert verdicts.residual(table1_rows(36, nan, 30, 36.5)).startswith("Mixed")
    lost = verdicts.residual(table1_rows(36, 37, nan, nan))
    assert lost.startswith("Pointing the paper's way: residual networks lead early by 1 diverged")
    assert verdicts.residual(table1_rows(36, 36, 30, 37)).startswith("Mixed")
    assert verdicts.residual(table1_rows(30, 36, 31, 37)).startswith("Not seen")
    seeds = pd.concat([scores, scores.assign(seed=1), scores.assign(seed=2)])
    assert verdicts.residual(seeds).startswith("Pointing")
    assert verdicts.residual(seeds).endswith(" 3 seeds.")
    assert verdicts.residual(scores[:2]).startswith("Not run")


def test_departures_count_cells_and_name_what_differs():
    table = pd.DataFrame({"difference": [-1.5, 0.05, float("nan"), 0.3]})
    recipe = TrainConfig()
    verdict = verdicts.departures(table, replace(recipe, depth=5, epochs=8), recipe)
    assert verdict.startswith("2 of 3 cells are more than 0.1 dB from the paper's: -1.50 to +0.30")
    assert verdict.endswith("does otherwise: depth 5 (there 20), epochs 8 (there 80).")
    assert "otherwise" not in verdicts.departures(table, recipe, recipe)
    assert verdicts.departures(table[1:3], recipe, recipe).startswith("All 1 cells are within")
    assert verdicts.departures(table[:0], recipe, recipe).startswith("There is nothing")


def test_scales_verdict_follows_the_rows():
    bicubic = {2: 33, 2.5: 31.5, 3: 30}
    good = {"2": (37, 31, 30), "3": (32, 32, 33), "2 3 4": (37, 31.25, 33.2)}
    rows = [
        {"run": scales, "scales": scales, "scale": scale, "step": 1, "seed": 0, "psnr": psnr}
        for scales, psnrs in good.items()
        for scale, psnr in zip(bicubic, psnrs, strict=True)
    ]
    scores = paper.as_table2(pd.DataFrame(rows))
    assert set(scores.train_scales) == {"2", "3", "2,3,4"}
    verdict = verdicts.scales(scores, bicubic)
    assert "-1.00 to +0.00 dB from bicubic, and below it in 1 of 2 cases" in verdict
    assert "+0.00 to +0.20 dB from the single-scale ones, and not worse" in verdict
    assert "at 2 of 2 scales" in verdict
    assert "from bicubic, -0.25 dB at ×2.5." in verdict
    scores.loc[scores.train_scales == "2,3,4", "psnr"] -= 1
    assert "at 0 of 2 scales" in verdicts.scales(scores, bicubic)
    assert verdicts.scales(scores[:6], bicubic).startswith("Not run")
    table = paper.beside(scores, paper.table("table2"), ["train_scales", "test_scale"])
    assert table.set_index(["train_scales", "test_scale"]).paper["3", 2] == 30.05
    assert table.ours.notna().sum() == 6  # the whole scales


def test_field_verdict_follows_the_rows():
    rows = [
        {"depth": 5, "field": field, "scale": scale, "seed": 0, "psnr": psnr}
        for scale, line in ((2, (36, 36.5, 36.2)), (4, (30, 30.4, 30.1)))
        for field, psnr in zip((11, 17, 29), line, strict=True)
    ]
    scores = pd.DataFrame(rows)
    verdict = verdicts.field(scores)
    assert verdict.startswith("Context alone helped: at equal depth")
    assert "+0.10 to +0.50 dB from the narrowest, and better in 4 of 4" in verdict
    scores.loc[scores.field == 29, "psnr"] = 0
    assert "better in 2 of 4" in verdicts.field(scores)
    scores.loc[scores.field > 11, "psnr"] = float("nan")
    assert verdicts.field(scores).startswith("Context alone did not help")
    assert verdicts.field(scores[:1]).startswith("Not run")


def test_clipping_verdict_follows_the_rows():
    rows = [
        (0.1, "adjustable", 36.0), (0.1, "none", float("nan")), (0.1, "norm", 36.5),
        (0.01, "adjustable", 35.0), (0.01, "none", 34.0), (0.001, "adjustable", 35.0),
    ]  # fmt: skip
    scores = pd.DataFrame(rows, columns=["learning_rate", "clipping", "psnr"]).assign(seed=0)
    verdict = verdicts.clipping(scores)
    assert "rate 0.1, against adjustable clipping: none diverges, norm +0.50 dB." in verdict
    assert "rate 0.01, against adjustable clipping: none -1.00 dB." in verdict
    assert "0.001" not in verdict  # where there is nothing to compare yet
    assert verdicts.clipping(scores[:1]).startswith("Not run")


def test_share_clipped_follows_the_rows():
    rows = pd.DataFrame({"step": [0, 20, 20, 20, 20], "ratio": [9.0, 0.5, 2.0, 3.0, 2000.0]})
    verdict = verdicts.clipped(rows)
    assert verdict.startswith("After 20 steps 75 % of all values")
    assert verdict.endswith("it would be 25.00 %.")


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
    histories.loc[1, "psnr"] = float("nan")
    verdict = verdicts.iterations(paper.reach(histories, 36.9), 36.9)
    assert "20 steps: never reaches it, and diverges" in verdict


def test_srcnn_verdict_follows_the_rows():
    rows = [
        ("v", "VDSR", "2 3", 2, 10, 5.0, 37.0), ("v", "VDSR", "2 3", 3, 10, 5.0, 33.0),
        ("s", "SRCNN 9-1-5", "3", 3, 50, 9.0, 32.0), ("m", "SRCNN 9-1-5", "2 3", 3, 50, 9.0, 31.5),
    ]  # fmt: skip
    columns = ["run", "architecture", "scales", "scale", "step", "seconds", "psnr"]
    scores = pd.DataFrame(rows, columns=columns).assign(seed=0)
    verdict = verdicts.srcnn(scores)
    assert "×3: VDSR ends +1.00 dB from SRCNN" in verdict
    assert "One SRCNN for all scales is -0.50 dB from those" in verdict
    assert "best is 32.00 dB, after 50 steps and 9 s; VDSR's first score is 33.00 dB" in verdict
    sooner = pd.DataFrame([("v", "VDSR", "2 3", 3, 5, 2.0, 31.0)], columns=columns).assign(seed=0)
    verdict = verdicts.srcnn(pd.concat([sooner, scores], ignore_index=True))
    assert "VDSR's first score above it is 33.00 dB, after 10 steps and 5 s" in verdict
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
    scores.loc[2, "psnr"] = float("nan")
    verdict = verdicts.init(scores)
    assert verdict.startswith("Of 2 initialisations, fan_out")
    assert "normal with it times 1 diverges" in verdict


def test_a_lead_is_of_means_and_above_chance():
    def psnr(*values):
        return pd.Series(values, dtype=float)

    assert paper.lead(psnr(31), psnr(30.5)) == (0.5, True)
    assert paper.lead(psnr(31, 32, 30), psnr(30.8, 31, 30.9)) == (pytest.approx(0.1), False)
    assert paper.lead(psnr(31, 31.1), psnr(30, 30.1)) == (pytest.approx(1.0), True)
    assert paper.lead(psnr(31, float("nan")), psnr(30, 30)) == (-float("inf"), False)
    assert paper.lead(psnr(30), psnr(float("nan"))) == (float("inf"), True)
    assert paper.span([0.1, float("inf"), -0.2]) == "-0.20 to +0.10 dB; 1 diverged"
