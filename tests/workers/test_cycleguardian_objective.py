"""CycleGuardian's losses against closed forms (docs/specification.md, L6 to L11, M12, M9)."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from feature_store.errors import UserError
from workers.config import ExperimentConfig
from workers.config.objectives import ObjectiveConfig
from workers.models.clustering import Clustered, DeepClustering
from workers.objectives import build_objective
from workers.objectives.clusters import clustering_loss, clusters_in_use, similarity_loss
from workers.objectives.contrastive import contrastive_loss
from workers.objectives.cycleguardian import CycleGuardianLoss
from workers.objectives.patch_mix import draw_mix

TERMS = {"p_cluster": "cluster", "p_contra": "contrastive", "p_cos_sim": "similarity"}


class TinyGroups(nn.Module):
    """A model of groups small enough to follow: a group is three frames, its state their values."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = (1, 6)
        self.scale = nn.Parameter(torch.ones(()))
        self.clustering = DeepClustering(6, 12, clusters=4, code=5, codes="raw")
        self.head = nn.Linear(5, 4)
        self.clustered: list[Tensor] = []

    def tokens(self, x: Tensor) -> Tensor:
        return self.scale * x.unfold(2, 3, 3).transpose(1, 2).flatten(2)

    def cluster(self, tokens: Tensor) -> Clustered:
        self.clustered.append(tokens)
        return self.clustering(tokens)


@pytest.fixture
def model() -> TinyGroups:
    torch.manual_seed(0)
    return TinyGroups().double()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(5, 1, 18, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0])


def objective(**settings: Any) -> CycleGuardianLoss:
    torch.manual_seed(2)
    config = TypeAdapter(ObjectiveConfig).validate_python({"name": "cycleguardian", **settings})
    made = build_objective(config, 5, np.array([2, 1, 1, 1])).double()
    assert isinstance(made, CycleGuardianLoss)
    return made


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


# --- its terms ---


@pytest.mark.spec("L9")
def test_divergence_of_fixed_assignments() -> None:
    soft = torch.tensor([[[0.7, 0.3], [0.6, 0.4]], [[0.9, 0.1], [0.2, 0.8]]], dtype=torch.float64)
    total = 0.0
    for sample in soft.tolist():
        sums = [sum(group[k] for group in sample) for k in range(2)]
        for group in sample:
            weight = [group[k] ** 2 / sums[k] for k in range(2)]
            target = [w / sum(weight) for w in weight]
            total += sum(p * math.log(p / (q + 1e-10)) for p, q in zip(target, group, strict=True))
    assert float(clustering_loss(soft, reduction="sum")) == pytest.approx(total, rel=1e-9)
    assert float(clustering_loss(soft, reduction="mean")) == pytest.approx(total / 4, rel=1e-9)


@pytest.mark.spec("L9")
def test_the_sum_grows_with_the_batch_and_the_mean_does_not() -> None:
    soft = torch.rand(3, 6, 4, dtype=torch.float64).softmax(dim=2)
    twice = torch.cat([soft, soft])
    assert float(clustering_loss(twice, reduction="sum")) == pytest.approx(
        2 * float(clustering_loss(soft, reduction="sum"))
    )
    assert float(clustering_loss(twice)) == pytest.approx(float(clustering_loss(soft)))


@pytest.mark.spec("L9")
def test_the_target_is_fixed_unless_the_sources_gradient_is_asked_for() -> None:
    def gradient(through: bool) -> Tensor:
        soft = torch.tensor([[[0.7, 0.3], [0.6, 0.4]]], dtype=torch.float64, requires_grad=True)
        clustering_loss(soft, target_gradient=through).backward()
        assert soft.grad is not None
        return soft.grad

    soft = torch.tensor([[[0.7, 0.3], [0.6, 0.4]]], dtype=torch.float64)
    weight = soft**2 / soft.sum(dim=1, keepdim=True)
    target = weight / weight.sum(dim=2, keepdim=True)
    torch.testing.assert_close(gradient(False), -target / soft / 2)
    assert not torch.allclose(gradient(True), gradient(False))


@pytest.mark.spec("M12")
def test_similarity_with_the_identity_is_the_absolute_cosine_of_all_pairs() -> None:
    vectors = torch.randn(3, 4, 5, dtype=torch.float64)
    pairs = itertools.combinations(range(4), 2)
    expected = sum(torch.nn.functional.cosine_similarity(vectors[:, i], vectors[:, j]).abs().mean() for i, j in pairs)
    assert float(similarity_loss(vectors, torch.eye(5, dtype=torch.float64))) == pytest.approx(
        float(expected), abs=1e-9
    )


