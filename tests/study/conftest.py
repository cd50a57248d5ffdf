from dataclasses import replace

import pandas as pd
import pytest

from vdsr import ledger
from vdsr.config import run_id
from vdsr.study.configs import PRESETS
from vdsr.study.evidence import Evidence
from vdsr.study.findings import Noise
from vdsr.study.studies import STUDIES

# The chance of a run: two single ones differ by up to 0.08 dB.
CHANCE = Noise(0.02, 4)


@pytest.fixture
def tiny():
    """A run of six steps."""
    return replace(PRESETS["smoke"], eval_scales=(2,))


@pytest.fixture
def row():
    """Return a function that makes a row of histories, the last of a run unless it says so."""

    def make(config, psnr, **cells):
        settings = {f.name: ledger.cell(getattr(config, f.name)) for f in ledger.SETTINGS}
        place = {"step": 3280, "epoch": 80.0, "dataset": "Set5", "scale": 2, "tflop": 600.0}
        return {"run": run_id(config), "psnr": psnr, **place, **settings, **cells}

    return make


@pytest.fixture
def evidence():
    """Return a function that makes the evidence of a study from rows of histories.

    Its noise is that of every run, or by epoch, kind of network and rate.
    """

    def make(name, rows, preset="paper", noise=CHANCE, **known):
        study = STUDIES[name]
        columns = [*ledger.COLUMNS["scores"], "tflop", *(f.name for f in ledger.SETTINGS)]
        table = pd.DataFrame(rows, columns=columns)
        made = Evidence(study, preset, study.runs(preset), table, "skip")

        def noise_at(epoch, residual=True, rate=0.1):
            return noise[epoch, residual, rate] if isinstance(noise, dict) else noise

        # An instance's own names are looked up before cached properties and methods.
        made.__dict__.update(noise=noise_at(80), noise_at=noise_at, **known)
        return made

    return make
