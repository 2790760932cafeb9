"""A stored model on raw audio: the same numbers as in training, cycle by cycle."""

from __future__ import annotations

import itertools
import json
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save

from feature_store.audio import cut_cycles, fade, resample
from feature_store.errors import UserError
from feature_store.features import NAMED, resolve_feature
from tests.conftest import TINY_FEATURE
from workers.config import ExperimentConfig
from workers.inference import BATCH, CONFIG, SoundModel, windows, write_model
from workers.models import build_model
from workers.sound import Limits, Waveform

CLASSES = ["normal", "crackle", "wheeze", "both"]
RATE = 16_000


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExperimentConfig, torch.nn.Module]:
    """A folder with a model whose pretrained file is nowhere, its config, and the model itself."""
    config = ExperimentConfig.parse(
        {
            "feature": TINY_FEATURE,
            "model": {"name": "crnn", "hidden": 8, "pretrained": {"file": "gone.pt", "sha256": "0" * 64}},
            "objective": {"name": "ce"},
        }
    )
    torch.manual_seed(0)
    model = build_model(config.model, config.feature.shape, 4).eval()
    folder = tmp_path_factory.mktemp("packed") / "model"
    write_model(folder, config, CLASSES, save(model.state_dict()))
    return folder, config, model


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds that grow louder and higher."""
    time = np.arange(5 * RATE) / RATE
    noise = np.random.default_rng(0).normal(size=len(time))
    path = tmp_path_factory.mktemp("audio") / "sweep.wav"
    soundfile.write(path, 0.1 * time / 5 * (np.sin(600 * time**2) + 0.3 * noise), RATE, subtype="PCM_24")
    return path


def test_probabilities_are_the_model_s_on_the_cycle_s_own_samples(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path
) -> None:
    """The first two seconds of longer cycles, cut by hand; only the recording's own beginning is faded in."""
    folder, _, model = packed
    spans = [(1.0, 3.3), (2.5, 4.6), (0.0, 2.2)]
    predicted = SoundModel(folder).predict(recording, spans)
    samples = soundfile.read(recording, dtype="float32")[0]
    samples[:1000] *= np.linspace(0, 1, 1000, dtype=np.float32)
    waveforms = np.stack([samples[int(start * RATE) :][: 2 * RATE] for start, _ in spans])
    values = torch.from_numpy(resolve_feature(TINY_FEATURE).compute(waveforms))
    with torch.no_grad():
        logits = model(values[:, None]).double().numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row, (span, found) in enumerate(zip(spans, predicted.cycles, strict=True)):
        assert (found.start, found.end) == span
        assert found.probabilities == pytest.approx(expected[row], abs=1e-6)
    first, second, _ = predicted.cycles
    assert not np.allclose(first.probabilities, second.probabilities, atol=1e-4)


def test_a_cycle_s_prediction_does_not_hang_on_its_neighbours(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path
) -> None:
    model = SoundModel(packed[0])
    spans = [(0.0, 0.7), (0.7, 3.1), (4.0, 5.0)]
    together = model.predict(recording, spans)
    for span, one in zip(spans, together.cycles, strict=True):
        (alone,) = model.predict(recording, [span]).cycles
        assert alone.probabilities == pytest.approx(one.probabilities, abs=1e-6)


def test_without_cycles_the_recording_is_cut_into_windows(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path
) -> None:
    model = SoundModel(packed[0])
    found = model.predict(recording).cycles
    spans = [(one.start, one.end) for one in found]
    assert spans == pytest.approx(np.array([(0, 5 / 3), (5 / 3, 10 / 3), (10 / 3, 5)]))  # at most 2 s each
    given = model.predict(recording, spans).cycles
    assert [one.probabilities.tolist() for one in found] == [one.probabilities.tolist() for one in given]


