import re
import shutil
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdsr import TrainConfig, config
from vdsr.config import RECIPE, run_id, settings_of
from vdsr.files import PRETRAINED, load_checkpoint
from vdsr.model import receptive_field

NAN, INF = float("nan"), float("inf")
STEPS = {"epochs": None, "steps": 1000}
OTHERS = {  # a legal change of each field that decides the weights
    "architecture": {"architecture": "SRCNN 9-1-5"}, "depth": {"depth": 10}, "width": {"width": 32},
    "residual": {"residual": False}, "bias": {"bias": False}, "dilation": {"dilation": 2},
    "init": {"init": "fan_in"}, "last_scale": {"last_scale": 1.0},
    "start": {"start": "0123456789ab"}, "train_set": {"train_set": "BSD10"},
    "scales": {"scales": (2,)}, "augment": {"augment": True},
    "shrink": {"shrink": True}, "keep": {"keep": 0.5}, "average": {"average": 0.9},
    "patch_size": {"patch_size": 33},
    "overlap": {"overlap": 19}, "batch_size": {"batch_size": 32}, "epochs": {"epochs": 40},
    "steps": STEPS, "decay_epochs": {"decay_epochs": 10},
    "schedule": {"schedule": "constant", "decay_epochs": None},
    "optimizer": {"optimizer": "adam", "clipping": "none"},
    "learning_rate": {"learning_rate": 0.01}, "last_rate": {"last_rate": 0.1, "clipping": "none"},
    "adam_rate": {"adam_rate": 1e-4}, "momentum": {"momentum": 0.5},
    "weight_decay": {"weight_decay": 0.0}, "error": {"error": "absolute"}, "loss": {"loss": "sum"},
    "clipping": {"clipping": "norm"}, "theta": {"theta": 3e-5}, "precision": {"precision": "bf16"},
    "seed": {"seed": 1}, "recipe": {"recipe": RECIPE - 1},
}  # fmt: skip
SCORING = {"eval_sets": ("Set14",), "eval_scales": (3,), "eval_epochs": 0, "eval_steps": (7,)}


def test_defaults_are_the_papers():
    c = TrainConfig()
    assert (c.depth, c.width, c.residual) == (20, 64, True)
    assert (c.learning_rate, c.momentum, c.weight_decay) == (0.1, 0.9, 1e-4)
    assert (c.batch_size, c.patch_size, c.scales) == (64, 41, (2, 3, 4))
    assert (c.epochs, c.decay_epochs, c.clipping, c.error) == (80, 20, "adjustable", "squared")


def test_every_field_either_decides_the_weights_or_what_is_scored():
    assert {f.name for f in fields(TrainConfig)} == OTHERS.keys() | SCORING.keys()


@pytest.mark.parametrize("field", OTHERS)
def test_identity_is_what_decides_the_weights(field):
    other = replace(TrainConfig(), **OTHERS[field])
    assert getattr(other, field) != getattr(TrainConfig(), field)
    assert run_id(other) != run_id(TrainConfig())


@pytest.mark.parametrize("field", SCORING)
def test_what_is_scored_leaves_the_identity(field):
    other = replace(TrainConfig(), **{field: SCORING[field]})
    assert getattr(other, field) == SCORING[field] != getattr(TrainConfig(), field)
    assert run_id(other) == run_id(TrainConfig())


def test_identity_holds_the_images(monkeypatch):
    before = run_id(TrainConfig())
    monkeypatch.setattr(config, "data_hash", lambda name: f"other images of {name}")
    assert run_id(TrainConfig()) != before


def test_identity_holds_no_place(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "here" / "moved")
    monkeypatch.chdir(tmp_path / "here")
    places = folder, "moved", "./moved/", Path("moved"), tmp_path / "here" / "moved"
    assert len({run_id(TrainConfig(train_set=place)) for place in places}) == 1
    assert len({run_id(TrainConfig(train_set=f"{place}+T91")) for place in places[:2]}) == 1
    assert run_id(TrainConfig(train_set="moved+T91")) != run_id(TrainConfig(train_set="moved"))
    assert TrainConfig(train_set="moved").train_set == "moved"


def test_identities_do_not_drift():
    """Runs were trained under these; whoever changes one loses what was recorded."""
    sample = TrainConfig(train_set="samples-test", epochs=1, decay_epochs=1, eval_sets=())
    assert (run_id(TrainConfig()), run_id(sample)) == ("f094371537bc", "a6cb26293015")


