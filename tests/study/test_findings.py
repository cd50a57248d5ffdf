import re
from dataclasses import replace
from math import inf, isnan, nan

import pandas as pd
import pytest
from scipy.stats import ttest_ind

from vdsr.study.findings import (
    HINTS,
    WORDS,
    Case,
    Finding,
    Noise,
    as_markdown,
    board,
    case,
    span,
)


def psnr(*values):
    return pd.Series(values, dtype=float)


CHANCE = Noise(0.05, 4)


def test_noise_is_the_spread_over_seeds():
    assert Noise.of(psnr(1, 2, 3)) == Noise(pytest.approx(1), 2)
    assert Noise.of(psnr(1, 3, nan)) == Noise(pytest.approx(2**0.5), 1)


def test_one_run_says_nothing_about_chance():
    assert Noise.of(psnr(1)) is None
    assert Noise.of(psnr(1, nan)) is None
    assert Noise.of(psnr()) is None


def test_pooled_noise_weighs_each_kind_by_its_freedom():
    """Squares of 1, twice, and of 4, once."""
    assert Noise.pooled([psnr(1, 2, 3), psnr(0, 8**0.5), psnr(5)]) == Noise(
        pytest.approx(2**0.5), 3
    )
    assert Noise.pooled([psnr(1)]) is None and Noise.pooled([]) is None


def test_two_single_runs_differ_by_chance_up_to_four_deviations():
    assert Noise(1.0, 4).bar(1, 1) == pytest.approx(3.93, abs=0.005)  # t(0.975; 4) · √2
    assert Noise(0.5, 4).bar(1, 1) == pytest.approx(3.93 / 2, abs=0.005)
    assert Noise(1.0, 4).bar(1) == pytest.approx(2.776, abs=0.001)
    assert Noise(1.0, 4).bar(3, 3) == pytest.approx(2.776 * (2 / 3) ** 0.5, abs=0.001)


def test_a_case_of_single_runs_takes_its_bar_from_the_study_of_chance():
    found = case("a", psnr(31), psnr(30.5), noise=CHANCE, paper=0.4)
    assert (found.ours, found.paper, found.seeds) == (0.5, 0.4, 1)
    assert found.bar == pytest.approx(CHANCE.bar(1, 1))
    assert case("a", psnr(31, 32), psnr(30), noise=CHANCE).bar == pytest.approx(CHANCE.bar(2, 1))
    assert isnan(case("a", psnr(31), psnr(30)).bar)


def test_three_seeds_on_both_sides_know_their_own_chance():
    """Both sides have a variance of 1: 4 degrees of freedom, and t(0.975; 4)·√(2/3)."""
    found = case("a", psnr(31, 32, 33), psnr(29, 30, 31), noise=CHANCE)
    assert (found.ours, found.seeds) == (2, 3)
    assert found.bar == pytest.approx(2.776 * (2 / 3) ** 0.5, abs=0.001)
    assert not found.holds
    fewer = case("a", psnr(31, 32, 33), psnr(29, 30), noise=CHANCE)
    assert fewer.bar == pytest.approx(CHANCE.bar(3, 2))


def test_sides_of_unequal_chance():
    """Welch's rule, as SciPy has it."""
    one, other = psnr(31, 31.1, 31.2), psnr(29, 30, 31.5, 32)
    low, high = ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert case("a", one, other).bar == pytest.approx((high - low) / 2)
    noises = Noise.of(one), Noise.of(other)
    single = case("a", psnr(31), psnr(30), noise=noises)
    sd = (one.var() + other.var()) ** 0.5
    assert 2.776 * sd < single.bar < 4.303 * sd  # between four degrees of freedom and two
    assert isnan(case("a", psnr(31), psnr(30), noise=(Noise(0.1, 2), None)).bar)
    level = case("a", psnr(31, 31, 31), psnr(30, 30, 30))
    assert (level.bar, level.holds) == (0, True)


