"""The network that ships at factors that it was not trained for."""

import numpy as np
import pytest

import vdsr
from vdsr import ledger
from vdsr.data import load_images
from vdsr.files import load_checkpoint
from vdsr.study import factors


@pytest.fixture
def small(elsewhere, monkeypatch):
    """Two small images in place of each set, and two factors."""
    images = {k: v[:60, :50] for k, v in [*load_images("samples-test").items()][:2]}
    monkeypatch.setattr(factors, "load_images", lambda name: images)
    monkeypatch.setattr(factors, "FACTORS", (1.5, 5))
    return images


def test_each_way_is_scored_by_the_papers_protocol(small):
    psnr = factors.measure(small, 1.5)
    assert [*psnr] == [*factors.WAYS]
    own = [vdsr.evaluate(model, small, 1.5).psnr.mean() for model in (None, vdsr.load_pretrained())]
    assert psnr["interpolation"] == pytest.approx(own[0], abs=1e-6)
    # From a picture without overshoot, in fast arithmetic
    assert psnr["at the factor"] == pytest.approx(own[1], abs=0.5)
    assert psnr["at ×2, ×3, ×4"] > max(own) + 1


def test_the_network_that_ships_is_measured_once(small, monkeypatch):
    factors.update()
    table = factors.by_factor()
    assert [*table.index] == [1.5, 5] and np.isfinite(table.to_numpy()).all()
    assert [*table.columns] == [(name, way) for name in factors.SETS for way in factors.WAYS]
    monkeypatch.setattr(factors, "measure", None)  # which another time would not bear
    factors.update()
    assert {*ledger.table("factors").run} == {load_checkpoint(factors.PRETRAINED)[1]["run"]}
    other = ledger.table("factors").assign(run="ffffffffffff", psnr=1.0)
    ledger.extend("factors", other, ["run", "dataset", "scale", "way"])
    assert factors.by_factor().equals(table)
