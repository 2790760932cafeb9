"""CutMix and Mixup against closed forms, their schedule, and the soft-label loss (A11, A12, A13, L12)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from workers.config.objectives import ObjectiveConfig
from workers.inputs import Inputs, WithScalars
from workers.objectives import build_objective
from workers.objectives.cutmix_mixup import CutMixMixup

FRAMES, BINS = 10, 12


def objective(**settings: Any) -> CutMixMixup:
    config = TypeAdapter(ObjectiveConfig).validate_python({"name": "cutmix_mixup", **settings})
    made = build_objective(config, 4, np.array([5, 5]))
    assert isinstance(made, CutMixMixup)
    return made


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def marked(count: int = 6) -> tuple[WithScalars, Tensor]:
    """Sample i holds the value i everywhere, in its scalars too; labels in turn, one-hot."""
    number = torch.arange(count, dtype=torch.float32)
    values = number.view(-1, 1, 1, 1).expand(-1, 3, FRAMES, BINS)
    labels = nn.functional.one_hot(torch.arange(count) % 2, 2).float()
    return WithScalars(values, number.view(-1, 1).repeat(1, 4)), labels


def mixed(made: CutMixMixup, seed: int) -> tuple[WithScalars, Tensor, Tensor]:
    x, labels = marked()
    before = x.values.clone(), x.scalars.clone(), labels.clone()
    out, soft = made.mix(x, labels, generator(seed))
    assert isinstance(out, WithScalars)
    assert all(torch.equal(*pair) for pair in zip(before, (x.values, x.scalars, labels), strict=True)), "written to"
    return out, soft, labels


class Recorder(nn.Module):
    """Keeps what it is given, and answers with two numbers of it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Inputs] = []

    def forward(self, x: Inputs) -> Tensor:
        self.seen.append(x)
        values = x.values if isinstance(x, WithScalars) else x
        return torch.stack([values.mean(dim=(1, 2, 3)), values.amax(dim=(1, 2, 3)) * 0.5], dim=1)


# --- CutMix ---


@pytest.mark.spec("A11")
@pytest.mark.parametrize("scalars", ["mixed", "seed_compat"])
@pytest.mark.parametrize("seed", range(10))
def test_one_box_comes_of_the_partner_and_lambda_is_its_share_of_the_map(seed: int, scalars: str) -> None:
    out, soft, labels = mixed(objective(cutmix_prob=1.0, mixup_prob=0.0, cutmix_scalars=scalars), seed)
    own = torch.arange(len(labels), dtype=torch.float32)
    foreign = out.values != own.view(-1, 1, 1, 1)
    moved = foreign.flatten(1).any(dim=1)
    assert moved.any()
    box = foreign[moved][0, 0]
    assert all(torch.equal(each, box) for each in foreign[moved].flatten(0, 1)), "one box for all samples and maps"
    rows, columns = box.any(dim=1).nonzero().flatten(), box.any(dim=0).nonzero().flatten()
    area = len(rows) * len(columns)
    assert box.sum() == area and rows[-1] - rows[0] + 1 == len(rows) and columns[-1] - columns[0] + 1 == len(columns)
    lam = 1 - area / (FRAMES * BINS)
    for i in range(len(labels)):
        partner = int(out.values[i][foreign[i]].unique()) if moved[i] else i
        assert torch.allclose(soft[i], lam * labels[i] + (1 - lam) * labels[partner], atol=1e-6)
        wanted = float(i) if scalars == "seed_compat" else lam * i + (1 - lam) * partner
        assert torch.allclose(out.scalars[i], torch.full((4,), wanted), atol=1e-5)


@pytest.mark.spec("A11")
def test_sides_of_the_box_follow_lambda_and_places_the_whole_map() -> None:
    """Away from the edges the box has sqrt(1 - lambda) of either side; over many draws every place is pasted."""
    made, hit, areas = objective(cutmix_prob=1.0, mixup_prob=0.0), torch.zeros(FRAMES, BINS), []
    for seed in range(300):
        out, _, labels = mixed(made, seed)
        foreign = (out.values != torch.arange(len(labels)).view(-1, 1, 1, 1)).any(dim=0)[0]
        hit += foreign
        areas.append(float(foreign.float().mean()))
    assert (hit > 0).all()
    assert 0.1 < np.mean(areas) < 0.5, "lambda is uniform, and what lies beyond an edge is cut off"


# --- Mixup ---


