import pytest

from vdsr.study import paper, probes


def test_tables():
    figure = paper.table("figure3").set_index(["scale", "depth"]).psnr
    assert figure[2, 20] == 37.06
    assert {*figure.index.get_level_values("depth")} == {*range(5, 21)}
    table = paper.table("table3").set_index(["dataset", "scale", "method"])
    assert table.psnr["Set5", 2, "VDSR"] == 37.53
    assert len(table) == 4 * 3 * 6
    assert len(paper.table("table1")) == 3 * 2 * 4
    assert len(paper.table("table2")) == 3 * 8


@pytest.mark.parametrize("name", paper.TABLES)
def test_tables_are_whole(name):
    table = paper.table(name)
    assert table.notna().all(axis=None)
    assert not table.drop(columns=[c for c in ("psnr", "ssim", "seconds") if c in table]
                          ).duplicated().any()  # fmt: skip
    assert table.psnr.between(19, 40).all()


def test_what_the_paper_prints_twice_is_one_number():
    """Figure 4's tenth epoch is Table 1's, and Table 2's last row is Figure 3's last depth."""
    by = ["learning_rate", "epoch"]
    table1 = paper.table("table1")
    table1 = table1[(table1.network == "residual") & (table1.epoch == 10)].set_index(by).psnr
    figure4 = paper.table("figure4").set_index(by).psnr
    assert (figure4.loc[:, 10] == table1.droplevel("epoch")).all()
    assert (figure4.loc[:, 1] < figure4.loc[:, 10]).all()
    table2 = paper.table("table2").set_index(["train_scales", "test_scale"]).psnr["2,3,4"]
    figure3 = paper.table("figure3").set_index(["depth", "scale"]).psnr[20]
    assert [*table2] == [*figure3] == [37.06, 33.27, 30.95]


def test_two_readings_of_9960_iterations():
    budget = probes.iteration_budget(7_992)
    total, epoch = budget.loc["9,960 in all"], budget.loc["9,960 an epoch"]
    assert total["patches an epoch"] == 7_968
    assert epoch["patches an epoch"] == 80 * 7_968
    assert epoch["TFLOP/s needed"] == pytest.approx(23.7, abs=0.1)
    assert epoch["of the peak"] > 2.5
    assert total["of the peak"] < 0.1