@pytest.mark.parametrize(
    ("seconds", "length", "count"), [(0.3, 8, 1), (8, 8, 1), (8.001, 8, 2), (20, 8, 3), (86.2, 5, 18)]
)
def test_windows_tile_the_recording(seconds: float, length: float, count: int) -> None:
    spans = windows(seconds, length)
    assert len(spans) == count
    assert spans[0][0] == 0 and spans[-1][1] == seconds
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(spans))
    assert max(end - start for start, end in spans) <= length + 1e-9


@pytest.mark.parametrize(
    "cycle", [(-0.1, 1.0), (2.0, 2.0), (3.0, 2.0), (5.0, 6.0), (float("nan"), 1.0), (1.0, float("nan"))]
)
def test_a_cycle_outside_of_the_recording_is_refused(
    cycle: tuple[float, float], packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path
) -> None:
    with pytest.raises(UserError, match=r"sweep\.wav: no cycle from .* in 5\.00 s"):
        SoundModel(packed[0]).predict(recording, [(0.0, 1.0), cycle])


def test_a_cycle_annotated_past_the_end_is_cut_there(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path
) -> None:
    model = SoundModel(packed[0])
    past, exact = (model.predict(recording, [(4.0, end)]).cycles[0] for end in (5.02, 5.0))
    assert past.probabilities == pytest.approx(exact.probabilities, abs=1e-7)


def test_what_is_no_sound_is_refused_by_its_name(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], tmp_path: Path
) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    for name in ("text.wav", "missing.wav"):
        with pytest.raises(UserError, match=name):
            SoundModel(packed[0]).predict(tmp_path / name)


def test_the_folder_says_what_it_is_without_a_pickle(packed: tuple[Path, ExperimentConfig, torch.nn.Module]) -> None:
    folder, config, model = packed
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "model_config.json"]
    content: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    assert content["classes"] == CLASSES
    assert content["config"]["model"]["pretrained"] is None
    assert content["config"]["feature"] == config.feature.model_dump(mode="json")
    loaded = SoundModel(folder).model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


def test_a_recording_s_probabilities_are_its_cycles_weighted_by_their_seconds(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path
) -> None:
    """What lies past the recording's end has no weight."""
    said = SoundModel(packed[0]).predict(recording, [(0.0, 0.5), (0.5, 2.0), (4.0, 9.0)])
    one, two, three = (cycle.probabilities for cycle in said.cycles)
    assert said.probabilities == pytest.approx((0.5 * one + 1.5 * two + 1.0 * three) / 3.0, abs=1e-6)
    assert said.seconds == 5.0 and said.rate == RATE


def test_a_path_its_bytes_and_its_samples_say_the_same(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path
) -> None:
    model = SoundModel(packed[0])
    samples, rate = soundfile.read(recording, dtype="float32")
    expected = model.predict(recording)
    for sound in (recording.read_bytes(), Waveform(samples, rate)):
        found = model.predict(sound)
        assert [(c.start, c.end) for c in found.cycles] == [(c.start, c.end) for c in expected.cycles]
        assert found.probabilities.tolist() == expected.probabilities.tolist()


def test_with_a_hop_windows_overlap_and_the_last_ends_with_the_recording(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path
) -> None:
    found = SoundModel(packed[0]).predict(recording, window=1.5, hop=1.0)
    spans = [(one.start, one.end) for one in found.cycles]
    assert spans == [(0.0, 1.5), (1.0, 2.5), (2.0, 3.5), (3.0, 4.5), (3.5, 5.0)]
    assert windows(1.0, 2.0, 0.5) == [(0.0, 1.0)]