@pytest.mark.slow
@pytest.mark.spec("A12")
@pytest.mark.parametrize("seed", range(6))
def test_maps_scalars_and_labels_lie_on_one_line(seed: int) -> None:
    out, soft, labels = mixed(objective(cutmix_prob=0.0, mixup_prob=1.0), seed)
    own = torch.arange(len(labels), dtype=torch.float32)
    value = out.values[:, 0, 0, 0]
    assert torch.equal(out.values, value.view(-1, 1, 1, 1).expand_as(out.values)), "every place alike"
    assert torch.allclose(out.scalars, value.view(-1, 1).expand(-1, 4), atol=1e-5)
    # value_i = lam * i + (1 - lam) * j for a permutation j: some lam in (0, 1) makes all partners whole and different
    fitting = [
        lam
        for lam in np.linspace(0.0005, 0.9995, 20000)
        if np.abs((p := (value.numpy() - lam * own.numpy()) / (1 - lam)) - p.round()).max() < 0.02
        and sorted(p.round().astype(int)) == list(range(len(labels)))
        and torch.allclose(soft, torch.tensor(lam * labels.numpy() + (1 - lam) * labels.numpy()[p.round().astype(int)],
                                              dtype=torch.float32), atol=5e-3)
    ]  # fmt: skip
    assert fitting or torch.allclose(value, own, atol=0.05), "lambda next to 1 leaves everything as it is"


@pytest.mark.slow
@pytest.mark.spec("A12")
def test_lambda_has_the_law_of_beta() -> None:
    made, shares = objective(cutmix_prob=0.0, mixup_prob=1.0, mixup_alpha=0.2), []
    x, labels = WithScalars(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), torch.zeros(2, 1)), torch.eye(2)
    for seed in range(3000):
        out, _ = made.mix(x, labels, generator(seed))
        assert isinstance(out, WithScalars)
        shares.append(float(out.values[0].squeeze()))
    drawn = np.array(shares)[np.array(shares) > 0]  # half of the permutations of two leave them as they are
    assert abs(np.mean(drawn < 0.1) - 0.39) < 0.05, "Beta(0.2, 0.2) has 39 % below 0.1"
    assert abs(np.mean(drawn) - 0.5) < 0.04


# --- when ---


@pytest.mark.slow
@pytest.mark.spec("A13")
def test_kinds_of_batches_have_their_shares() -> None:
    made, kinds = objective(cutmix_prob=0.5, mixup_prob=0.3), Counter[str]()
    made.begin_epoch(1)
    for seed in range(2000):
        x, labels = marked(4)
        out, _ = made.mix(x, labels, generator(seed))
        assert isinstance(out, WithScalars)
        whole = (out.values % 1 == 0).all()
        kinds["none" if out is x else "cutmix" if whole else "mixup"] += 1
    assert abs(kinds["none"] / 2000 - 0.2) < 0.03
    assert abs(kinds["mixup"] / 2000 - 0.3) < 0.05 and kinds["cutmix"] > 900


@pytest.mark.spec("A13")
def test_nothing_is_mixed_before_its_epoch_and_both_published_recipes_leave_no_batch_clean_after_it() -> None:
    model, trace = Recorder(), []
    made = objective(cutmix_prob=0.6, mixup_prob=0.4, plain_epochs=4)
    x, _ = marked()
    y = torch.arange(6) % 2
    dice = generator(3)
    for epoch in range(1, 8):
        made.begin_epoch(epoch)
        made(model, x, y, dice)
        trace.append(model.seen[-1] is not x)
    assert trace == [False] * 4 + [True] * 3, "the source counts epochs from 0 and mixes from index 4 on"


# --- the loss ---


@pytest.mark.spec("L12")
def test_the_loss_is_the_cross_entropy_of_the_soft_labels() -> None:
    model, made = Recorder(), objective(cutmix_prob=1.0, mixup_prob=0.0)
    x, labels = marked()
    loss = made(model, x, torch.arange(6) % 2, generator(5))
    out, soft = made.mix(x, labels, generator(5))
    logits = model(out)
    by_hand = -(soft * (logits - logits.logsumexp(dim=1, keepdim=True))).sum(dim=1).mean()
    assert loss.total.item() == pytest.approx(by_hand.item(), rel=1e-6)
    assert torch.equal(loss.logits, logits)
    z, p = logits[:, 1] - logits[:, 0], soft[:, 1]
    binary = -(p * z.sigmoid().log() + (1 - p) * (-z).sigmoid().log()).mean()
    assert by_hand.item() == pytest.approx(binary.item(), rel=1e-5)


def test_features_without_scalars_are_mixed_too() -> None:
    for settings in ({"cutmix_prob": 1.0, "mixup_prob": 0.0}, {"cutmix_prob": 0.0, "mixup_prob": 1.0}):
        x, labels = marked()
        out, soft = objective(**settings).mix(x.values, labels, generator(1))
        pair, _ = objective(**settings).mix(x, labels, generator(1))
        assert isinstance(out, Tensor) and isinstance(pair, WithScalars)
        assert torch.equal(out, pair.values) and not torch.equal(soft, labels)


def test_the_same_dice_give_the_same_batch() -> None:
    x, labels = marked()
    one, two = (objective().mix(x, labels, generator(9)) for _ in range(2))
    assert isinstance(one[0], WithScalars) and isinstance(two[0], WithScalars)
    assert torch.equal(one[0].values, two[0].values) and torch.equal(one[1], two[1])


@pytest.mark.parametrize("settings", [{"cutmix_prob": 0.7}, {"mixup_prob": -0.1}, {"cutmix_alpha": -1.0}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        objective(**settings)
