"""The notebooks are thin templates that run; the recorded ones are what the templates give."""

from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from PIL import Image

from vdsr import benchmark, experiments, paper, train_all, verdicts
from vdsr.experiments import STUDIES
from vdsr.study import EXTRA_PAGES, shown

ROOT = Path(__file__).parents[1]
TEMPLATES = sorted((ROOT / "notebooks").glob("*.ipynb"))
RECORDED = sorted((ROOT / "results" / "notebooks").glob("*.ipynb"))
name = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)

# Of the tools that run notebooks, not of the notebooks.
pytestmark = pytest.mark.filterwarnings("ignore")


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@name
def test_template_is_thin(path):
    notebook = nbformat.read(path, as_version=4)
    cells = code(notebook)
    assert cells[0].metadata.tags == ["parameters"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert max(len(cell.source.splitlines()) for cell in cells) <= 25
    assert not any(word in cell.source for cell in cells for word in ("class ", "def ", "sys.path"))


@name
def test_smoke(path, tmp_path, monkeypatch):
    monkeypatch.setenv("VDSR_RUNS_DIR", str(tmp_path / "runs"))
    parameters = {"preset": "smoke"} if "preset" in code(nbformat.read(path, 4))[0].source else {}
    out = papermill.execute_notebook(
        path, tmp_path / "out.ipynb", parameters, cwd=tmp_path, progress_bar=False
    )
    for cell in code(out):
        for output in cell.outputs:
            assert output.get("name") != "stderr", output.text
    assert any("image/png" in o.get("data", {}) for cell in code(out) for o in cell.outputs)


def test_wrong_preset_fails_before_training(tmp_path, monkeypatch):
    monkeypatch.setenv("VDSR_RUNS_DIR", str(tmp_path / "runs"))
    with pytest.raises(papermill.PapermillExecutionError, match="must be one of auto, smoke"):
        papermill.execute_notebook(
            ROOT / "notebooks" / "ablation_depth.ipynb", tmp_path / "out.ipynb",
            {"preset": "papre"}, progress_bar=False,
        )  # fmt: skip
    assert not (tmp_path / "runs").exists()


PHOTO = ROOT / "notebooks" / "upscale_your_photo.ipynb"


def test_photo_is_enlarged_once_and_written(tmp_path, monkeypatch):
    Image.fromarray(np.full((9, 12, 3), 90, np.uint8)).save(tmp_path / "in.png")
    parameters = {"photo": "in.png", "target": "out.png", "scale": "2.5"}  # as papermill -r gives
    counting = nbformat.read(PHOTO, as_version=4)
    counting.cells.insert(3, nbformat.v4.new_code_cell(
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


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"target": "out.png"}, "target is for a photo of yours"),
        ({"scale": "9"}, "scale must be from 1 to 8, got 9.0"),
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
    assert {path.stem for path in TEMPLATES} == {*STUDIES, *EXTRA_PAGES}
    assert {path.stem for path in RECORDED} == {*STUDIES, *EXTRA_PAGES}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_notebook_matches_its_template(path):
    def sources(notebook):
        cells = [
            c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])
        ]
        return [(cell.cell_type, cell.source) for cell in cells]

    recorded = nbformat.read(path, as_version=4)
    template = nbformat.read(ROOT / "notebooks" / path.name, as_version=4)
    assert sources(recorded) == sources(template)


BICUBIC = pd.read_csv(ROOT / "results" / "bicubic.csv").set_index("scale").psnr
CLOSINGS = {
    "ablation_depth": lambda h: verdicts.depth(paper.depth_gain(h)),
    "ablation_residual": lambda h: verdicts.residual(paper.as_table1(h)),
    "ablation_scales": lambda h: verdicts.scales(paper.as_table2(h), BICUBIC),
    "ablation_clipping": lambda h: verdicts.clipping(paper.final(h)),
    "ablation_init": lambda h: verdicts.init(paper.final(h)),
    "ablation_iterations": lambda h: verdicts.iterations(paper.reach(h, 36.90), 36.90),
    "srcnn": lambda h: verdicts.srcnn(h),
}


@pytest.mark.parametrize("name", STUDIES)
def test_recorded_notebook_shows_the_ledgers_rows(name):
    preset = shown(name)
    configs = STUDIES[name](preset)
    histories = train_all(configs, missing="skip")
    recorded = nbformat.read(ROOT / "results" / "notebooks" / f"{name}.ipynb", as_version=4)
    printed = [o.get("data", {}).get("text/markdown") for c in code(recorded) for o in c.outputs]
    assert experiments.caption(preset, configs, histories) in printed
    if name in CLOSINGS:
        assert CLOSINGS[name](histories) in printed
    if name == "benchmark":
        assert verdicts.benchmark(benchmark.scores(preset, missing="skip")) in printed
