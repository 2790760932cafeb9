"""CycleGuardian's network (docs/specification.md, M10 to M12, M9)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feature_store.errors import UserError
from workers.config import ExperimentConfig
from workers.models import build_model
from workers.models.clustering import DeepClustering, hard_assignment, sharpened, soft_assignment
from workers.models.cycleguardian import CycleGuardian, GroupClassifier
from workers.objectives import build_objective
from workers.objectives.clusters import clusters_in_use

SMALL = {"kind": "hybrid", "seconds": 1.0, "bins": 16, "bins_per_octave": 6, "low_hz": 100.0, "hop": 400}


def config(feature: Any = SMALL, **model: Any) -> ExperimentConfig:
    content = {"feature": feature, "model": {"name": "cycleguardian", **model}, "objective": {"name": "cycleguardian"}}
    return ExperimentConfig.parse(content)


def network(feature: Any = SMALL, classes: int = 4, **model: Any) -> GroupClassifier:
    made = config(feature, **model)
    built = build_model(made.model, made.feature.shape, classes)
    assert isinstance(built, GroupClassifier)
    return built


@pytest.fixture
def small() -> GroupClassifier:
    torch.manual_seed(0)
    return network().eval()


@pytest.mark.slow
@pytest.mark.spec("M10")
def test_6_790_967_parameters_45_groups_and_128_features() -> None:
    model = network("hybrid")
    assert sum(p.numel() for p in model.parameters()) == 6_790_967
    parts = {"encoder": 5_622_784, "state": 787_200}
    assert {name: sum(p.numel() for p in getattr(model.backbone, name).parameters()) for name in parts} == parts
    head = model.clustering
    deep = [*head.encoder.parameters(), *head.decoder.parameters(), head.centres, head.similarity]
    gathered = [*head.place.parameters(), *head.gathered.parameters(), *head.vector.parameters()]
    counts = [sum(p.numel() for p in some) for some in (deep, gathered, head.fuse.parameters(), head.gate.parameters())]
    assert counts == [214_400, 100_270, 261, 65_536]
    assert model.grid == (1, 45)
    with torch.inference_mode():
        x = torch.randn(2, 3, 688, 84)
        assert model.tokens(x).shape == (2, 45, 768)
        assert model.features(x).shape == (2, 128) and model(x).shape == (2, 4)


@pytest.mark.spec("M10")
def test_the_window_encoder_has_the_published_shapes() -> None:
    x, sizes = torch.randn(2, 3, 84, 20), []
    for layer in CycleGuardian(3, (688, 84)).encoder:
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            sizes.append(tuple(x.shape[1:]))
    assert sizes == [(16, 84, 20), (32, 41, 9), (64, 41, 9), (128, 20, 4), (256, 10, 2), (1024,)]


@pytest.mark.spec("M10")
def test_groups_are_those_of_a_loop_over_them(small: GroupClassifier) -> None:
    """The source encodes one group after the other; without batch statistics that is the same."""
    x = torch.randn(2, 3, 56, 16)
    backbone = small.backbone
    one_by_one = []
    for first in range(0, 56 - 20 + 1, 15):
        window = x[:, :, first : first + 20].transpose(2, 3)
        one_by_one.append(backbone.state(backbone.encoder(window)))
    assert len(one_by_one) == 3
    torch.testing.assert_close(small.tokens(x), torch.stack(one_by_one, dim=1))


@pytest.mark.spec("M10")
def test_the_last_convolution_wraps_around() -> None:
    convolutions = [layer for layer in CycleGuardian(3, (688, 84)).encoder if isinstance(layer, nn.Conv2d)]
    assert [layer.padding_mode for layer in convolutions] == ["zeros"] * 4 + ["circular"]
    assert [layer.padding for layer in convolutions] == [(0, 0)] * 4 + [(1, 1)]


@pytest.mark.spec("M10")
def test_clusters_are_gathered_as_by_masks_and_a_convolution(small: GroupClassifier) -> None:
    """docs/specification.md, 3.3, steps 6 and 7, written out: copies of the states with other clusters' groups set to
    zero."""
    head = small.clustering
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        head.centres.copy_(2 * torch.randn_like(head.centres))
    groups = torch.randn(2, 3, 768)
    found = head(groups)
    member = found.soft.argmax(dim=2)
    assert member.unique().numel() > 1
    vectors = []
    for cluster in range(4):
        own = groups * (member == cluster)[..., None]
        one = F.conv2d(own[..., None], head.place.weight[..., None], head.place.bias)
        one = F.layer_norm(
            F.gelu(one), (1, 768, 1), head.gathered[1].weight[None, :, None], head.gathered[1].bias[None, :, None]
        )
        one = F.linear(one.flatten(1), head.vector[0].weight, head.vector[0].bias)
        vectors.append(F.layer_norm(F.gelu(one), (128,), head.vector[2].weight, head.vector[2].bias))
    torch.testing.assert_close(found.vectors, torch.stack(vectors, dim=1), atol=1e-5, rtol=1e-4)
    fused = F.conv2d(torch.stack(vectors, dim=1)[..., None], head.fuse[0].weight[..., None], head.fuse[0].bias)
    fused = F.layer_norm(F.gelu(fused).flatten(1), (128,), head.fuse[2].weight, head.fuse[2].bias)
    torch.testing.assert_close(found.features, fused, atol=1e-5, rtol=1e-4)


@pytest.mark.spec("M10")
def test_empty_clusters_have_zero_vectors_at_initialisation() -> None:
    torch.manual_seed(0)
    published = network(codes="raw")
    found = published.cluster(published.tokens(torch.randn(4, 3, 56, 16)))
    [used] = found.soft.argmax(dim=2).unique()  # all groups fall into one cluster
    empty = [cluster for cluster in range(4) if cluster != used]
    assert not found.vectors[:, empty].any() and found.vectors[:, used].any()


@pytest.mark.spec("M10")
def test_the_gate_mixes_the_cluster_vectors_by_shares() -> None:
    torch.manual_seed(0)
    gated = network(fusion="gate").eval()
    found = gated.cluster(torch.randn(2, 3, 768))
    low, high = found.vectors.amin(dim=1), found.vectors.amax(dim=1)
    assert ((found.features >= low - 1e-6) & (found.features <= high + 1e-6)).all()
    found.features.square().sum().backward()
    assert gated.clustering.gate.weight.grad is not None and gated.clustering.gate.weight.grad.any()
    assert gated.clustering.fuse[0].weight.grad is None


@pytest.mark.slow
@pytest.mark.spec("M10", "M12")
@pytest.mark.parametrize(
    ("codes", "at_first", "at_last"), [("raw", (1, 1.1), (1, 2.5)), ("standardized", (3, 4), (3, 4))]
)
def test_learns_a_tiny_batch_by_its_objective_and_with_all_clusters_where_codes_are_standardised(
    codes: str, at_first: tuple[float, float], at_last: tuple[float, float]
) -> None:
    torch.manual_seed(0)
    model, objective = network(classes=2, codes=codes), build_objective(config().objective, 128, np.array([4, 4]))
    y = torch.arange(8) % 2
    x = torch.randn(8, 3, 56, 16) + 2.0 * y[:, None, None, None]
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-3)
    used, generator = [], torch.Generator().manual_seed(0)
    for _ in range(60):
        loss = objective(model, x, y, generator)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        used.append(float(loss.parts["clusters_in_use"]))
    assert float(loss.parts["ce"]) < 0.1
    assert at_first[0] <= used[0] <= at_first[1] and at_last[0] <= used[-1] <= at_last[1], used


@pytest.mark.spec("M10")
def test_a_batch_of_one_trains() -> None:
    """The source stops here: its batch normalisation sees one group at a time."""
    model = network().train()
    model(torch.randn(1, 3, 56, 16)).sum().backward()


@pytest.mark.spec("M10")
def test_other_features_fit_and_too_small_ones_are_refused() -> None:
    assert network({"kind": "fbank", "seconds": 2.0, "n_mels": 32})(torch.randn(2, 1, 198, 32)).shape == (2, 4)
    with pytest.raises(UserError, match="a group of 20 frames does not fit a feature of 19"):
        network({**SMALL, "seconds": 0.33})
    with pytest.raises(UserError, match="at least 11 of each"):
        network({**SMALL, "bins": 8})


# --- deep clustering ---


@pytest.mark.spec("M11")
def test_soft_assignment_is_students_t() -> None:
    rng = np.random.default_rng(0)
    codes, centres = rng.standard_normal((2, 5, 3)), rng.standard_normal((4, 3))
    found = soft_assignment(torch.from_numpy(codes), torch.from_numpy(centres)).numpy()
    distance = np.array([[[((z - mu) ** 2).sum() for mu in centres] for z in row] for row in codes])
    closeness = 1 / (1 + distance)
    np.testing.assert_allclose(found, closeness / closeness.sum(axis=2, keepdims=True))
    np.testing.assert_allclose(found.sum(axis=2), 1)


@pytest.mark.spec("M11")
def test_the_target_is_sharper_and_counts_within_each_sample() -> None:
    soft = torch.tensor([[[0.7, 0.3], [0.6, 0.4]], [[0.9, 0.1], [0.2, 0.8]]], dtype=torch.float64)
    expected = []
    for sample in soft.numpy():
        weight = sample**2 / sample.sum(axis=0)
        expected.append(weight / weight.sum(axis=1, keepdims=True))
    found = sharpened(soft)
    np.testing.assert_allclose(found, np.stack(expected))
    torch.testing.assert_close(sharpened(soft[:1]), found[:1])
    torch.testing.assert_close(found.sum(dim=2), torch.ones(2, 2, dtype=torch.float64))
    assert (found[1].amax(dim=1) > soft[1].amax(dim=1)).all()


@pytest.mark.spec("M11")
def test_every_group_has_one_cluster() -> None:
    member = hard_assignment(torch.rand(3, 7, 4))
    assert member.shape == (3, 4, 7) and (member.sum(dim=1) == 1).all()


@pytest.mark.slow
@pytest.mark.spec("M12")
def test_standardised_codes_lie_among_the_centres_from_the_first_batch_on() -> None:
    x = torch.randn(16, 3, 56, 16)
    for seed in range(3):
        used = {}
        for codes in ("raw", "standardized"):
            torch.manual_seed(seed)
            model = network(codes=codes).train()
            used[codes] = float(clusters_in_use(model.cluster(model.tokens(x)).soft))
        assert used["raw"] < 2 < 2.5 < used["standardized"], used


@pytest.mark.spec("M12")
def test_codes_are_standardised_over_the_groups_of_a_batch_and_by_running_statistics_when_evaluated() -> None:
    torch.manual_seed(0)
    head = DeepClustering(3, 16, code=8)
    groups = torch.randn(5, 3, 16)
    for _ in range(200):
        soft = head(groups).soft
    codes = head.encoder(groups).flatten(0, 1)
    standard = (codes - codes.mean(dim=0)) / (codes.var(dim=0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(soft, soft_assignment(standard.view(5, 3, 8), head.centres))
    one = head.eval()(groups[:1]).soft
    unbiased = (codes - codes.mean(dim=0)) / (codes.var(dim=0) + 1e-5).sqrt()
    torch.testing.assert_close(one, soft_assignment(unbiased.view(5, 3, 8), head.centres)[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.spec("M11")
def test_assignments_are_computed_in_full_precision() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = DeepClustering(3, 16)(torch.randn(2, 3, 16))
    assert found.soft.dtype == torch.float32
    torch.testing.assert_close(found.soft.sum(dim=2), torch.ones(2, 3))


@pytest.mark.spec("M12")
def test_the_similarity_matrix_starts_as_the_identity(small: GroupClassifier) -> None:
    assert torch.equal(small.clustering.similarity.detach(), torch.eye(128))
    assert small.clustering.centres.shape == (4, 128) and 0.8 < float(small.clustering.centres.detach().std()) < 1.2


@pytest.mark.spec("M9")
def test_projector_of_33_280_parameters_is_trained_and_saved_with_the_objective() -> None:
    objective = build_objective(config().objective, 128, np.array([1, 1, 1, 1]))
    assert sum(p.numel() for p in objective.parameters() if p.requires_grad) == 33_280
    assert any(name.startswith("projector") for name in objective.state_dict())


def test_the_published_initialisation() -> None:
    torch.manual_seed(0)
    model = network("hybrid")
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert all(0.007 < float(m.weight.detach().std()) < 0.0105 for m in linear if m.weight.numel() > 10_000)
    biases = [
        m.bias for m in model.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d) and m.bias is not None
    ]
    assert not any(bias.any() for bias in biases)


@pytest.mark.spec("L2")
@pytest.mark.parametrize("name", ["patchmix", "patchmix_cl"])
def test_patch_mix_objectives_mix_the_groups_of_the_network(small: GroupClassifier, name: str) -> None:
    content = {"feature": SMALL, "model": {"name": "cycleguardian"}, "objective": {"name": name}}
    objective = build_objective(ExperimentConfig.parse(content).objective, 128, np.array([1, 1, 1, 1]))
    x, y = torch.randn(4, 3, 56, 16), torch.arange(4)
    loss = objective(small, x, y, torch.Generator().manual_seed(0))
    loss.total.backward()
    assert small.backbone.encoder[0].weight.grad is not None and bool(small.backbone.encoder[0].weight.grad.any())


def test_equal_seeds_build_equal_networks() -> None:
    def weights() -> dict[str, Tensor]:
        torch.manual_seed(3)
        return network().state_dict()

    first, second = weights(), weights()
    assert all(torch.equal(first[name], second[name]) for name in first)
