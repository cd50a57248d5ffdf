"""The runs of a shortened schedule that were recorded before any of the paper's length.

A tenth of the epochs and batches of 16, by an older recipe of the training code. They can be
shown, not trained. A study's list goes as soon as its runs of the paper's length are recorded,
and this file with the last list.
"""

from dataclasses import replace

from ..config import TrainConfig
from .configs import RATES

_BASE = TrainConfig(batch_size=16, epochs=8, decay_epochs=2, theta=3e-5, recipe=1)
_FIVE = replace(_BASE, depth=5)
_SRCNN = replace(
    _BASE, architecture="SRCNN 9-1-5", init="normal", last_scale=1.0, patch_size=33, overlap=19,
    learning_rate=1e-4, last_rate=0.1, weight_decay=0.0, clipping="none", decay_epochs=10_000,
)  # fmt: skip

SHORT = {
    "ablation_clipping": [
        replace(_FIVE, learning_rate=rate, **kind)
        for rate in RATES
        for kind in (
            {"clipping": "adjustable"},
            {"clipping": "none"},
            {"clipping": "value", "theta": 3e-5 / 0.1},
            {"clipping": "norm", "theta": 0.4},
        )
    ],
    "srcnn": [
        _BASE,
        replace(_SRCNN, scales=(3,)),
        _SRCNN,
        replace(_SRCNN, scales=(2,)),
        replace(_SRCNN, scales=(4,)),
        replace(_SRCNN, scales=(3,), architecture="SRCNN 9-5-5"),
    ],
}  # fmt: skip