def test_a_new_fields_old_value_leaves_identities_alone(monkeypatch):
    """A field that comes later names the value that the runs before it had."""
    settings = [f for f in fields(TrainConfig) if f.name != "seed"]
    [seed] = (f for f in fields(TrainConfig) if f.name == "seed")
    without = [run_id(TrainConfig(seed=n)) for n in (5, 6)]
    with monkeypatch.context() as patched:
        patched.setattr(config, "fields", lambda config: settings)
        older = run_id(TrainConfig())
    monkeypatch.setattr(seed, "metadata", {**seed.metadata, "before": 5})
    assert run_id(TrainConfig(seed=5)) == older != without[0]
    assert run_id(TrainConfig(seed=6)) == without[1]


def test_what_ships_is_named_by_its_run():
    """Or a run would pass for another once another network ships."""
    shipped = load_checkpoint(PRETRAINED)[1]["run"]
    assert TrainConfig(start="pretrained") == TrainConfig(start=shipped)
    assert TrainConfig(start="pretrained").start == shipped


def test_equal_numbers_are_one_config():
    c = TrainConfig(last_scale=1, weight_decay=0, depth=10.0, seed=np.int64(3))
    assert [repr(x) for x in (c.last_scale, c.weight_decay, c.depth, c.seed)] == [
        "1.0",
        "0.0",
        "10",
        "3",
    ]
    assert run_id(c) == run_id(TrainConfig(last_scale=1.0, weight_decay=0.0, depth=10, seed=3))
    assert TrainConfig(scales=[2.0, np.float64(2.5)], eval_scales=(Fraction(5, 2),)).scales == (
        2,
        2.5,
    )
    assert isinstance(TrainConfig(scales=[2.0]).scales[0], int)
    assert TrainConfig(scales=(2.001, 3.3333333)).scales == (2, 10 / 3)  # as they are used
    assert repr(TrainConfig(weight_decay=-0.0).weight_decay) == "0.0"
    assert TrainConfig(eval_sets=(), eval_scales=(), eval_steps=[np.int32(5)]).eval_steps == (5,)


@pytest.mark.parametrize("kind", [np.int64, np.int8, np.float32, np.float64])
def test_numpys_numbers_are_taken(kind):
    c = TrainConfig(depth=kind(5), momentum=kind(0), eval_steps=(kind(7),))
    assert (type(c.depth), type(c.momentum), type(c.eval_steps[0])) == (int, float, int)
    assert settings_of(c) == settings_of(TrainConfig(depth=5, momentum=0, eval_steps=(7,)))


NUMBERS = [f.name for f in fields(TrainConfig) if "low" in f.metadata]
WHOLE = {f.name for f in fields(TrainConfig) if f.type in (int, int | None)}
TUPLES = ("scales", "eval_scales", "eval_steps")


@pytest.mark.parametrize("value", [NAN, INF, -INF, -1, "5", [5], True, 1j, 10**400])
@pytest.mark.parametrize("field", [*NUMBERS, *TUPLES])
def test_what_is_no_such_number_names_the_field(field, value):
    given = (value,) if field in TUPLES else value
    with pytest.raises(ValueError, match=f"^{field} must be"):
        TrainConfig(**{field: given})


@pytest.mark.parametrize("field", sorted(WHOLE))
def test_fractions_of_whole_numbers_are_refused(field):
    value = 1.5 if field == "recipe" else 2.5
    with pytest.raises(ValueError, match=f"^{field} must be a whole number, got {value}"):
        TrainConfig(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clipping", "global"), ("loss", "mean"), ("init", "he"), ("precision", "fp8"),
        ("architecture", "SRCNN"), ("optimizer", "Adam"), ("schedule", "linear"), ("error", "l2"),
        ("depth", 1), ("depth", 10**6), ("width", 0), ("dilation", 0), ("seed", 2**63),
        ("theta", 0), ("learning_rate", 0), ("last_rate", 0), ("adam_rate", 0), ("epochs", 0),
        ("batch_size", 0), ("momentum", 1), ("momentum", None), ("recipe", RECIPE + 1),
        ("residual", 1), ("residual", np.True_), ("augment", "no"), ("bias", None),
        ("train_set", None), ("train_set", 91), ("eval_sets", "Set5"), ("eval_sets", (5,)),
        ("scales", 3), ("scales", ()), ("scales", (0.5,)), ("scales", "234"), ("eval_scales", (0,)),
        ("eval_steps", (0,)), ("eval_steps", (1.5,)), ("eval_epochs", -1),
        ("overlap", 41), ("steps", 10), ("decay_epochs", None), ("width", 10_000),
        ("start", "0123456789AB"), ("start", "runs/x"), ("start", 5), ("start", np.zeros(1000)),
        ("scales", b"x"), ("scales", {2, 3}), ("scales", {2: 3}), ("scales", np.array(2)),
        ("eval_steps", b"x"), ("eval_sets", {"Set5"}), ("init", np.array(["fan_in"] * 2)),
    ],
)  # fmt: skip
def test_bad_values_name_the_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        TrainConfig(**{field: value})