def test_a_number_has_no_spread():
    found = case("a", psnr(31, 32, 33), 30.0)
    assert (found.ours, found.seeds) == (2, 3)
    assert found.bar == pytest.approx(4.303 / 3**0.5, abs=0.001)  # t(0.975; 2)·√(1/3)
    assert case("a", psnr(31), 30.0, noise=CHANCE).bar == pytest.approx(CHANCE.bar(1))


def test_missing_runs_leave_a_case_open():
    for sides in ((psnr(), psnr(30)), (psnr(30), psnr())):
        found = case("a", *sides, noise=CHANCE, paper=0.4)
        assert not found.known
        assert (found.seeds, found.paper) == (0, 0.4)


@pytest.mark.parametrize(
    ("one", "other", "wants", "ours"),
    [
        (psnr(nan), psnr(30), "above", -inf),
        (psnr(30), psnr(nan), "above", inf),
        (psnr(30, 31, nan), psnr(29, 29, 29), "above", -inf),  # one seed of three is enough
        (psnr(nan), psnr(30), "below", -inf),
        (psnr(30), psnr(nan), "below", inf),
        (psnr(nan), psnr(30), "level", -inf),
        (psnr(nan), 30.0, "above", -inf),
        # where both diverged, nothing is ahead of anything, whatever is claimed
        (psnr(nan), psnr(nan), "above", -inf),
        (psnr(nan), psnr(nan), "below", inf),
        (psnr(nan), psnr(nan), "level", -inf),
    ],
)
def test_what_diverged_is_infinitely_behind(one, other, wants, ours):
    found = case("a", one, other, wants=wants)
    assert found.known
    assert found.ours == ours
    assert found.bar == 0  # no chance reaches that
    both = not isinstance(other, float) and other.isna().any() and one.isna().any()
    assert found.holds == ((ours > 0) == (wants != "below") and not both)


@pytest.mark.parametrize(
    ("wants", "ours", "holds"),
    [
        ("above", 0.21, True), ("above", 0.19, False), ("above", -1, False),
        ("below", -0.21, True), ("below", -0.19, False), ("below", 1, False),
        ("level", 1, True), ("level", -0.09, True), ("level", -0.11, False),
    ],
)  # fmt: skip
def test_a_lead_must_exceed_chance_and_what_is_level_need_not(wants, ours, holds):
    assert Case("a", ours, bar=0.2, wants=wants).holds == holds


def test_where_chance_is_not_known_any_lead_counts():
    assert Case("a", 0.01).holds
    assert not Case("a", -0.01).holds


def finding(*ours, preset="paper", bar=0.2):
    cases = tuple(Case(f"case {i}", value, 0.5 + i, bar) for i, value in enumerate(ours))
    return Finding("name", "It is so", "Table 9", "page", cases, preset, "their words")


ANSWERS = [((1, 2), "all"), ((1, 0), "some"), ((0, -1), "none"), ((inf, 1), "all")]


@pytest.mark.parametrize(("ours", "answer"), ANSWERS)
def test_verdicts_are_for_the_papers_length_and_known_chance(ours, answer):
    assert finding(*ours).verdict == WORDS[answer]
    for preset in ("quick", "smoke"):
        assert finding(*ours, preset=preset).verdict == HINTS[answer]
    one_unknown = finding(*ours)
    one_unknown = replace(one_unknown, cases=(replace(one_unknown.cases[0], bar=nan),
                                              *one_unknown.cases[1:]))  # fmt: skip
    assert one_unknown.verdict in HINTS.values()


def test_not_run_as_long_as_a_case_has_no_runs():
    for found in (finding(), finding(nan), finding(1, nan), finding(1, nan, preset="quick")):
        row = found.row()
        assert found.verdict == row["verdict"] == "not run"
        assert (row["ours"], row["basis"]) == ("", "")


