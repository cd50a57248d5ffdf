import json
import re

import pandas as pd
import pytest

from vdsr import claims, study
from vdsr.runs import ROOT


def table1():
    """Rows of the study of residual learning, at two rates, early and late, with three seeds."""
    rows = [
        {
            "run": f"{r}{rate}{seed}", "residual": r, "learning_rate": rate, "epochs": 80,
            "epoch": epoch, "step": epoch, "scale": 2, "seed": seed,
            "psnr": 36.0 + r * 0.5 + (rate == 0.1) * 0.4 + (epoch == 80) * 0.1,
        }
        for r in (True, False) for rate in (0.1, 0.001) for epoch in (10, 80) for seed in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def verdicts(evidence):
    return claims.scoreboard(evidence).set_index("claim").verdict


FAST = "At 0.1, a tenth of the training beats all of it at 0.001"
RESIDUAL = "Residual learning is sooner and better"


def test_a_changed_row_changes_a_verdict():
    rows = table1()
    board = verdicts({"ablation_residual": ("paper", rows)})
    assert board[FAST] == board[RESIDUAL] == "reproduced"
    slow = (rows.learning_rate == 0.001) & rows.residual & (rows.epoch == 80)
    rows.loc[slow, "psnr"] = 38
    board = verdicts({"ablation_residual": ("paper", rows)})
    assert board[FAST] == "not reproduced"
    assert board[RESIDUAL] == "reproduced"
    rows.loc[rows.residual & (rows.epoch == 10), "psnr"] = 30
    assert verdicts({"ablation_residual": ("paper", rows)})[RESIDUAL] == "partly reproduced"


def test_a_run_that_diverges_counts_against_its_claim():
    rows = table1()
    rows.loc[rows.residual & (rows.learning_rate == 0.1), "psnr"] = float("nan")
    board = claims.scoreboard({"ablation_residual": ("paper", rows)}).set_index("claim")
    assert board.verdict[FAST] == "not reproduced"
    assert board.verdict[RESIDUAL] == "partly reproduced"
    assert "2 diverged, ahead in 2 of 4" in board.ours[RESIDUAL]
    rows = table1()
    rows.loc[~rows.residual & (rows.seed == 2), "psnr"] = float("nan")
    assert verdicts({"ablation_residual": ("paper", rows)})[RESIDUAL] == "reproduced"


def test_less_than_the_spread_of_seeds_is_no_lead():
    rows = table1()
    rows["psnr"] += 9 * rows.seed
    assert verdicts({"ablation_residual": ("paper", rows)})[RESIDUAL] == "not reproduced"


def test_few_seeds_and_short_trainings_are_hints():
    rows = table1()
    assert verdicts({"ablation_residual": ("cpu", rows)})[FAST] == "points that way"
    one = rows[rows.seed == 0]
    assert verdicts({"ablation_residual": ("paper", one)})[FAST] == "points that way"


def test_a_full_verdict_takes_three_seeds_of_every_config():
    rows = table1()
    begun = rows[(rows.seed == 0) | (rows.learning_rate == 0.1)]
    board = claims.scoreboard({"ablation_residual": ("paper", begun)}).set_index("claim")
    assert board.verdict[FAST] == "points that way"
    assert board.basis[FAST] == "`paper`, 1 seed"


def test_nothing_recorded_is_not_run():
    assert {*verdicts({})} == {"not run"}


def clipped(none, high=37.0):
    kinds = [(0.1, "adjustable", high), (0.001, "adjustable", 36.0), (0.1, "none", none)]
    rows = pd.DataFrame(kinds, columns=["learning_rate", "clipping", "psnr"])
    return rows.assign(run=["a", "b", "c"], step=1, seed=0)


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        (clipped(float("nan")), "points that way"),
        (clipped(36.5), "points that way"),
        (clipped(37.0), "mixed so far"),  # safe, but clipping has no part in it
        (clipped(float("nan"), high=35.0), "points the other way"),
        (clipped(float("nan"))[:1], "not run"),
    ],
)
def test_high_rate(rows, verdict):
    board = verdicts({"ablation_clipping": ("paper", rows)})
    assert board["A learning rate of 0.1 is safe and pays, through adjustable clipping"] == verdict