@pytest.mark.parametrize(
    ("window", "hop", "said"),
    [
        (2.5, None, "a window of 2.5 s does not fit the model .it takes 2 s at once"),
        (0.0, None, "a window of 0 s"),
        (float("nan"), None, "a window of nan s"),
        (1.0, 1.5, "a hop of 1.5 s does not fit windows of 1 s"),
        (None, 0.0, "a hop of 0 s"),
        (None, 1e-6, "more than 100,000 windows"),
    ],
)
def test_windows_that_make_no_sense_are_refused(
    window: float | None,
    hop: float | None,
    said: str,
    packed: tuple[Path, ExperimentConfig, torch.nn.Module],
    recording: Path,
) -> None:
    with pytest.raises(UserError, match=said):
        SoundModel(packed[0]).predict(recording, window=window, hop=hop)


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_every_usual_rate_is_resampled_as_the_feature_store_does(
    rate: int, packed: tuple[Path, ExperimentConfig, torch.nn.Module]
) -> None:
    samples = 0.1 * np.random.default_rng(rate).normal(size=3 * rate).astype(np.float32)
    model, spec = SoundModel(packed[0]), resolve_feature(TINY_FEATURE)
    waveform = fade(resample(samples, rate, RATE), round(spec.fade_seconds * RATE))
    values = torch.from_numpy(spec.compute(cut_cycles(waveform, [(0.0, 1.5), (1.5, 3.0)], spec)))
    with torch.no_grad():
        expected = model.model(values[:, None]).softmax(dim=1).numpy()
    found = model.predict(Waveform(samples, rate), [(0.0, 1.5), (1.5, 3.0)])
    assert np.stack([one.probabilities for one in found.cycles]).tolist() == expected.tolist()
    assert found.rate == rate and found.note == ""


def test_an_odd_rate_costs_no_more_memory_than_its_neighbour(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module],
) -> None:
    """44,101 and 16,000 share no divisor: filters for the exact ratio would take 2.8 GB."""
    time = np.arange(3 * 44_101) / 44_101
    model = SoundModel(packed[0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    odd, usual = (
        model.predict(Waveform(0.1 * np.sin(2 * np.pi * 300 * time[: 3 * rate]), rate)) for rate in (44_101, 44_100)
    )
    assert odd.probabilities == pytest.approx(usual.probabilities, abs=1e-3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


@pytest.mark.parametrize("rate", [0, -16_000, 999, 2e6, float("nan"), float("inf"), 16_000.5])
def test_an_absurd_rate_is_refused(rate: float, packed: tuple[Path, ExperimentConfig, torch.nn.Module]) -> None:
    with pytest.raises(UserError, match=r"row 3: a rate of .* Hz is none of a recording"):
        SoundModel(packed[0]).predict(Waveform(np.zeros(16_000, np.float32), rate), name="row 3")


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros((2, 100)), "not one channel .mix"),
        (np.zeros(0), "holds no sound"),
        (np.array([0.0, np.nan]), "NaN or infinite"),
        (np.array([0, 20_000, -3]), "divide those of 16 bit by 32768"),
    ],
)
def test_samples_that_are_no_recording_are_refused(
    samples: np.ndarray, said: str, packed: tuple[Path, ExperimentConfig, torch.nn.Module]
) -> None:
    with pytest.raises(UserError, match=said):
        SoundModel(packed[0]).predict(Waveform(samples, RATE))


def test_whole_numbers_are_scaled_by_a_model_whose_feature_is(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path, tmp_path: Path
) -> None:
    content = packed[1].model_dump(mode="json")
    scaling = ExperimentConfig.parse({**content, "feature": {**content["feature"], "full_scale": 32768}})
    write_model(tmp_path / "model", scaling, CLASSES, (packed[0] / "model.safetensors").read_bytes())
    samples, rate = soundfile.read(recording, dtype="float32")
    soundfile.write(tmp_path / "whole.wav", 32768 * samples, rate, subtype="FLOAT")
    expected = SoundModel(packed[0]).predict(recording).probabilities
    for sound in (tmp_path / "whole.wav", Waveform(32768 * samples, rate)):
        said = SoundModel(tmp_path / "model").predict(sound)
        assert said.probabilities == pytest.approx(expected, abs=1e-6)
        with pytest.raises(UserError, match="or set the feature's full_scale"):
            SoundModel(packed[0]).predict(sound)


