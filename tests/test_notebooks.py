"""The notebooks are thin templates that run; the recorded ones are what the templates give."""

import re
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from PIL import Image

from vdsr.study import STUDIES, lessons, load
from vdsr.study.publish import EXTRA_PAGES

ROOT = Path(__file__).parents[1]
TEMPLATES = sorted((ROOT / "notebooks").glob("*.ipynb"))
RECORDED = sorted((ROOT / "results" / "notebooks").glob("*.ipynb"))
PAGES = [name for name, study in STUDIES.items() if study.page]
each = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)

# Of the tools that run notebooks, not of the notebooks.
pytestmark = pytest.mark.filterwarnings("ignore")


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def template(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def run(path, folder, **parameters):
    """Execute a notebook away from the project's folder; nothing may go to standard error."""
    first = code(nbformat.read(path, as_version=4))[0].source
    known = {key: value for key, value in parameters.items() if f"{key} =" in first}
    out = papermill.execute_notebook(
        path, folder / "out.ipynb", known, cwd=folder, progress_bar=False
    )
    for cell in code(out):
        for output in cell.outputs:
            assert output.get("name") != "stderr", output.text
    return out


PHOTO = ROOT / "notebooks" / "upscale_your_photo.ipynb"


@pytest.mark.slow
def test_photo_is_enlarged_once_and_written(tmp_path, monkeypatch):
    Image.fromarray(np.full((9, 12, 3), 90, np.uint8)).save(tmp_path / "in.png")
    parameters = {"photo": "in.png", "target": "out.png", "scale": "2.5"}  # as papermill -r gives
    counting = nbformat.read(PHOTO, as_version=4)
    counting.cells.insert(2, nbformat.v4.new_code_cell(
        "import vdsr.networks as n; tiles = []; a = n.apply\n"
        "n.apply = lambda model, luma: tiles.append(luma) or a(model, luma)"
    ))  # fmt: skip
    counting.cells.append(nbformat.v4.new_code_cell("print(len(tiles), 'tile')"))
    nbformat.write(counting, tmp_path / "counting.ipynb")
    out = papermill.execute_notebook(
        tmp_path / "counting.ipynb", tmp_path / "out.ipynb", parameters, cwd=tmp_path,
        progress_bar=False,
    )  # fmt: skip
    assert out.cells[-1].outputs[0].text == "1 tile\n"
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (30, 23)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"target": "out.png"}, "target is for a photo of yours"),
        ({"scale": "9"}, "scale must be a number from 1 to 8, got 9.0"),
        ({"photo": "none.png"}, "none.png"),
    ],
)
def test_photo_with_wrong_parameters(parameters, message, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match=message):
        papermill.execute_notebook(
            PHOTO, tmp_path / "o.ipynb", parameters, cwd=tmp_path, progress_bar=False
        )
    assert not (tmp_path / "out.png").exists()


def test_every_study_has_its_notebook():
    assert {path.stem for path in TEMPLATES} == {*PAGES, *EXTRA_PAGES}
    assert {path.stem for path in RECORDED} == {*PAGES, *EXTRA_PAGES}


@each
def test_template_is_clean(path):
    cells = code(nbformat.read(path, as_version=4))
    if path.stem not in lessons.PAGES:  # which have nothing to set
        assert "parameters" in cells[0].metadata.tags
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert not any("sys.path" in cell.source for cell in cells)


@pytest.mark.parametrize("name", PAGES)
def test_a_studys_page_is_thin(name):
    cells = code(template(name))
    assert f'study = load("{name}", preset, refresh=refresh, missing=missing)' in (
        cells[1].source.splitlines()
    )
    assert max(len(cell.source.splitlines()) for cell in cells) <= 25
    assert not any(word in cell.source for cell in cells for word in ("class ", "def "))


@pytest.mark.parametrize("name", PAGES)
def test_a_studys_page_shows_each_of_its_findings(name):
    text = "\n".join(cell.source for cell in code(template(name)))
    findings = load(name, "paper", missing="skip").findings
    assert {*re.findall(r'study\.finding\("(\w+)"\)\.shown\(\)', text)} == {
        finding.name for finding in findings
    }


@pytest.mark.slow
@each
def test_smoke(path, tmp_path, monkeypatch):
    monkeypatch.setenv("VDSR_RUNS_DIR", str(tmp_path / "runs"))
    out = run(path, tmp_path, preset="smoke", steps=4)
    data = [o.get("data", {}) for cell in code(out) for o in cell.outputs]
    assert any('class="drawn"' in d.get("text/html", "") for d in data)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["quick", "paper"])
@pytest.mark.parametrize("name", PAGES)
def test_pages_show_what_is_not_run(name, preset, tmp_path, monkeypatch, request):
    """Nothing of the small presets is ever recorded, and of the paper's not everything yet."""
    if preset == "paper":
        request.getfixturevalue("data_dir")
    monkeypatch.setenv("VDSR_RUNS_DIR", str(tmp_path / "runs"))
    run(ROOT / "notebooks" / f"{name}.ipynb", tmp_path, preset=preset, missing="skip")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_wrong_preset_fails_before_training(tmp_path, monkeypatch):
    monkeypatch.setenv("VDSR_RUNS_DIR", str(tmp_path / "runs"))
    with pytest.raises(papermill.PapermillExecutionError, match="must be one of auto, smoke"):
        run(ROOT / "notebooks" / "ablation_depth.ipynb", tmp_path, preset="papre")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_notebook_matches_its_template(path):
    def sources(notebook):
        cells = [
            c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])
        ]
        return [(cell.cell_type, cell.source) for cell in cells]

    assert sources(nbformat.read(path, as_version=4)) == sources(template(path.stem))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_notebook_ran_cleanly(path):
    notebook = nbformat.read(path, as_version=4)
    for part in (notebook, *notebook.cells):  # which hold paths and times of the day
        assert not {"papermill", "execution"} & set(part.metadata)
    for cell in code(notebook):
        for output in cell.outputs:
            assert output.output_type != "error", output.evalue
            assert output.get("name") != "stderr", output.text
