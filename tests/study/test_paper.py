import pytest

from vdsr import experiments, paper, runs, train_all
from vdsr.train import TrainConfig


def test_paper_tables():
    figure = paper.table("figure3").set_index(["scale", "depth"]).psnr
    assert figure[2, 20] == 37.06
    table = paper.table("table3").set_index(["dataset", "scale", "method"])
    assert table.psnr["Set5", 2, "VDSR"] == 37.53
    assert len(table) == 4 * 3 * 6


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


def test_readmes_table_shows_mean_spread_and_gaps(histories):
    rows = [["a", 5, 0, 9, "Set5", 2, 36.0], ["b", 5, 1, 9, "Set5", 2, 36.2]]
    text = paper.with_table("top <!-- table -->old<!-- /table --> end", {"x": histories(*rows)})
    assert "| depth 5, ×2 | 36.45 | 36.10 ± 0.14 (2 seeds) |" in text
    assert "| depth 20, ×4 | 30.95 | not run |" in text
    assert text.startswith("top")
    assert text.endswith(" end")
    assert "old" not in text


def test_two_readings_of_9960_iterations():
    budget = paper.iteration_budget(7_992)
    total, epoch = budget.loc["9,960 in all"], budget.loc["9,960 an epoch"]
    assert total["patches an epoch"] == 7_968
    assert epoch["patches an epoch"] == 80 * 7_968
    assert epoch["TFLOP/s needed"] == pytest.approx(23.7, abs=0.1)
    assert epoch["of the peak"] > 2.5
    assert total["of the peak"] < 0.1
