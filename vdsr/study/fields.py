"""How far networks look before and after their training, kept in ``results/fields.csv``."""

import pandas as pd

from .. import ledger, runs
from ..config import run_id
from ..patches import Patches
from ..train import untrained
from .configs import depth, reference
from .probes import field_sides, gradient_field


def inputs(scale):
    """Return every fourth piece of scikit-image's pictures: (N, 1, 81, 81) in [0, 1].

    They are larger than what twenty layers see, so that a picture of a field shows where it ends.
    """
    return Patches("samples-test", (scale,), size=81).ilr.view(-1, 1, 81, 81)[::4]


def update():
    """Measure the networks of Figure 3 and the reference, where they are trained and not measured.

    A network's weights are on the machine that trained it alone, so that rows of others stay.
    """
    known, rows = set(ledger.table("fields").run), []
    asked = {run_id(config): config for config in (*depth("paper"), reference("paper")[0])}
    for identity, config in asked.items():
        model = None if identity in known else runs.network_here(config)
        if model is None:
            continue
        states = {"before": untrained(config), "after": model}
        for scale in config.scales:
            for state, network in states.items():
                _, side = field_sides(gradient_field(network, inputs(scale)))
                row = {"run": identity, "scale": scale, "state": state, "side": round(side, 2)}
                rows.append(row)
    if rows:
        ledger.extend("fields", pd.DataFrame(rows), ["run", "scale", "state"])


def by_depth():
    """Return what is recorded, a row a network and scale.

    Returns
    -------
    pandas.DataFrame
        Columns depth, scales (that it was trained for, as text), scale (of the input), and the
        sides of the effective field in pixels, before and after.
    """
    known = ledger.read()[0].set_index("run")
    table = ledger.table("fields").pivot(index=["run", "scale"], columns="state", values="side")
    table = table.reindex(columns=["before", "after"]).reset_index()
    table.insert(0, "depth", table.run.map(known.depth))
    table.insert(1, "scales", table.run.map(known.scales))
    return table.drop(columns="run").sort_values(["depth", "scales", "scale"], ignore_index=True)
