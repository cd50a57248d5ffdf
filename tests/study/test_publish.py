"""What is shown, and that copies of it are what the records say."""

import json
import re
import shutil
from dataclasses import replace
from math import inf

import nbformat
import pandas as pd
import pytest

import vdsr
from vdsr import ledger, machine
from vdsr.config import run_id
from vdsr.study import configs, findings, publish
from vdsr.study.evidence import Study
from vdsr.study.studies import STUDIES

ROOT = machine.ROOT


@pytest.fixture
def small(monkeypatch, tiny):
    """A study of two runs."""
    made = Study(
        "small", "Does it work?", lambda preset: [tiny, replace(tiny, depth=2)], lambda e: []
    )
    monkeypatch.setitem(STUDIES, "small", made)


def test_nothing_recorded_is_not_run(elsewhere, tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    shutil.copy(ROOT / "results" / "border.csv", tmp_path / "results")
    board = publish.board().set_index("claim")
    border = board.index.str.contains("border")
    assert {*board.verdict[~border]} == {"not run"}
    assert len(board) == 12
    numbers = publish.numbers()
    assert (numbers["runs"], numbers["paper_runs"], numbers["hours"]) == ("0", "0", "0.0")
    assert numbers["authors_set14"] == "(not run)"
    assert "| `ablation_depth` | 0 | 7 | 0 | 0.0 | 0 |  |  |  |" in publish.provenance()


def test_numbers_are_counted(elsewhere, small, tiny):
    before = publish.numbers()
    ledger.record(vdsr.train(tiny), "paper")
    ledger.record(vdsr.train(replace(tiny, seed=1)), "paper")
    ledger.record(vdsr.train(replace(tiny, seed=7)), "smoke")  # which nothing asks for
    after = publish.numbers()
    assert (after["runs"], after["paper_runs"], after["paper_seeds"]) == ("3", "1", "1")
    assert after["paper_asked"] == before["paper_asked"]
    assert after["weights"] == "665,921"
    assert after["weights_without_biases"] == "664,704"
    assert after["theta"] == "10⁻⁴"
    assert after["paper_set14"] == "33.03 / 29.77 / 28.01"
    assert all(isinstance(value, str) for value in after.values())


def test_provenance_names_every_commit_once(elsewhere, small, tiny, monkeypatch):
    run = vdsr.train(tiny)
    run.record["commit"] = "1111111aaa then 2222222bbb"
    ledger.record(run, "paper")
    other = vdsr.train(replace(tiny, depth=2))
    other.record["commit"] = "2222222bbb"
    ledger.record(other, "paper")
    seconds = sum(each.record["seconds"] for each in (run, other)) / 3600
    device, arithmetic = run.record["device"], run.record["arithmetic"]
    assert (
        f"| `small` | 2 | 2 | 0 | {seconds:.1f} | 0 | {device} | {arithmetic} "
        "| `1111111`, `2222222` |"
    ) in publish.provenance().splitlines()


def test_readme_changes_its_block_alone():
    empty = findings.board([])
    text = "top\n<!-- scoreboard -->\nold\n<!-- /scoreboard -->\nend | old |\n"
    new = publish.readme(text, empty)
    head = "| claim | verdict | here | the paper |\n|---|---|---|---|"
    assert new == text.replace("\nold\n", f"\n{head}\n")
    assert publish.readme(new, empty) == new


def test_unknown_notebooks_are_refused_before_anything_is_written(elsewhere, tmp_path):
    (tmp_path / "notebooks").mkdir()
    with pytest.raises(ValueError, match="unknown notebook noise, width; known are"):
        publish.publish(["width", "resizing", "noise"])
    assert [path.name for path in tmp_path.iterdir()] == ["notebooks"]


def test_outside_a_clone_nothing_is_published(elsewhere, tmp_path):
    with pytest.raises(ValueError, match="publishing needs a clone of the project"):
        publish.publish()
    assert not [*tmp_path.iterdir()]


@pytest.fixture
def clone(elsewhere, tmp_path, monkeypatch):
    """A project with one notebook and a README; what takes long is not measured."""
    (tmp_path / "notebooks").mkdir()
    source = 'preset = "auto"\nmissing = "train"'
    cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("print(preset, missing)"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, tmp_path / "notebooks" / "resizing.ipynb")
    (tmp_path / "README.md").write_text("top\n<!-- scoreboard --><!-- /scoreboard -->\nend\n")
    rows = pd.DataFrame({"dataset": "Set5", "scale": 2, "psnr": [30.0, 31.0]})
    monkeypatch.setattr(publish, "evaluate", lambda model, name, scale: rows.assign(scale=scale))
    profile = pd.DataFrame({"distance": [0]})
    monkeypatch.setattr(publish.table3, "measured_border", lambda preset: profile)
    monkeypatch.setattr(publish.fields, "update", lambda: None)
    monkeypatch.setattr(publish.corrections, "update", lambda: None)
    monkeypatch.setattr(publish.factors, "update", lambda: None)
    monkeypatch.setattr(publish.crops, "write_slider", lambda folder, network: folder.mkdir())
    monkeypatch.setattr(publish, "board", lambda: findings.board([]))
    monkeypatch.setattr(publish, "board_figure", lambda: "<svg>")
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # of the tools that run notebooks
def test_publishing_executes_a_notebook_and_keeps_no_trace_of_the_machine(clone, elsewhere):
    assert publish.publish(["resizing"]) == 0
    results = clone / "results"
    [path] = (results / "notebooks").iterdir()
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[-1].outputs[0].text == "paper skip\n"
    for part in (notebook, *notebook.cells):
        assert not {"papermill", "execution"} & {*part.metadata}
    assert str(clone) not in path.read_text()
    bicubic = pd.read_csv(results / "bicubic.csv")
    assert {*bicubic.psnr} == {30.5}
    assert {1.5, 2, 2.5, 3, 3.5, 4} == {*bicubic.scale}
    assert json.loads((results / "numbers.json").read_text()) == publish.numbers()
    assert (results / "provenance.md").read_text() == publish.provenance() + "\n"
    assert (results / "figures" / "board.svg").read_text() == "<svg>\n"
    table = findings.as_markdown(findings.board([]), "{}")
    assert (results / "scoreboard.md").read_text() == table + "\n"
    readme = (clone / "README.md").read_text()
    assert readme == f"top\n<!-- scoreboard -->\n{table}\n<!-- /scoreboard -->\nend\n"
    assert not elsewhere


@pytest.mark.parametrize("text", ["top\n", "<!-- scoreboard -->\n", "<!-- /scoreboard -->\n"])
def test_a_readme_without_a_place_for_the_table_is_refused_first(clone, text):
    (clone / "README.md").write_text(text)
    with pytest.raises(ValueError, match=r"README\.md needs one line <!-- scoreboard -->"):
        publish.publish(["resizing"])
    assert not (clone / "results").exists()


# The copies that are committed


def test_the_scoreboards_copies_are_what_the_ledger_says():
    board = publish.board()
    page = (ROOT / "results" / "scoreboard.md").read_text()
    assert page == findings.as_markdown(board, "notebooks/{}.ipynb") + "\n"
    readme = (ROOT / "README.md").read_text()
    assert publish.readme(readme, board) == readme
    assert readme.count("**not run**") == (board.verdict == "not run").sum()


def test_the_boards_figure_is_what_the_ledger_says():
    """Its text; the places of its lines are another matter on another machine's fonts."""

    def words(svg):
        return [text.strip() for text in re.findall(r">([^<]+)</text>", svg)]

    kept = (ROOT / "results" / "figures" / "board.svg").read_text()
    assert words(kept) == words(publish.board_figure())
    assert words(kept).count("not run") == (publish.board().verdict == "not run").sum()
    assert kept.count('role="img"') == 1


def test_provenance_is_what_the_ledger_says():
    page = (ROOT / "results" / "provenance.md").read_text()
    assert page == publish.provenance() + "\n"
    for line in page.splitlines():  # a run that went on later has two commits in its row
        commits = re.findall("`([0-9a-f]{7})`", line)
        assert len(commits) == len(set(commits))


def test_numbers_in_prose_are_what_the_ledger_says():
    kept = json.loads((ROOT / "results" / "numbers.json").read_text())
    assert kept == publish.numbers()


def test_interpolation_is_recorded_for_every_set_that_answers():
    """A reader's notebook then needs no image for it."""
    known = pd.read_csv(ROOT / "results" / "bicubic.csv")
    known = {*zip(known.dataset, known.scale, strict=True)}
    for study in STUDIES.values():
        scales = {scale for c in study.runs("paper") for scale in c.eval_scales}
        assert {(study.images, scale) for scale in scales} <= known


@pytest.mark.parametrize("name", [name for name, study in STUDIES.items() if study.page])
def test_recorded_notebooks_show_what_the_ledger_says(name):
    study = publish.load(name, "paper", missing="skip")
    path = ROOT / "results" / "notebooks" / f"{name}.ipynb"
    outputs = [
        output.get("data", {})
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", [])
    ]
    assert study.caption in [data.get("text/markdown") for data in outputs]
    pages = "".join(data.get("text/html", "") for data in outputs)
    for finding in study.findings:
        for case in finding.cases:
            label = re.escape(case.label).replace("'", "(?:'|&#x27;|&#39;)")
            words = {inf: "other diverged", -inf: "diverged"}
            ours = re.escape(words.get(case.ours, findings.signed(case.ours)))
            ours = ours if case.known else "–"
            assert re.search(rf">{label}</th>(?:(?!</tr>).)*>{ours}<", pages, re.DOTALL), case


def test_every_recorded_run_stands_in_provenance():
    """A run that no study asks for would be a run that nobody can find."""
    asked = {
        run_id(replace(c, seed=seed))
        for s in STUDIES.values() for c in s.runs("paper") for seed in {c.seed, *range(10)}
    }  # fmt: skip
    assert {*ledger.read()[0].run} <= asked


def test_further_seeds_stand_in_provenance(monkeypatch):
    runs, scores = ledger.read()
    [reference] = runs[runs.run == run_id(configs.reference("paper")[0])].to_dict("records")
    [init] = [line for line in publish.provenance().splitlines() if "| `ablation_init`" in line]
    assert init.split(" | ")[1:4] == ["6", "6", "2"]  # of the reference, which it shares
    further = replace(configs.init("paper")[1], seed=2)
    row = reference | {"run": run_id(further), "seconds": 3600.0 * 1000, "commit": "0123456789"}
    monkeypatch.setattr(ledger, "read", lambda: (pd.concat([runs, pd.DataFrame([row])]), scores))
    [init] = [line for line in publish.provenance().splitlines() if "| `ablation_init`" in line]
    assert init.split(" | ")[1:4] == ["6", "6", "3"]
    assert float(init.split(" | ")[4]) > 1000 and "`0123456`" in init
