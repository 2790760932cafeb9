"""`ExperimentConfig`: what it refuses and what its hash covers."""

from __future__ import annotations

from typing import Any

import pytest

from feature_store.errors import UserError
from search_spaces.overrides import merge
from workers.config import ExperimentConfig

BASE: dict[str, Any] = {
    "feature": "fbank",
    "model": {"name": "ast", "size": "tiny"},
    "objective": {"name": "patchmix_cl"},
}


def parse(**changes: Any) -> ExperimentConfig:
    return ExperimentConfig.parse(merge(BASE, changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": {"alpha": -0.1}}, "alpha"),
        ({"objective": {"tau": 0}}, "greater than 0"),
        ({"objective": {"mix_beta": -1}}, "mix_beta"),
        ({"objective": {"name": "focal"}}, "'ce', 'patchmix', 'patchmix_cl'"),
        ({"model": {"name": "cnn6"}}, "mixes patch tokens, which model 'cnn6' does not have"),
        ({"model": {"patch": 64}, "feature": {"kind": "fbank", "sample_rate": 16000, "seconds": 0.5}}, "does not fit"),
        ({"modle": {}}, "did you mean 'model'?"),
        ({"optim": {"learning_rate": 1}}, "unknown key 'optim.learning_rate'"),
        ({"model": {"sise": "base"}}, "did you mean 'size'?"),
        ({"feature": "fbnak"}, "fbank"),
        ({"training": {"epochs": 0}}, "epochs"),
        ({"training": {"protocol": "test_best"}}, "protocol"),
        ({"optim": {"schedule": "one_cycle", "warmup_epochs": 2}}, "its own warm-up"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(**changes)
    assert said in str(caught.value)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        parse(objective={"alpha": -1, "tau": 0}, training={"epochs": 0})
    assert all(key in str(caught.value) for key in ("alpha", "tau", "epochs"))


def test_the_hash_covers_every_value_but_not_where_the_weights_lie() -> None:
    config = parse()
    assert parse().config_hash == config.config_hash
    assert parse(objective={"tau": 0.07}).config_hash != config.config_hash
    here, there = (parse(model={"pretrained": {"file": f, "sha256": "ab"}}) for f in ("/a/w.pt", "/b/w.pt"))
    assert here.config_hash == there.config_hash != config.config_hash
    assert parse(model={"pretrained": {"file": "/a/w.pt", "sha256": "cd"}}).config_hash != here.config_hash


def test_a_dump_is_the_config_again() -> None:
    config = parse(model={"pretrained": "w.pt"})
    assert ExperimentConfig.parse(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("optim.lr", float("inf"), "finite number"),
        ("optim.lr", float("nan"), "finite number"),
        ("optim.lr", 1e30, "less than or equal to"),
        ("optim.lr", True, "lr is a number or text, not true or false"),
        ("training.epochs", True, "epochs is a number or text"),
        ("training.epochs", 2**70, "less than or equal to"),
        ("optim.decay_epochs", [True, 5], "decay_epochs is a number or text"),
        ("objective.label_smoothing", float("inf"), "finite number"),
        ("model.dropout", False, "dropout is a number or text"),
        ("feature.seconds", float("inf"), "finite number"),
        ("feature.n_mels", True, "n_mels is a number or text"),
    ],
)
def test_what_is_no_sensible_number_is_refused(key: str, value: object, reason: str) -> None:
    content: dict[str, dict[str, object]] = {"feature": {"kind": "fbank"}, "model": {"name": "cnn6"}}
    content |= {"objective": {"name": "ce"}, "optim": {}, "training": {}}
    part, name = key.split(".")
    with pytest.raises(UserError, match=reason):
        ExperimentConfig.parse({**content, part: {**content[part], name: value}})  # type: ignore[dict-item]


def test_a_message_quotes_a_line_of_a_value_at_most_and_counts_what_it_leaves_out() -> None:
    content = {f"wrong{i}" * 50: "x" * 10_000 for i in range(30)}
    with pytest.raises(UserError) as error:
        ExperimentConfig.parse({"feature": "y" * 100_000, **content})
    assert len(str(error.value)) < 8_000 and "characters)" in str(error.value)
