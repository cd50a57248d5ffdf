import numpy as np
import pytest

import vdsr
from vdsr.study import resizers


@pytest.fixture(scope="module")
def rows():
    images = {"a": vdsr.load_images("samples-test")["astronaut"][:96, :123]}
    model = vdsr.VDSR(depth=2, width=1)
    for p in model.parameters():
        p.data.zero_()
    return resizers.compare(model, images, (2, 3)), images


def test_own_row_is_the_protocol(rows):
    table, images = rows
    own = table[(table.resizer == "MATLAB's (as here)") & (table.scale == 3)]
    wanted = vdsr.evaluate(None, images, 3).psnr[0]
    assert [*own.psnr] == pytest.approx([wanted, wanted])  # the network adds nothing


def test_others_are_not_matlabs(rows):
    table, _ = rows
    psnr = table[table.method == "interpolation"].pivot(
        index="resizer", columns="scale", values="psnr"
    )
    gap = (psnr - psnr.loc["MATLAB's (as here)"]).drop("MATLAB's (as here)").abs()
    assert (gap.max(axis=1) > 0.01).all()


@pytest.mark.parametrize("resizer", resizers.RESIZERS.values(), ids=resizers.RESIZERS)
def test_a_flat_image_stays_flat(resizer):
    out = resizer(np.full((12, 15), 100.0), (4, 5))
    assert out.shape == (4, 5)
    assert out == pytest.approx(100, abs=1e-3)
