"""How strongly networks for three scales correct, kept in ``results/corrections.csv``."""

import pandas as pd

from .. import ledger, machine, runs
from ..config import run_id
from ..data import load_images
from ..files import load_checkpoint, write_text
from ..upscale import PRETRAINED, load_pretrained
from .configs import benchmark, depth, shallow, srcnn, theta_for_scales
from .figures import scientific
from .probes import correction_factor
from .table3 import PUBLISHED, authors

SCALES = 1.5, 2, 2.5, 3, 3.5, 4


def _asked():
    """Return the runs whose networks are measured, by identity: those for ×2, ×3 and ×4."""
    studies = benchmark, depth, shallow, srcnn, theta_for_scales
    configs = [config for study in studies for config in study("paper")]
    return {run_id(config): config for config in configs if config.scales == (2, 3, 4)}


def _network(identity, config):
    """Return the authors' network, or a run's if its weights are on this machine, or None."""
    if identity == PUBLISHED:
        return authors()
    if load_checkpoint(PRETRAINED)[1]["run"] == identity:
        return load_pretrained()
    run = runs.recorded(config)
    there = run and not run.diverged and runs.has_ended(config)
    return run.model if there else None


def update():
    """Measure the authors' network, and ours that are trained here and not measured, on Set5.

    A network's weights are on the machine that trained it alone, so that rows of others stay.
    """
    table = ledger.table("corrections")
    known, images, rows = set(table.run), load_images("Set5"), []
    for identity, config in {PUBLISHED: None, **_asked()}.items():
        model = None if identity in known else _network(identity, config)
        if model is not None:
            factors = [correction_factor(model, images, scale) for scale in SCALES]
            rows.append(pd.DataFrame({"run": identity, "scale": SCALES, "factor": factors}))
    if rows:
        table = pd.concat([table, *rows], ignore_index=True)
        path = machine.ROOT / "results" / "corrections.csv"
        write_text(path, table.to_csv(index=False, float_format="%.4g", lineterminator="\n"))


def by_network():
    """Return what is recorded, with names for networks.

    Returns
    -------
    pandas.DataFrame
        Columns name, scale, and factor as `vdsr.study.probes.correction_factor` explains it.
    """
    names = {PUBLISHED: "VDSR, 20 layers, the authors'"}
    for identity, config in _asked().items():
        how = {"adam": "Adam", "muon": "Muon"}.get(
            config.optimizer, f"θ = {scientific(config.theta)}"
        )
        names[identity] = f"{config.architecture}, {config.depth} layers, {how}"
        if config.architecture != "VDSR":
            names[identity] = config.architecture
    table = ledger.table("corrections")
    table.insert(0, "name", table.run.map(names))
    return table.dropna(subset="name").drop(columns="run")