WORDS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.binary(max_size=3), st.fractions(), st.floats(1, 9), st.integers(0, 99),
    st.sampled_from(["constant", "cosine", "sgd", "adam", "muon", "none", "norm", "T91+BSD200"]),
    st.sampled_from(["pretrained", "0123456789ab"]),
    st.lists(st.integers(-1, 9) | st.floats() | st.text(max_size=3), max_size=3),
    st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    st.sampled_from([{2}, {2: 3}, len, 10**400, np.zeros(1000), np.array(2), np.float32(3)]),
)  # fmt: skip
SETTINGS = st.dictionaries(st.sampled_from([f.name for f in fields(TrainConfig)]), WORDS)


@pytest.mark.parametrize("examples", [150, pytest.param(3000, marks=pytest.mark.slow)])
def test_any_settings_are_a_config_or_are_refused_by_name(examples):
    @settings(max_examples=examples)
    @given(SETTINGS)
    def check(chosen):
        try:
            made = TrainConfig(**chosen)
        except ValueError as error:
            message = str(error)
            assert re.match(r"\w+ must", message)
            assert message.partition(" ")[0] in OTHERS.keys() | SCORING.keys()
            assert len(message.splitlines()) == 1
            assert len(message) < 400
        else:
            assert TrainConfig(**settings_of(made)) == made
            assert len(made.label) < 60
            assert hash(made) == hash(replace(made))

    check()


@pytest.mark.parametrize("value", [None, {}, "T91", TrainConfig])
def test_what_is_no_config_has_no_identity(value):
    with pytest.raises(TypeError, match=r"^config must be a vdsr\.TrainConfig, got "):
        run_id(value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": None}, "steps must be given if epochs is None, and only then"),
        ({"schedule": "cosine"}, "decay_epochs must be given for schedule 'decay', and be None"),
        ({"optimizer": "adam"}, "clipping must not be 'adjustable' with optimizer 'adam'"),
        ({"optimizer": "muon"}, "clipping must not be 'adjustable' with optimizer 'muon'"),
        ({"last_rate": 0.1}, "last_rate must be 1 with clipping 'adjustable', .*, got 0.1"),
        ({"scales": (2, 2.0)}, r"scales must hold each of its values once, got \(2, 2.0\)"),
        ({"eval_scales": (2, 2.001)}, "eval_scales must hold each of its values once"),
        ({"eval_sets": ("Set5", "Set5")}, "eval_sets must hold each of its values once"),
        ({"optimizer": "muon", "clipping": "none", "depth": 2}, "needs a VDSR with hidden layers"),
        ({"optimizer": "muon", "clipping": "none", "architecture": "SRCNN 9-1-5"}, "hidden layers"),
        ({"architecture": "SRCNN 9-1-5", "patch_size": 12}, "patch_size must be at least 13 for"),
        ({"architecture": "SRCNN 9-5-5", "patch_size": 16}, "patch_size must be at least 17 for"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 44, "decay_epochs": 1},  # θ/γ would overflow after 43 of them
        {"epochs": 10**9},
        {"learning_rate": 1e-31, "decay_epochs": 80},
        {"learning_rate": 1e-10, "theta": 1e25, "decay_epochs": 80},
        {"learning_rate": 1e38, "last_rate": 10, "clipping": "value"},
        {"theta": 1e-45},  # no step would change anything
        {
            "learning_rate": 1e-29,
            "last_rate": 0.01,
            "decay_epochs": None,
            "schedule": "constant",
            "clipping": "norm",
        },
    ],
)
def test_rates_that_float32_cannot_hold_are_refused_at_once(settings):
    with pytest.raises(ValueError, match=r"^learning_rate must stay in the range"):
        TrainConfig(**settings)