def test_what_passes_full_scale_a_little_has_a_note(packed: tuple[Path, ExperimentConfig, torch.nn.Module]) -> None:
    noise = np.random.default_rng(0).uniform(-1.5, 1.5, RATE)
    assert "samples up to 1.5, where full scale is 1" in SoundModel(packed[0]).predict(Waveform(noise, RATE)).note


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "9" * 400])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"LUNGTUNE_SERVE_CYCLES: .* is no limit"):
        Limits.of_a_request({"LUNGTUNE_SERVE_CYCLES": text})
    assert Limits.of_a_request({"LUNGTUNE_SERVE_CYCLES": " 7 "}).cycles == 7


def test_stereo_is_refused_with_what_to_do(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "stereo.wav", np.zeros((RATE, 2)), RATE)
    for sound in (tmp_path / "stereo.wav", (tmp_path / "stereo.wav").read_bytes()):
        with pytest.raises(UserError, match=r"2 channels; recordings are mono .mix it down"):
            SoundModel(packed[0]).predict(sound)


def test_silence_and_ten_milliseconds_have_finite_probabilities_and_a_note(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module],
) -> None:
    model = SoundModel(packed[0])
    silent = model.predict(Waveform(np.zeros(5 * RATE), RATE))
    assert np.isfinite(silent.probabilities).all() and silent.probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    assert [one.note for one in silent.cycles] == ["silence"] * 3 and silent.note.endswith("; silence")
    short = model.predict(Waveform(0.1 * np.random.default_rng(0).normal(size=160), RATE))
    assert np.isfinite(short.probabilities).all()
    assert [one.note for one in short.cycles] == ["only 10 ms of sound"] and short.seconds == 0.01
    mixed = np.zeros(4 * RATE)
    mixed[2 * RATE :] = 0.1 * np.random.default_rng(0).normal(size=2 * RATE)
    half = model.predict(Waveform(mixed, RATE), [(0.0, 2.0), (2.0, 4.5), (0.0, 4.0)])
    assert [one.note for one in half.cycles] == [
        "silence", "ends 0.5 s after the recording", "only its first 2 s are used",
    ]  # fmt: skip
    assert half.note == ""


def test_ten_milliseconds_are_refused_by_a_feature_that_stretches_them(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], tmp_path: Path
) -> None:
    content = packed[1].model_dump(mode="json")
    stretching = ExperimentConfig.parse({**content, "feature": {**content["feature"], "pad": "stretch"}})
    write_model(tmp_path, stretching, CLASSES, (packed[0] / "model.safetensors").read_bytes())
    model = SoundModel(tmp_path)
    noise = 0.1 * np.random.default_rng(0).normal(size=RATE)
    assert np.isfinite(model.predict(Waveform(noise, RATE)).probabilities).all()
    with pytest.raises(UserError, match="row 7: a cycle of 160 samples is shorter than a window of fbank, 400 samples"):
        model.predict(Waveform(noise[:160], RATE), name="row 7")


@pytest.mark.parametrize("feature", sorted(NAMED))
def test_no_feature_makes_nan_of_silence(feature: str) -> None:
    spec = NAMED[feature]
    silence = np.zeros(spec.sample_rate, np.float32)
    cycles = cut_cycles(silence, [(0.0, 0.01), (0.0, 1.0)], spec)
    scalars = spec.compute_scalars(cycles, [0.0] * spec.table)
    assert np.isfinite(spec.compute(cycles)).all() and (scalars is None or np.isfinite(scalars).all())


@pytest.mark.slow
def test_ten_minutes_are_cut_into_windows_a_batch_at_a_time(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module],
) -> None:
    model, sizes = SoundModel(packed[0]), []
    model.model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    rate = 4_000
    noise = 0.1 * np.random.default_rng(0).normal(size=600 * rate).astype(np.float32)
    said = model.predict(Waveform(noise, rate))
    assert len(said.cycles) == sum(sizes) == 300 and max(sizes) == BATCH
    assert said.note == "no cycles given: cut into 300 windows"
    first = model.predict(Waveform(noise[: 30 * rate], rate), [(0.0, 2.0), (2.0, 4.0)])
    found = [one.probabilities for one in said.cycles[:2]]
    assert np.stack(found) == pytest.approx(np.stack([one.probabilities for one in first.cycles]), abs=1e-6)


