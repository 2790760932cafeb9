"""The CRNN beyond its size: whitening, packed sequences, time stretch, its schedule, and corpora of every kind."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import phase_vocoder

from feature_store.build import build
from feature_store.datasets import open_corpus
from feature_store.errors import UserError
from feature_store.features import resolve_feature
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from search_spaces.presets import load_preset
from tests.conftest import TINY_FEATURE
from tests.support.breathing_clips import write_clips
from tests.support.voice_clips import write_voices
from workers.config import ExperimentConfig
from workers.config.training import OptimConfig
from workers.fold import FoldRun, Site, run_fold
from workers.inference import SoundModel, write_model
from workers.inputs import WithShares
from workers.models import build_model
from workers.models.crnn import time_stretched, whitened
from workers.objectives import build_objective
from workers.optimisation import Schedule, build_optimizer
from workers.results import WEIGHTS, ResultStore


def config(feature: Any = TINY_FEATURE, **changes: Any) -> ExperimentConfig:
    content = {"feature": feature, "model": {"name": "crnn", "hidden": 8}, "objective": {"name": "ce"}}
    for key, value in changes.items():
        content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
    return ExperimentConfig.parse(content)


def made(frames: int = 200, bins: int = 128, **model: Any) -> Any:
    torch.manual_seed(0)
    given = config(model=model).model
    return build_model(given, (frames, bins), 10)


def maps(batch: int, frames: int, bins: int = 128) -> Tensor:
    return torch.randn(batch, 1, frames, bins, generator=torch.Generator().manual_seed(3))


@pytest.mark.spec("M16")
@pytest.mark.parametrize(("bidirectional", "expected"), [(False, 139_786), (True, 256_266)])
def test_both_directions_have_their_published_parameters(bidirectional: bool, expected: int) -> None:
    model = made(400, 128, hidden=64, bidirectional=bidirectional, packed=True, stretch=0.4)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.spec("F14")
def test_a_sample_is_whitened_on_the_device_in_the_network() -> None:
    seen: list[Tensor] = []
    model = made().eval()
    model.backbone.convolutions[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(3 + 5 * maps(4, 200))
    assert torch.allclose(seen[0].mean(dim=(1, 2, 3)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(seen[0].std(dim=(1, 2, 3)), torch.ones(4), atol=1e-4)


@pytest.mark.spec("F14")
def test_padding_does_not_count_for_the_whitening() -> None:
    x, lengths = 3 + 5 * maps(2, 200), torch.tensor([60, 200])
    out = whitened(x, lengths)
    torch.testing.assert_close(out[:1, :, :60], whitened(x[:1, :, :60]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out[1:], whitened(x[1:]), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_packed_cycle_gives_what_it_gives_alone_whatever_pads_it(bidirectional: bool) -> None:
    model = made(hidden=8, bidirectional=bidirectional, packed=True).eval()
    own = maps(3, 100)
    shares = torch.full((3,), 0.5)
    padded = [torch.cat([own, tail], dim=2) for tail in (torch.zeros(3, 1, 100, 128), 9 + maps(3, 100))]
    alone = model.head(model.backbone(own))
    for one in padded:
        torch.testing.assert_close(model(WithShares(one, shares)), alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model(padded[0]), model(padded[1]), atol=1e-2), "without shares the padding is heard"


def test_cycles_of_different_lengths_keep_their_place_in_a_packed_batch() -> None:
    model = made(packed=True).eval()
    x, shares = maps(3, 200), torch.tensor([0.4, 1.0, 0.7])
    together = model(WithShares(x, shares))
    for row in range(3):
        one = model(WithShares(x[row : row + 1], shares[row : row + 1]))
        torch.testing.assert_close(together[row : row + 1], one, rtol=1e-4, atol=1e-5)


def test_a_cycle_of_one_own_frame_is_finite() -> None:
    model = made(packed=True).eval()
    assert model(WithShares(maps(2, 200), torch.tensor([1 / 200, 1.0]))).isfinite().all()


@pytest.mark.spec("A14")
def test_time_stretch_is_a_phase_vocoders_magnitude() -> None:
    spectrum = torch.randn(65, 80, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    for speed in (0.6, 0.8, 1.4):
        wanted = phase_vocoder(spectrum, speed, torch.linspace(0, np.pi * 32, 65)[:, None]).abs().T
        own = time_stretched(spectrum.abs().T[None, None], torch.tensor([speed]))[0, 0]
        whole = min(80, int(79 / speed))  # what needs no frame beyond the end
        torch.testing.assert_close(own[:whole], wanted[:whole], rtol=1e-3, atol=1e-3)


@pytest.mark.spec("A14")
def test_speeds_are_drawn_for_a_share_of_the_training_cycles_only() -> None:
    model = made(60, 16, stretch=0.4).train()
    x = torch.arange(60.0)[None, None, :, None].expand(4000, 1, 60, 16)
    torch.manual_seed(0)
    out, shares = model.backbone._stretched(x, torch.full((4000,), 0.5))
    speeds = out[:, 0, 10, 0] / 10
    changed = (speeds - 1).abs() > 1e-6
    assert changed.float().mean().item() == pytest.approx(0.4, abs=0.03)
    assert 0.6 <= speeds.min() < 0.65 and 1.35 < speeds.max() <= 1.4
    torch.testing.assert_close(shares, (0.5 / speeds).clamp(max=1.0))
    model.eval()
    torch.testing.assert_close(model(x[:2]), model(x[:2]))


@pytest.mark.slow
@pytest.mark.spec("A14")
@pytest.mark.parametrize("packed", [True, False])
def test_a_share_of_the_training_cycles_is_cut_down_to_a_stretch_of_its_own_sound(packed: bool) -> None:
    """The source crops waveforms: with a chance of 0.4 it takes away a share of |N(0, 0.25)|, at most 0.8."""
    count, frames, own = 4000, 200, 150 if packed else 200
    model = made(frames, 16, crop=0.4).train()
    x = torch.arange(float(frames))[None, None, :, None].expand(count, 1, frames, 16)
    torch.manual_seed(0)
    out, shares = model.backbone._cropped(x, torch.full((count,), own / frames) if packed else None)
    assert (shares is None) is not packed
    heard = out[:, 0, :, 0]
    kept = torch.tensor([len(row[:own].unique()) for row in heard])
    if shares is not None:
        torch.testing.assert_close(shares * frames, kept.float())
    cut = kept < own
    assert torch.equal(heard[~cut], x[~cut][:, 0, :, 0]), "the others are as they were, with their padding"
    assert cut.float().mean().item() == pytest.approx(0.4, abs=0.03)
    shares_cut = 1 - kept[cut] / own
    assert shares_cut.mean().item() == pytest.approx(0.25 * (2 / np.pi) ** 0.5, abs=0.02)
    assert kept.min() == round(0.2 * own)
    for row, length in zip(heard[cut], kept[cut].tolist(), strict=True):
        assert torch.equal(row[:length], row[0] + torch.arange(float(length))), "one stretch"
        assert row[length - 1] < own, "without the padding"
        assert torch.equal(row[length : 2 * length], row[: min(length, frames - length)]), "and again to the end"
    assert len(heard[cut, 0].unique()) > 50, "that begins anywhere"
    model.eval()
    torch.testing.assert_close(model(x[:2]), model(x[:2]))


@pytest.mark.spec("L13")
def test_the_loss_is_the_negative_log_likelihood_of_a_log_softmax() -> None:
    given, model = config(), made(50, 32).eval()
    x, y = maps(6, 50, 32), torch.tensor([0, 1, 2, 3, 4, 5])
    loss = build_objective(given.objective, model.feature_dim, np.ones(10))(model, x, y, torch.Generator())
    torch.testing.assert_close(loss.total, F.nll_loss(model(x).log_softmax(dim=1), y))


@pytest.mark.spec("T5")
def test_the_rate_halves_every_ten_epochs_as_pytorchs_step_schedule() -> None:
    mine = OptimConfig(name="adam", lr=0.002, schedule="step", decay_rate=0.5, decay_epochs=tuple(range(10, 100, 10)))
    weight = nn.Parameter(torch.ones(1))
    reference = torch.optim.Adam([weight], lr=0.002)
    steps = torch.optim.lr_scheduler.StepLR(reference, 10, gamma=0.5)
    schedule = Schedule(mine, epochs=100, steps_per_epoch=3)
    for epoch in range(1, 101):
        assert schedule.rate(epoch) == pytest.approx(reference.param_groups[0]["lr"])
        reference.step()
        steps.step()


@pytest.mark.spec("T5")
def test_the_preset_trains_as_the_source() -> None:
    preset = ExperimentConfig.parse(load_preset("crnn"))
    optim, training = preset.optim, preset.training
    assert (optim.name, optim.lr, optim.weight_decay, optim.amsgrad) == ("adam", 0.002, 0.01, True)
    assert (optim.schedule, optim.decay_rate, optim.decay_epochs) == ("step", 0.5, tuple(range(10, 100, 10)))
    assert (training.epochs, training.batch_size, training.drop_last, training.patience) == (100, 24, True, 8)
    assert preset.packed and preset.compat == []
    assert preset.model.model_dump(include={"crop", "stretch"}) == {"crop": 0.4, "stretch": 0.4}


@pytest.mark.slow
@pytest.mark.spec("T5")
def test_amsgrad_never_forgets_the_largest_gradient() -> None:
    weights = [nn.Parameter(torch.ones(1)) for _ in range(3)]
    optimizers = [
        build_optimizer(OptimConfig(name="adam", lr=0.1, amsgrad=amsgrad), [weight], "cpu")
        for weight, amsgrad in zip(weights, (True, False), strict=False)
    ] + [torch.optim.Adam([weights[2]], lr=0.1, weight_decay=1e-6, amsgrad=True)]
    for gradient in (100.0, *[0.01] * 3000):
        for weight, optimizer in zip(weights, optimizers, strict=True):
            weight.grad = torch.full((1,), gradient)
            optimizer.step()
    kept, forgotten, reference = (weight.item() for weight in weights)
    assert kept == reference and abs(kept - forgotten) > 0.01


@pytest.mark.slow
@pytest.mark.spec("T5")
def test_a_training_stops_when_nothing_gets_better(settings: Settings) -> None:
    training = {"epochs": 12, "batch_size": 64, "patience": 2, "protocol": "validation"}
    optim = {"name": "sgd", "lr": 1e-9, "schedule": "constant", "amsgrad": False}
    site = Site(settings.store, settings.results, str(settings.cache), str(settings.weights), device="cpu")
    result = run_fold(FoldRun(config(training=training, optim=optim), "official", 0, 0), site)
    assert len(result.epochs) == result.protocols["validation"].epoch + 2 < 12


@pytest.mark.slow
@pytest.mark.spec("O7")
def test_a_packed_model_hears_a_single_file_as_it_was_trained(settings: Settings, synthetic_corpus: Path) -> None:
    model = {"packed": True, "stretch": 0.4}
    given = config(model=model, training={"epochs": 1, "batch_size": 32})
    site = Site(settings.store, settings.results, str(settings.cache), str(settings.weights), device="cpu")
    result = run_fold(FoldRun(given, "official", 0, 0), site)
    results = ResultStore.open(settings.results)
    folder = settings.home / "model"
    write_model(folder, given, result.data.classes, results.read(result.hash, WEIGHTS))
    table = pq.read_table(io.BytesIO(results.read(result.hash, "predictions.parquet"))).to_pylist()
    stored = {row["cycle_id"]: row["logits"] for row in table if row["side"] == "test" and row["protocol"] == "last"}
    recordings = [r for r in open_corpus("icbhi", synthetic_corpus).recordings if r.cycles[0].cycle_id in stored]
    one = recordings[0]
    assert one.audio is not None
    said = SoundModel(folder, device="cpu").predict(one.audio, [(cycle.start, cycle.end) for cycle in one.cycles])
    for cycle, prediction in zip(one.cycles, said.cycles, strict=True):
        wanted = torch.tensor(stored[cycle.cycle_id]).softmax(dim=0).numpy()
        np.testing.assert_allclose(prediction.probabilities, wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"feature": {**TINY_FEATURE, "pad": "zero"}}, "feature.pad repeat or augment"),
        ({"feature": {**TINY_FEATURE, "copies": 1}}, "feature.copies 0 or feature.copy_by noise"),
        ({"augment": {"roll": 0.5}}, "augment.roll 0"),
        ({"training": {"concat_scale": 1.0}}, "training.concat_scale 0"),
    ],
)
def test_packing_is_refused_with_what_moves_the_sound_from_the_beginning(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=f"model.packed needs {told}"):
        config(model={"packed": True}, **changes)


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["breathing-phase", "aicup-voice"])
def test_the_crnn_trains_on_the_other_corpora(tmp_path: Path, corpus: str) -> None:
    if corpus == "aicup-voice":
        root, task, feature, split = write_voices(tmp_path / "c", count=40), "voice5", {"kind": "mfcc"}, "first-fold"
    else:
        root, task, split = write_clips(tmp_path / "c", count=24), "phase2", "grouped"
        feature = {**TINY_FEATURE, "seconds": 1.0}
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    build(open_corpus(corpus, root), resolve_feature(feature), store, workers=0)
    given = config(feature, model={"packed": True}, training={"epochs": 1}).model_copy(
        update={"dataset": corpus, "task": task}
    )
    site = Site(store.uri, str(tmp_path / "results"), str(tmp_path / "cache"), str(tmp_path), device="cpu")
    result = run_fold(FoldRun(given, split, 0, 0), site)
    assert result.protocols["last"].test.n == result.data.test > 0