@pytest.mark.spec("M12")
def test_another_matrix_turns_one_side_of_the_product_and_both_lengths() -> None:
    vectors, matrix = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(4, 4, dtype=torch.float64)
    expected = 0.0
    for i, j in itertools.combinations(range(3), 2):
        for sample in vectors.numpy():
            x, y, m = sample[i], sample[j], matrix.numpy()
            expected += abs(x @ m @ y) / (np.linalg.norm(m @ x) * np.linalg.norm(m @ y) + 1e-10) / 2
    assert float(similarity_loss(vectors, matrix)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.spec("M12")
def test_empty_clusters_are_similar_to_none_and_give_no_broken_gradient() -> None:
    vectors = torch.zeros(2, 4, 5, dtype=torch.float64)
    vectors[:, 0] = 1
    vectors.requires_grad_()
    loss = similarity_loss(vectors, torch.eye(5, dtype=torch.float64))
    assert float(loss.detach()) == 0
    loss.backward()
    assert vectors.grad is not None and bool(vectors.grad.isfinite().all())


# --- the whole ---


@pytest.mark.spec("L10")
def test_groups_are_mixed_as_patches_are_after_the_encoder(model: TinyGroups, batch: tuple[Tensor, Tensor]) -> None:
    objective()(model, *batch, generator())
    [both] = model.clustered
    clean, mixed = both.chunk(2)
    torch.testing.assert_close(clean, model.tokens(batch[0]))
    draw = draw_mix(5, (1, 6), 1.0, "patch", generator())
    taken = int(draw.replaced.sum())
    assert 0 < taken < 6 and float(draw.lam) == pytest.approx(1 - taken / 6)
    for sample in range(5):
        for group in range(6):
            source = draw.index[sample] if draw.replaced[group] else sample
            torch.testing.assert_close(mixed[sample, group], clean[source, group])


@pytest.mark.spec("L11")
def test_the_total_is_the_weighted_sum_and_a_weight_of_zero_drops_its_term(
    model: TinyGroups, batch: tuple[Tensor, Tensor]
) -> None:
    weights = {"p_cluster": 0.7, "p_contra": 0.5, "p_cos_sim": 0.2}
    loss = objective(**weights)(model, *batch, generator())
    expected = loss.parts["ce"] + sum(weights[name] * loss.parts[term] for name, term in TERMS.items())
    torch.testing.assert_close(loss.total.detach(), expected)
    for name, term in TERMS.items():
        without = objective(**weights | {name: 0.0})(model, *batch, generator())
        torch.testing.assert_close(without.total.detach(), expected - weights[name] * loss.parts[term])
    none = objective(p_cluster=0.0, p_contra=0.0, p_cos_sim=0.0)(model, *batch, generator())
    torch.testing.assert_close(none.total.detach(), none.parts["ce"])


@pytest.mark.spec("L11")
def test_each_term_is_its_own_computed_alone(model: TinyGroups, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    method = objective(cluster_reduction="sum")
    parts = method(model, x, y, generator()).parts
    groups = model.tokens(x)
    draw = draw_mix(5, (1, 6), 1.0, "patch", generator())
    mixed = torch.where(draw.replaced[None, :, None], groups[draw.index], groups)
    sides = [model.cluster(groups), model.cluster(mixed)]
    torch.testing.assert_close(parts["ce"], nn.functional.cross_entropy(model.head(sides[0].features), y).detach())
    divergence = sum(clustering_loss(side.soft, reduction="sum") for side in sides)
    torch.testing.assert_close(parts["cluster"], divergence.detach())  # type: ignore[union-attr]
    matrix = torch.eye(5, dtype=torch.float64)
    alike = sum(similarity_loss(side.vectors, matrix) for side in sides)
    torch.testing.assert_close(parts["similarity"], alike.detach())  # type: ignore[union-attr]
    projected = [method.projector(side.features) for side in sides[::-1]]
    contrast = contrastive_loss(*projected, draw.index, draw.lam, tau=0.06)
    torch.testing.assert_close(parts["contrastive"], contrast.detach())


@pytest.mark.spec("L7")
@pytest.mark.parametrize("target", ["grad_block", "grad_flow", "project_block", "project_flow"])
def test_every_target_type_trains_and_only_the_flowing_ones_reach_the_clean_side(
    model: TinyGroups, batch: tuple[Tensor, Tensor], target: str
) -> None:
    """With nothing but the contrast, and the groups cut off the mixed side, a gradient can only be the clean side's."""
    clean: list[Tensor] = []

    def cluster(tokens: Tensor) -> Clustered:
        found = model.clustering(tokens)
        features = found.features.detach()
        features[:5].requires_grad_()
        clean.append(features[:5].clone().requires_grad_())
        return found._replace(features=torch.cat([clean[0], features[5:]]))

    model.cluster = cluster  # type: ignore[method-assign]
    method = objective(p_cluster=0.0, p_cos_sim=0.0, target_type=target)
    model.head.requires_grad_(False)
    loss = method(model, *batch, generator())
    (loss.total - method.cross_entropy(model.head(clean[0]), batch[1])).backward()
    assert clean[0].grad is not None
    reached = float(clean[0].grad.abs().max()) > 1e-9
    assert reached is target.endswith("flow")
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in method.projector.parameters())


@pytest.mark.spec("M9")
def test_the_projector_learns_unless_the_sources_random_one_is_asked_for(
    model: TinyGroups, batch: tuple[Tensor, Tensor]
) -> None:
    trained, still = objective(), objective(projector="seed_compat")
    for method in (trained, still):
        method(model, *batch, generator()).total.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in trained.projector[3].parameters())
    assert all(p.grad is None for p in still.projector.parameters())


