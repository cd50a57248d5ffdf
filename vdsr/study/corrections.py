"""How strongly networks for three scales correct, kept in ``results/corrections.csv``."""

from dataclasses import replace

import pandas as pd

from .. import ledger, runs
from ..config import run_id
from ..data import load_images
from ..files import load_checkpoint
from ..upscale import PRETRAINED, load_pretrained
from .configs import benchmark, depth, shallow, srcnn, theta_for_scales
from .evidence import SEEDS
from .figures import scientific
from .probes import correction_factor
from .table3 import PUBLISHED, authors

SCALES = 1.5, 2, 2.5, 3, 3.5, 4


def _asked():
    """Return the runs whose networks are measured, by identity: those for ×2, ×3 and ×4."""
    studies = benchmark, depth, shallow, srcnn, theta_for_scales
    configs = [config for study in studies for config in study("paper")]
    seeds = [replace(c, seed=s) for c in configs if c.scales == (2, 3, 4) for s in range(SEEDS)]
    return {run_id(config): config for config in seeds}


def _network(identity, config):
    """Return the authors' network, the one that ships, or a run's; None if it is not here."""
    if identity == PUBLISHED:
        return authors()
    shipped = load_checkpoint(PRETRAINED)[1]["run"]
    return load_pretrained() if identity == shipped else runs.network_here(config)


def update():
    """Measure the authors' network, and ours that are trained here and not measured, on Set5.

    A network's weights are on the machine that trained it alone, so that rows of others stay.
    """
    known, images = set(ledger.table("corrections").run), load_images("Set5")
    for identity, config in {PUBLISHED: None, **_asked()}.items():
        model = None if identity in known else _network(identity, config)
        if model is not None:
            factors = [correction_factor(model, images, scale) for scale in SCALES]
            rows = pd.DataFrame({"run": identity, "scale": SCALES, "factor": factors}).round(4)
            ledger.extend("corrections", rows, ["run", "scale"])


def by_network():
    """Return what is recorded, with names for networks.

    Returns
    -------
    pandas.DataFrame
        Columns name, scale, and factor as `vdsr.study.probes.correction_factor` explains it, the
        mean over the seeds that are measured.
    """
    names = {PUBLISHED: "VDSR, 20 layers, the authors'"}
    for identity, config in _asked().items():
        how = {"adam": "Adam", "muon": "Muon", "sgd": f"θ = {scientific(config.theta)}"}
        name = f"VDSR, {config.depth} layers, {how[config.optimizer]}"
        name += {"T91+BSD190": ", 281 images"}.get(config.train_set, "")
        names[identity] = name if config.architecture == "VDSR" else config.architecture
    table = ledger.table("corrections")
    table.insert(0, "name", table.run.map(names))
    return table.groupby(["name", "scale"], sort=False).factor.mean().reset_index()