def test_row_table_and_number_say_the_same():
    found = finding(1.234, 0.1, inf)
    assert found.row() == {
        "claim": "It is so", "source": "Table 9", "page": "page",
        "paper": "+0.50 to +2.50 dB",
        "ours": "+0.10 to +1.23 dB; 1 where the other diverged; holds in 2 of 3",
        "verdict": "partly reproduced", "basis": "`paper`, 1 seed",
    }  # fmt: skip
    table = found.table()
    assert [*table.index] == ["case 0", "case 1", "case 2"]
    assert [*table.ours] == [1.234, 0.1, inf]
    assert [*table.paper] == [0.5, 1.5, 2.5]
    assert [*table["chance reaches"]] == [0.2] * 3
    assert [*table["as claimed"]] == ["yes", "no", "yes"]
    assert found.number("case 0") == "+1.23 dB"
    assert found.number("case 2") == "1 where the other diverged"
    assert finding(0.5).row()["ours"] == "case 0: +0.50 dB"  # else nobody knows what is compared
    assert replace(found, network="their weights").row()["basis"] == "their weights"


def test_a_page_shows_signs_and_says_in_words_which_side_diverged():
    page = finding(1.234, -0.004, inf, -inf).shown().to_html()
    cells = re.findall(r'<td.* class="data row\d col(\d)" >(.*)</td>', page)
    ours, chance = ([text for place, text in cells if place == column] for column in "12")
    assert ours == ["+1.23", "-0.004", "other diverged", "diverged"]
    assert chance == ["0.20", "0.20", "–", "–"]


def test_a_table_tells_no_from_not_run():
    table = finding(nan, -1).table()
    assert [*table["as claimed"]] == ["not run", "no"]
    assert finding(nan).number("case 0") == "(not run)"


@pytest.mark.parametrize(
    ("ours", "bar", "wants", "answer"),
    [
        (0.3, 0.2, "above", "yes"), (0.1, 0.2, "above", "no"), (0.1, nan, "above", "yes, by sign"),
        (-0.1, nan, "above", "no, by sign"), (-0.1, nan, "below", "yes, by sign"),
        (-0.05, nan, "level", "yes"), (nan, nan, "above", "not run"),
    ],
)  # fmt: skip
def test_an_answer_says_whether_only_the_sign_is_known(ours, bar, wants, answer):
    assert Case("this", ours, bar=bar, wants=wants).answer == answer


def test_a_finding_of_no_cases_has_an_empty_table():
    assert [*finding().table()] == [*finding(1).table()]
    assert finding().table().empty


def test_a_number_spans_the_cases_that_are_meant():
    found = finding(1, 2, nan)
    assert found.number() == "+1.00 to +2.00 dB"
    assert found.number("case") == found.number()
    assert found.number("case 7") == "(not run)"  # as in another preset


def test_the_papers_words_stand_where_it_has_no_numbers():
    found = Finding("name", "It is so", "§1", "page", (Case("a", 1.0, seeds=3),), "quick", "words")
    assert found.row()["paper"] == "words"
    assert found.row()["basis"] == "`quick`, 3 seeds"
    assert found.row()["ours"] == "a: +1.00 dB"


def test_seeds_are_those_of_the_case_that_has_fewest():
    cases = (Case("a", 1.0, seeds=3), Case("b", 1.0, seeds=1))
    assert Finding("name", "It is so", "§1", "page", cases, "paper").seeds == 1


def test_span():
    assert (
        span([0.1, inf, -0.2, -inf]) == "-0.20 to +0.10 dB; 1 where the other diverged; 1 diverged"
    )
    assert span([0.101, 0.1]) == "+0.10 dB"
    assert span([]) == ""


def test_the_board_is_drawn_from_the_rows():
    found = [finding(1, 2), finding(nan)]
    table = board(found)
    assert [table.loc[i].to_dict() for i in table.index] == [f.row() for f in found]
    assert as_markdown(table, "notebooks/{}.ipynb").splitlines() == [
        "| claim | verdict | here | the paper |",
        "|---|---|---|---|",
        "| [It is so](notebooks/page.ipynb) (Table 9) | **reproduced** "
        "| +1.00 to +2.00 dB; holds in 2 of 2 (`paper`, 1 seed) | +0.50 to +1.50 dB |",
        "| [It is so](notebooks/page.ipynb) (Table 9) | **not run** |  | +0.50 dB |",
    ]