def scaled(elsewhere=-1.0, every=0.1, fraction=0.5):
    rows = []
    for trained in ("2", "3", "4", "2 3 4"):
        for scale in (1.5, 2, 2.5, 3, 3.5, 4):
            if trained == f"{scale:g}":
                gain = 2
            elif trained != "2 3 4":
                gain = elsewhere
            else:
                gain = fraction if scale % 1 else 2 + every
            rows.append({"run": trained, "scales": trained, "scale": scale, "psnr": 30 + gain})
    return pd.DataFrame(rows).assign(step=1, seed=0, bicubic=30.0)


@pytest.mark.parametrize(
    ("change", "answers"),
    [
        ({}, ("points that way",) * 3),
        ({"elsewhere": 1.95}, ("points the other way", "points that way", "points the other way")),
        ({"every": -0.2}, ("points that way", "points the other way", "points that way")),
        # better than the network for ×3, but not than interpolation
        ({"fraction": -0.5}, ("points that way", "points that way", "points the other way")),
    ],
)
def test_scales(change, answers):
    board = claims.scoreboard({"ablation_scales": ("cpu", scaled(**change))})
    assert (*board[board["page"] == "ablation_scales"].verdict,) == answers


def test_depth_field_border_and_benchmark():
    depth = pd.DataFrame(
        {"run": ["a", "b"], "depth": [5, 20], "dilation": 1, "seed": 0, "step": 1,
         "dataset": "Set5", "scale": 2, "psnr": [36.0, 36.5]}
    )  # fmt: skip
    field = depth.assign(depth=5, dilation=[1, 2])
    columns = ["distance", "method", "psnr"]
    border = pd.DataFrame(
        [(0, "bicubic", 30), (0, "zero padding", 31), (0, "true surroundings", 31.2)],
        columns=columns,
    )
    scores = pd.DataFrame(
        {"method": "VDSR, paper's recipe", "dataset": "Set5", "scale": 2, "psnr": [37.5]}
    )
    evidence = {"ablation_depth": depth, "ablation_receptive_field": field, "border": border,
                "benchmark": scores}  # fmt: skip
    board = verdicts({name: ("cpu", rows) for name, rows in evidence.items()})
    assert (board == "points that way").sum() == 4
    depth["psnr"] = field["psnr"] = [36.0, 35.0]
    border.loc[1, "psnr"] = 29
    scores["psnr"] = 36.0
    board = verdicts({name: ("cpu", rows) for name, rows in evidence.items()})
    assert (board == "points the other way").sum() == 4


def test_srcnn_and_vdsr_meet_at_equal_time():
    rows = pd.DataFrame(
        {"architecture": ["SRCNN 9-1-5", "SRCNN 9-1-5", "VDSR", "VDSR"], "scale": 3, "seed": 0,
         "seconds": [10.0, 100.0, 90.0, 500.0], "psnr": [31.0, 32.0, 32.5, 34.0]}
    )  # fmt: skip
    claim = "Trains faster than SRCNN"
    assert verdicts({"srcnn": ("cpu", rows)})[claim] == "points that way"
    later = rows.assign(psnr=[31.0, 33.0, 32.5, 34.0])  # VDSR's last word comes too late
    assert verdicts({"srcnn": ("cpu", later)})[claim] == "points the other way"
    late = rows.assign(seconds=[10.0, 100.0, 200.0, 500.0])  # no score of VDSR's by then
    assert verdicts({"srcnn": ("cpu", late)})[claim] == "not run"


def test_copies_of_the_scoreboard_are_what_the_ledger_says():
    board = study.board()
    page = (ROOT / "results" / "scoreboard.md").read_text()
    assert page == claims.as_markdown(board, "notebooks/{}.ipynb") + "\n"
    readme = (ROOT / "README.md").read_text()
    assert study.readme(readme) == readme
    assert readme.count("**not run**") == (board.verdict == "not run").sum()
    page = (ROOT / "results" / "provenance.md").read_text()
    assert page == study.provenance() + "\n"
    for line in page.splitlines():  # a run that went on later has two commits in its row
        commits = re.findall("`([0-9a-f]{7})`", line)
        assert len(commits) == len(set(commits))


def test_numbers_in_prose_are_what_the_ledger_says(data_dir):
    kept = json.loads((ROOT / "results" / "numbers.json").read_text())
    assert kept == study.numbers()