@pytest.mark.spec("E6")
@pytest.mark.parametrize("told", [False, True], ids=["whole", "told where its padding begins"])
def test_all_pieces_of_a_long_cycle_are_heard_and_put_together(
    told: bool, packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path, tmp_path: Path
) -> None:
    """4.6 s by a feature of 2 s: pieces from 0, 1 and 2 s, and the last 1.6 s filled up as the feature does it."""
    content = packed[1].model_dump(mode="json")
    config = ExperimentConfig.parse({**content, "model": {**content["model"], "packed": told}})
    write_model(tmp_path, config, CLASSES, (packed[0] / "model.safetensors").read_bytes())
    model, spans = SoundModel(tmp_path), [(0.0, 4.6), (4.0, 5.0)]
    alone = model.predict(recording, [(0.0, 2.1), (1.0, 3.1), (2.0, 4.1), (3.0, 4.6), (4.0, 5.0)]).cycles
    rows = np.stack([one.probabilities for one in alone[:4]])
    one, mean, vote = (model.predict(recording, spans, pieces=pieces).cycles for pieces in (None, "mean", "vote"))
    assert one[0].probabilities == pytest.approx(rows[0], abs=1e-6)
    assert mean[0].probabilities == pytest.approx(rows.mean(axis=0), abs=1e-6)
    votes = rows.argmax(axis=1)
    winner = np.bincount(votes).argmax()
    assert vote[0].probabilities == pytest.approx(rows[votes == winner].mean(axis=0), abs=1e-6)
    agree = (votes == winner).sum()
    notes = ["only its first 2 s are used", "used in 4 pieces", f"{agree} of its 4 pieces agree"]
    assert [found[0].note for found in (one, mean, vote)] == notes
    for found in (one, mean, vote):
        assert found[1].probabilities == pytest.approx(alone[4].probabilities, abs=1e-6) and found[1].note == ""


@pytest.mark.spec("E6")
def test_without_cycles_there_are_windows_and_no_pieces(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path
) -> None:
    model = SoundModel(packed[0])
    one, vote = (model.predict(recording, window=2.0, hop=1.0, pieces=pieces) for pieces in (None, "vote"))
    assert [cycle.probabilities.tolist() for cycle in one.cycles] == [c.probabilities.tolist() for c in vote.cycles]


@pytest.mark.spec("E6")
def test_the_pieces_of_a_minute_are_in_memory_a_batch_at_a_time(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module],
) -> None:
    model, sizes = SoundModel(packed[0]), []
    model.model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    noise = 0.1 * np.random.default_rng(0).normal(size=60 * 4_000).astype(np.float32)
    (found,) = model.predict(Waveform(noise, 4_000), [(0.0, 60.0)], pieces="mean").cycles
    assert sizes == [16, 16, 16, 12] and found.note == "used in 60 pieces"


def test_no_cycle_at_all_is_told(packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path) -> None:
    with pytest.raises(UserError, match="there is no cycle to classify"):
        SoundModel(packed[0]).predict(recording, [])


@pytest.mark.parametrize("damage", ["gone", "cut", "another"])
def test_a_damaged_folder_says_so(
    damage: str, packed: tuple[Path, ExperimentConfig, torch.nn.Module], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(packed[0], folder)
    weights = folder / "model.safetensors"
    if damage == "gone":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-100] if damage == "cut" else save({"x": torch.zeros(1)}))
    with pytest.raises(UserError, match="has no model.safetensors" if damage == "gone" else "damaged, or of another"):
        SoundModel(folder)