def test_a_decay_by_steps_is_checked_once_an_epoch_is_known():
    c = TrainConfig(epochs=None, steps=1000, decay_epochs=1)
    c.check_rates(steps_per_epoch=100)
    with pytest.raises(ValueError, match=r"learning_rate must stay .* goes from 0\.1 to 0;"):
        c.check_rates(steps_per_epoch=2)


def test_schedules():
    c = TrainConfig()
    factors = [c.rate_factor(epoch * 50, 50) for epoch in (0, 19.98, 20, 40, 79)]
    assert factors == pytest.approx([1, 1, 0.1, 0.01, 0.001])
    c = replace(c, schedule="constant", decay_epochs=None)
    assert c.rate_factor(79 * 50, 50) == 1
    c = replace(c, schedule="cosine")
    factors = [c.rate_factor(epoch * 50, 50) for epoch in (0, 20, 40, 80)]
    assert factors == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, 0])
    c = replace(c, epochs=None, steps=200)
    assert c.rate_factor(100, 50) == pytest.approx(0.5)


def test_length_by_epochs_and_by_steps():
    assert TrainConfig().total_steps(51) == 80 * 51
    assert TrainConfig(**STEPS).total_steps(51) == 1000


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [5, 10, 15, 20]),
        ({"eval_epochs": 3}, [15, 20]),
        ({"eval_epochs": 0}, [20]),
        ({"eval_epochs": 10**6, "eval_steps": (1, 2, 4, 20, 21)}, [1, 2, 4, 20]),
        ({"eval_epochs": 2, "eval_steps": (3, 10)}, [3, 10, 20]),
        ({"epochs": None, "steps": 12}, [5, 10, 12]),
    ],
)
def test_steps_to_be_scored_are_whole_epochs_listed_ones_and_the_end(settings, expected):
    assert TrainConfig(**{"epochs": 4, **settings}).eval_steps_in(5) == expected


def test_a_very_long_training_is_no_list_of_all_its_steps():
    c = TrainConfig(epochs=None, steps=10**9, decay_epochs=10**9, eval_epochs=0, eval_steps=(9, 3))
    assert c.eval_steps_in(50) == [3, 9, 10**9]


def test_label_and_what_is_scored():
    assert TrainConfig().label == "VDSR of depth 20, seed 0"
    assert TrainConfig(architecture="SRCNN 9-1-5", seed=2).label == "SRCNN 9-1-5, seed 2"
    assert TrainConfig(eval_sets=("a", "b"), eval_scales=(2, 3)).scored == [
        ("a", 2), ("a", 3), ("b", 2), ("b", 3)
    ]  # fmt: skip


def test_networks_are_what_the_config_says():
    vdsr = TrainConfig(depth=4, width=8, residual=False, bias=False, dilation=2).network()
    assert (len(vdsr.layers), vdsr.layers[0].out_channels, vdsr.residual) == (7, 8, False)
    assert (vdsr.layers[2].dilation, vdsr.layers[2].bias) == ((2, 2), None)
    for name, side in (("SRCNN 9-1-5", 1), ("SRCNN 9-5-5", 5)):
        middle = TrainConfig(architecture=name).network().layers[1]
        assert middle.kernel_size == (side, side)


def test_images_that_are_given_go_into_a_folder_first():
    """A run's identity and record name its images, which a folder does."""
    image = np.zeros((50, 50), np.uint8)
    for images in ({"a": image}, [image], image):
        for name, value in (("train_set", images), ("eval_sets", (images,))):
            message = f"{name} must be an image set's name or a folder's path, .*a folder first, as"
            with pytest.raises(ValueError, match=message):
                TrainConfig(**{name: value})


def test_networks_without_padding_need_a_patch_as_large_as_their_field():
    for architecture, make in config.ARCHITECTURES.items():
        tiny = TrainConfig(depth=2, width=1)
        field = receptive_field(make(tiny)) if architecture != "VDSR" else 1
        TrainConfig(architecture=architecture, patch_size=field)
        if field > 1:
            with pytest.raises(ValueError, match=f"patch_size must be at least {field} for"):
                TrainConfig(architecture=architecture, patch_size=field - 1)