@pytest.mark.spec("L6")
def test_negatives_of_the_same_label_are_left_out(model: TinyGroups, batch: tuple[Tensor, Tensor]) -> None:
    same_label = (batch[0], torch.zeros(5, dtype=torch.long))
    everyone = objective(negative_pair="all")(model, *same_label, generator()).parts["contrastive"]
    few = objective(negative_pair="diff_label")(model, *same_label, generator()).parts["contrastive"]
    assert float(few) < float(everyone)


@pytest.mark.spec("L8")
@pytest.mark.parametrize("change", [{"tau": 0.5}, {"mix_beta": 0.0}, {"proj_dim": 3}])
def test_each_setting_of_the_contrast_moves_it(
    model: TinyGroups, batch: tuple[Tensor, Tensor], change: dict[str, Any]
) -> None:
    plain = objective()(model, *batch, generator()).parts["contrastive"]
    assert float(objective(**change)(model, *batch, generator()).parts["contrastive"]) != float(plain)


def test_the_reconstruction_trains_the_decoder_and_not_the_states(
    model: TinyGroups, batch: tuple[Tensor, Tensor]
) -> None:
    plain = objective()(model, *batch, generator())
    plain.total.backward()
    assert model.clustering.decoder[0].weight.grad is None and "reconstruction" not in plain.parts
    model.zero_grad()
    loss = objective(p_reconstruction=2.0)(model, *batch, generator())
    torch.testing.assert_close(loss.total.detach(), plain.total.detach() + 2 * loss.parts["reconstruction"])
    (loss.total - plain.total.detach()).backward()
    assert model.clustering.decoder[0].weight.grad is not None
    groups = model.tokens(batch[0])
    model.clustering.reconstruction_error(model.clustering.encoder(groups.detach()), groups).backward()
    assert model.clustering.encoder[0].weight.grad is not None


# --- the monitor ---


@pytest.mark.spec("M12")
def test_clusters_in_use_count_from_one_to_all() -> None:
    def soft(counts: list[int]) -> Tensor:
        member = torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])
        return nn.functional.one_hot(member, 4).double()[None]

    assert float(clusters_in_use(soft([8, 0, 0, 0]))) == pytest.approx(1)
    assert float(clusters_in_use(soft([2, 2, 2, 2]))) == pytest.approx(4)
    assert float(clusters_in_use(soft([4, 4, 0, 0]))) == pytest.approx(2)
    assert 1 < float(clusters_in_use(soft([7, 1, 0, 0]))) < 2


@pytest.mark.spec("M12")
def test_collapsed_clusters_are_noted(model: TinyGroups, batch: tuple[Tensor, Tensor]) -> None:
    with torch.no_grad():
        model.clustering.centres[1:] += 100
    parts = {name: float(value) for name, value in objective()(model, *batch, generator()).parts.items()}
    assert parts["clusters_in_use"] == pytest.approx(1)
    [note] = objective().notes(parts)
    assert "collapsed: 1.00 in use" in note
    assert objective().notes(parts | {"clusters_in_use": 2.0}) == []


# --- what does not fit ---


def test_an_objective_of_clusters_needs_a_model_with_groups() -> None:
    with pytest.raises(UserError, match="clusters groups of frames, which model 'cnn6' does not have"):
        ExperimentConfig.parse({"feature": "fbank", "model": {"name": "cnn6"}, "objective": {"name": "cycleguardian"}})
    with pytest.raises(UserError, match="no groups to cluster"):
        objective()(nn.Linear(3, 3), torch.zeros(2, 1, 3, 3), torch.zeros(2, dtype=torch.long), generator())


def test_a_projection_of_another_width_cannot_be_compared_with_features() -> None:
    with pytest.raises(UserError, match="compares projections of 3 values with the model's features of 5"):
        objective(proj_dim=3, target_type="grad_flow")


def test_copies_of_the_sources_defects_are_told() -> None:
    content = {"feature": "hybrid", "model": {"name": "cycleguardian"}}
    plain = ExperimentConfig.parse({**content, "objective": {"name": "cycleguardian"}})
    assert plain.compat == []
    switched = {"name": "cycleguardian", "projector": "seed_compat", "cluster_target": "seed_compat"}
    found = ExperimentConfig.parse({**content, "objective": switched}).compat
    assert found == ["objective.cluster_target", "objective.projector"]
