"""The effective fields of trained networks, as they are recorded."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

import vdsr
from vdsr import ledger, runs
from vdsr.model import init_
from vdsr.study import fields
from vdsr.study.probes import field_sides, gradient_field


@pytest.fixture
def small(elsewhere, tiny, monkeypatch):
    """Two trained networks in place of Figure 3's, recorded, and one that is not trained."""
    made = [replace(tiny, depth=depth, scales=(2, 3)) for depth in (3, 2)]
    for config in made:
        ledger.record(vdsr.train(config), "smoke")
    monkeypatch.setattr(fields, "depth", lambda preset: [*made, replace(tiny, depth=4)])
    monkeypatch.setattr(fields, "reference", lambda preset: (made[0], True))
    return made


def test_inputs_hold_all_that_twenty_layers_see():
    assert fields.inputs(3).shape[1:] == (1, 81, 81)
    assert 81 >= 41 + 2 * 20


def test_each_network_is_measured_once(small):
    fields.update()
    table = ledger.table("fields")
    assert [*table.columns] == ["run", "scale", "state", "side"]
    assert len(table) == 2 * 2 * 2
    model = small[0].network()
    init_(model, mode=small[0].init, last_scale=small[0].last_scale,
          generator=torch.Generator().manual_seed(small[0].seed))  # fmt: skip
    trained = vdsr.train(small[0]).model
    sides = table[(table.run == table.run[0]) & (table.scale == 2)].set_index("state").side
    for state, network in (("before", model), ("after", trained)):
        _, side = field_sides(gradient_field(network, fields.inputs(2)))
        assert sides[state] == pytest.approx(side, rel=1e-3)
    before = table.to_csv()
    fields.update()
    assert ledger.table("fields").to_csv() == before


def test_rows_of_weights_that_are_elsewhere_stay(small):
    fields.update()
    before = ledger.table("fields")
    for config in small:
        runs.checkpoint(vdsr.config.run_id(config)).unlink()
    fields.update()
    pd.testing.assert_frame_equal(ledger.table("fields"), before)


def test_by_depth(small):
    fields.update()
    table = fields.by_depth()
    assert [*table.depth] == [2, 2, 3, 3]
    assert [*table.scale] == [2, 3, 2, 3]
    assert table[["before", "after"]].notna().all(axis=None)
    assert (table.after <= 2 * table.depth + 1).all()


def test_by_depth_of_nothing(elsewhere):
    assert fields.by_depth().empty
