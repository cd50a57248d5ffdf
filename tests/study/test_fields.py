"""The effective fields of trained networks, as they are recorded."""

from dataclasses import replace

import pytest
import torch

import vdsr
from vdsr import ledger, machine, runs
from vdsr.config import run_id
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


def test_inputs_are_single_pieces():
    assert fields.inputs(3).shape[1:] == (1, 81, 81)


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
    runs.checkpoint(run_id(small[1])).unlink()
    elsewhere = "run,scale,state,side\nffffffffffff,2.0,after,9.5\n"
    (machine.ROOT / "results" / "fields.csv").write_text(elsewhere)
    fields.update()
    table = ledger.table("fields")
    assert table[:1].to_csv(index=False) == elsewhere
    assert {*table.run[1:]} == {run_id(small[0])}


def test_a_network_that_diverged_has_no_field(elsewhere, tiny, monkeypatch):
    wild = replace(tiny, clipping="none", learning_rate=1e30)
    ledger.record(runs.attempt(wild), "smoke")
    monkeypatch.setattr(fields, "depth", lambda preset: [wild])
    monkeypatch.setattr(fields, "reference", lambda preset: (wild, True))
    fields.update()
    assert ledger.table("fields").empty


def test_by_depth(small):
    fields.update()
    table = fields.by_depth()
    assert [*table.depth] == [2, 2, 3, 3]
    assert [*table.scale] == [2, 3, 2, 3]
    assert table[["before", "after"]].notna().all(axis=None)
    assert (table.after <= 2 * table.depth + 1).all()


def test_by_depth_of_nothing(elsewhere):
    assert fields.by_depth().empty
