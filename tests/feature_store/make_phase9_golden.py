"""Writes phase9_golden.json: maps and scalars of two made-up clips as librosa computes them.

It is no test, and needs librosa, which lungtune does not: pip install librosa==0.11.0, then run it in this folder.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

RATE, FRAMES, ROWS = 16000, (2, 17, 31, 44, 60), (0, 3, 9, 20, 23, 41, 77, 119, 127)
GOLDEN = Path(__file__).with_name("phase9_golden.json")


def clips() -> list[np.ndarray]:
    """A breath-like swell of coloured noise with a falling tone, and a train of clicks over a chord. Float32."""
    time = np.arange(RATE) / RATE
    rng = np.random.default_rng(5)
    noise = np.convolve(rng.normal(size=RATE), np.exp(-np.arange(30) / 6.0), mode="same")
    first = 0.05 * noise * np.sin(np.pi * time) + 0.1 * np.sin(2 * np.pi * (700 * time - 150 * time**2))
    chord = sum(0.05 * np.sin(2 * np.pi * hertz * time) for hertz in (220.0, 277.2, 329.6, 1318.5))
    clicks = np.where(np.arange(RATE) % 2500 < 12, 0.5, 0.0)
    second = chord * (time > 0.3) + clicks + 0.002 * rng.normal(size=RATE)
    return [first.astype(np.float32), second.astype(np.float32)]


def _whole(x):
    return (x - x.mean()) / (x.std() + 1e-8)


def _by_row(x):
    return (x - x.mean(axis=1, keepdims=True)) / (x.std(axis=1, keepdims=True) + 1e-8)


def _fitted(x):
    missing = max(0, 128 - len(x))
    return np.pad(x[:128], ((0, missing), (0, 0)), constant_values=x.min())


def maps(y: np.ndarray) -> dict[str, np.ndarray]:
    import librosa
    from scipy.fft import dct

    feature = librosa.feature
    spectrum = np.abs(librosa.stft(y, n_fft=512, hop_length=256))
    power = feature.melspectrogram(y=y, sr=RATE, n_fft=512, hop_length=256, n_mels=128, fmax=4500)
    mel = librosa.power_to_db(power, ref=np.max)
    mfcc = feature.mfcc(y=y, sr=RATE, n_mfcc=40, n_fft=512, hop_length=256)
    onset = librosa.onset.onset_strength(y=y, sr=RATE, hop_length=256)
    emphasised = np.append(y[0], y[1:] - 0.97 * y[:-1])
    frames = librosa.util.frame(emphasised, frame_length=400, hop_length=160).T * np.hamming(400)
    made = {
        "chroma": _by_row(
            np.vstack([feature.chroma_stft(S=spectrum, sr=RATE), feature.chroma_cens(y=y, sr=RATE, hop_length=256)])
        ),
        "gammatone": _whole(np.log1p(librosa.filters.mel(sr=RATE, n_fft=512, n_mels=64) @ spectrum)),
        "lpc": _whole(np.stack([librosa.lpc(np.ascontiguousarray(f), order=12)[1:] for f in frames]).T)[:, :63],
        "mel": _whole(mel),
        "mel_delta": _whole(feature.delta(mel)),
        "mel_delta2": _whole(feature.delta(mel, order=2)),
        "mfcc": _by_row(np.vstack([mfcc, feature.delta(mfcc), feature.delta(mfcc, order=2)])),
        "mod_spec": _whole(dct(dct(mel, axis=0, norm="ortho")[:40], axis=1, norm="ortho")),
        "stft": _whole(librosa.power_to_db(spectrum**2, ref=np.max)[:128]),
        "tempogram": _whole(feature.tempogram(onset_envelope=onset, sr=RATE, hop_length=256, win_length=384)),
    }
    return {name: _fitted(values).T for name, values in made.items()}


def scalars(y: np.ndarray) -> list[float]:
    import librosa
    from scipy import signal, stats

    feature = librosa.feature
    found: list[float] = []
    for row in (feature.rms(y=y, hop_length=256)[0], feature.zero_crossing_rate(y, hop_length=256)[0]):
        found += [row.mean(), row.std(), row.max(), row.min()]
    centroid = feature.spectral_centroid(y=y, sr=RATE, hop_length=256)[0]
    found += [centroid.mean() / 8000, centroid.std() / 8000, stats.skew(centroid)]
    for row in (feature.spectral_bandwidth(y=y, sr=RATE, hop_length=256), feature.spectral_rolloff(y=y, sr=RATE)):
        found += [row.mean() / 8000, row.std() / 8000]
    for row in (
        feature.spectral_flatness(y=y, hop_length=256),
        feature.spectral_contrast(y=y, sr=RATE, hop_length=256),
    ):
        found += [row.mean(), row.std()]
    envelope = np.abs(signal.hilbert(y))
    peaks, _ = signal.find_peaks(envelope, height=envelope.mean(), distance=RATE // 10)
    found += [envelope.mean(), envelope.std(), envelope.mean() / (envelope.std() + 1e-8), len(peaks)]
    found += [envelope[peaks].mean(), envelope[peaks].std()]
    power = np.abs(librosa.stft(y, n_fft=512, hop_length=256)) ** 2
    mel = feature.melspectrogram(y=y, sr=RATE, hop_length=256, n_mels=128)  # not the map: 2,048 points, up to Nyquist
    flux = np.sqrt((np.diff(librosa.power_to_db(mel, ref=np.max), axis=1) ** 2).sum(axis=0))
    found += [power[:32].sum() / (power.sum() + 1e-8), flux.mean(), flux.std(), flux.max()]
    found += [stats.skew(y), stats.kurtosis(y), *np.percentile(np.abs(y), (90, 10))]
    correlation = np.correlate(y.astype(float), y.astype(float), "full")[len(y) - 1 :]
    correlation /= correlation[0]
    found += [correlation[160], correlation[320], correlation[:800].argmin() / RATE]
    return [float(value) for value in found]


if __name__ == "__main__":
    content = []
    for clip in clips():
        picked = {
            name: [[round(float(values[frame, row]), 6) for row in ROWS] for frame in FRAMES]
            for name, values in maps(clip).items()
        }
        content.append({"maps": picked, "scalars": [round(value, 8) for value in scalars(clip)]})
    GOLDEN.write_text(json.dumps(content, indent=None, separators=(",", ":")).replace('],"', '],\n"') + "\n")
