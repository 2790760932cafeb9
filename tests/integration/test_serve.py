"""`mlflow models serve` on the champion: paths, bytes and samples over HTTP, and what bad input is answered with."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save

from feature_store.settings import Settings
from orchestrator.registry.package import dependencies, save_model
from orchestrator.tracking.client import connect
from tests.support import servers
from tests.support.model_cards import a_card
from tests.support.tiny_sweep import TINY_CONFIG
from workers.config import ExperimentConfig
from workers.inference import SoundModel
from workers.models import build_model
from workers.results import WEIGHTS
from workers.sound import Waveform

NAME = "icbhi-lungsound4"


class Weights:
    """As much of a result store as a package needs: the weights of one run."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, result_hash: str, name: str) -> bytes:
        assert name == WEIGHTS
        return self.content


@dataclass(frozen=True)
class Server:
    url: str
    model: SoundModel
    readable: Path
    process: int

    def peak(self) -> int:
        """The most memory that the server and its worker have had, KiB."""
        pids, peak = [self.process], 0
        for pid in pids:
            pids += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            (line,) = (row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmHWM"))
            peak = max(peak, int(line.split()[1]))
        return peak

    def ask(self, body: Any) -> tuple[int, Any]:
        """Status and answer of a request to /invocations."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/invocations", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def rows(self, records: list[dict[str, Any]], **params: float) -> list[dict[str, Any]]:
        status, answer = self.ask({"dataframe_records": records, **({"params": params} if params else {})})
        assert status == 200, answer
        return answer["predictions"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a small model, which may read the files of one folder."""
    root = tmp_path_factory.mktemp("serve")
    config = ExperimentConfig.parse(TINY_CONFIG)
    torch.manual_seed(0)
    weights = save(build_model(config.model, config.feature.shape, 4).state_dict())
    save_model(root / "model", config, a_card(dependencies=dependencies(config)), Weights(weights))  # type: ignore[arg-type]
    readable = root / "recordings"
    readable.mkdir()
    (port,) = servers.free_ports(1)
    settings = Settings.load(root / "home")
    client = connect(settings)
    client.create_registered_model(NAME)
    version = client.create_model_version(NAME, source=str(root / "model"))
    client.set_registered_model_alias(NAME, "champion", version.version)
    serve = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", f"models:/{NAME}@champion"]
    serve += ["--env-manager", "local", "--port", str(port)]
    environment = os.environ | {"LUNGTUNE_SERVE_PATHS": str(readable), "MLFLOW_TRACKING_URI": settings.mlflow}
    environment["LUNGTUNE_SERVE_BYTES"] = str(8 << 20)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    url, log = f"http://127.0.0.1:{port}", root / "log"
    with servers.started(serve, log, root, environment) as process:
        servers.wait_for(f"{url}/ping", process, log)
        yield Server(url, SoundModel(root / "model" / "artifacts"), readable, process.pid)


@pytest.fixture(scope="module")
def recording(server: Server) -> Path:
    """Three seconds at 8 kHz, where the server may read."""
    path = server.readable / "noise.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=24_000), 8_000)
    return path


def test_a_path_bytes_and_samples_are_answered_alike(server: Server, recording: Path) -> None:
    samples, rate = soundfile.read(recording, dtype="float32")
    expected = server.model.predict(recording, [(0.0, 1.5), (1.5, 3.0)])
    cycles = [[0, 1.5], [1.5, 3]]  # whole numbers among them, as people write them
    encoded = base64.b64encode(recording.read_bytes()).decode()
    for record in (
        {"path": str(recording), "cycles": cycles},
        {"audio": encoded, "cycles": cycles},
        {"samples": samples.tolist(), "rate": rate, "cycles": cycles},
    ):
        rows = server.rows([record])
        assert [row["level"] for row in rows] == ["cycle", "cycle", "recording"]
        assert [(row["start"], row["end"]) for row in rows] == [(0, 1.5), (1.5, 3), (0, 3)]
        wanted = [*(one.probabilities for one in expected.cycles), expected.probabilities]
        for row, probabilities in zip(rows, wanted, strict=True):
            found = [row[name] for name in server.model.classes]
            assert found == pytest.approx(probabilities.tolist(), abs=1e-6)
            assert row["label"] == server.model.classes[int(probabilities.argmax())]
    table = {"columns": ["path", "start", "end"], "data": [[str(recording), 0, 1.5], [str(recording), 1.5, 3]]}
    status, answer = server.ask({"dataframe_split": table})
    assert status == 200 and [row["level"] for row in answer["predictions"]] == ["cycle", "cycle", "recording"]


def test_whole_recordings_are_cut_and_several_are_told_apart(server: Server, recording: Path) -> None:
    silence = np.zeros(1_600).tolist()
    encoded = base64.b64encode(recording.read_bytes()).decode()
    rows = server.rows([{"audio": encoded}, {"audio": encoded}], window_seconds=1.0, hop_seconds=0.5)
    assert [row["row"] for row in rows] == [0] * 6 + [1] * 6
    assert [row["start"] for row in rows[:5]] == [0, 0.5, 1, 1.5, 2]
    assert rows[5]["level"] == "recording" and rows[5]["note"] == "no cycles given: cut into 5 windows"
    cycle, whole = server.rows([{"samples": silence, "rate": 16000.0}])
    assert cycle["note"] == "silence; only 100 ms of sound" and "silence" in whole["note"]
    assert sum(whole[name] for name in server.model.classes) == pytest.approx(1.0, abs=1e-5)


def test_bad_input_is_answered_with_400_and_what_is_wrong(server: Server, recording: Path) -> None:
    sound = [0.0, 0.5, -0.5] * 1000
    encoded = base64.b64encode(recording.read_bytes()).decode()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"path": 5}, "row 0: path is not text: 5"),
        ({"audio": "###"}, "row 0: audio is not base64: '###'"),
        ({"audio": [1, 2]}, "row 0: audio are the bytes of a file, not list"),
        ({"audio": encoded, "cycles": [[0, 1e308]]}, "row 0: no cycle from 0.0 to 1e+308 s"),
        ({"audio": encoded, "start": 0, "end": 1e308}, "row 0: no cycle from 0.0 to 1e+308 s"),
        ({"audio": encoded, "start": "now", "end": 1}, "row 0: start is not a number: 'now'"),
        ({"audio": encoded, "cycles": [[0, 10**400]]}, "row 0: cycles is not a number: 1000"),
        ({"audio": encoded, "cycles": [[[[]]] * 2]}, "row 0: cycles is not a number: [[]]"),
        ({"samples": [[1, 2], [3]], "rate": 8000}, "row 0: samples are not a list of numbers"),
        ({"samples": sound, "rate": 10**400}, "row 0: rate is not a number: 1000"),
        ({"audio": base64.b64encode(b"no sound").decode()}, "row 0: cannot be read as audio"),
        ({"samples": sound}, "row 0: rate is not a number"),
        ({"samples": sound, "rate": 0}, "a rate of 0 Hz is none of a recording"),
        ({"samples": sound, "rate": -16000}, "a rate of -16000 Hz"),
        ({"samples": sound, "rate": "fast"}, "rate is not a number: 'fast'"),
        ({"samples": [], "rate": 16000}, "holds no sound"),
        ({"samples": [0.5, 20000.5], "rate": 16000}, "divide those of 16 bit by 32768"),
        ({"path": str(recording), "samples": sound, "rate": 16000}, "this one has path and samples"),
        ({"rate": 16000}, "this one has none of them"),
        ({"path": str(recording), "cycles": [[2, 9], [5, 6]]}, "no cycle from 5.0 to 6.0 s in 3.00 s of sound"),
        ({"path": str(recording), "cycles": [1, 2]}, "cycles are a list of pairs"),
        ({"path": str(recording), "cycles": []}, "cycles are a list of pairs"),
        ({"path": str(recording), "cycles": [[0, 1]], "start": 0, "end": 1}, "not both"),
        ({"path": str(recording), "start": 1.0}, "end is not a number"),
    ]
    for record, said in cases:
        status, answer = server.ask({"dataframe_records": [record]})
        assert status == 400 and said in json.loads(answer)["message"], (record, answer)
        assert "stack_trace" not in answer and "site-packages" not in answer and len(answer) < 2_000
    status, answer = server.ask({"dataframe_records": [{"path": str(recording)}], "params": {"window_seconds": 9.0}})
    assert status == 400 and "a window of 9 s does not fit the model" in answer
    assert server.rows([{"path": str(recording)}])  # and it still serves


def test_paths_outside_of_the_folder_say_nothing_of_what_there_is(
    server: Server, recording: Path, tmp_path: Path
) -> None:
    """One answer to files that are there, are not, are no sound, and links that lead out; a link inside is followed."""
    sound = tmp_path / "there.wav"
    soundfile.write(sound, np.zeros(16_000), 16_000)
    inside = recording.parent
    (inside / "text.wav").write_text("no sound")
    for name, target in (("out.wav", sound), ("gone.wav", tmp_path / "gone.wav"), ("in.wav", recording)):
        (inside / name).symlink_to(target)
    (inside / "round.wav").symlink_to(inside / "round.wav")
    answers = set()
    paths = [
        sound,
        tmp_path / "none.wav",
        inside / ".." / "model" / "MLmodel",
        inside / "none.wav",
        inside,
        "/dev/zero",
    ]
    paths += [inside / name for name in ("text.wav", "out.wav", "gone.wav", "round.wav", "x" * 5_000)]
    for path in [*map(str, paths), "", "a\0b.wav", "~/a.wav"]:
        status, answer = server.ask({"dataframe_records": [{"path": path}]})
        assert status == 400
        said = json.loads(answer)["message"].rpartition("Error: ")[2]
        answers.add(re.sub(r"of the name .* \(a WAV", "(a WAV", said))
        assert "stack_trace" not in answer
    (only,) = answers
    assert only.startswith("row 0: this server reads no sound file (a WAV or FLAC file in the folder that LUNGTUNE_")
    expected = server.rows([{"path": str(recording)}])
    for path in ("noise.wav", str(inside / "in.wav")):
        assert [row["wheeze"] for row in server.rows([{"path": path}])] == [row["wheeze"] for row in expected]


def test_a_request_costs_no_more_than_the_limits(server: Server, recording: Path) -> None:
    """Within seconds and 300 MB: hours of silence in a small FLAC, one that declares months, windows, cycles, rows."""
    content = io.BytesIO()
    soundfile.write(content, np.zeros(4_000 * 3_600 * 8, np.int16), 4_000, format="FLAC")
    lying = bytearray(content.getvalue())
    lying[21] |= 0x0F
    lying[22:26] = b"\xff" * 4  # its number of samples: 2 ** 36 - 1
    hours, months = (base64.b64encode(each).decode() for each in (content.getvalue(), bytes(lying)))
    short = base64.b64encode(recording.read_bytes()).decode()
    half = base64.b64encode(flac_of_seconds(700)).decode()
    large = base64.b64encode(bytes(9 << 20)).decode()
    cases: list[tuple[list[dict[str, Any]], dict[str, float], str]] = [
        ([{"audio": hours}], {}, "row 0: holds 28,800 s of sound at 4000 Hz, and at most 1,200 s are taken"),
        ([{"audio": months}], {}, "row 0: the file is truncated"),
        ([{"audio": half}, {"audio": half}], {}, "row 1: holds 700 s of sound at 4000 Hz, and at most 500 s"),
        ([{"audio": short}], {"hop_seconds": 3e-5}, "3 s give more than 1,000 windows"),
        ([{"audio": short}], {"hop_seconds": 1e-308}, "3 s give more than 1,000 windows"),
        ([{"audio": short, "cycles": [[0, 1]] * 1_001}], {}, "row 0: has 1,001 cycles, and at most 1,000 more"),
        ([{"audio": short, "cycles": [[0, 1]] * 600}] * 2, {}, "row 1: has 600 cycles, and at most 400 more"),
        ([{"audio": large}], {}, "row 0: has 9,437,184 bytes of sound, and at most 8,388,608 more"),
    ]
    before = server.peak()
    for records, params, said in cases:
        started = time.monotonic()
        status, answer = server.ask({"dataframe_records": records, "params": params})
        assert status == 400 and said in answer, answer[:1_000]
        assert time.monotonic() - started < 10, said
    assert server.peak() - before < 300 << 10, "KiB"


def flac_of_seconds(seconds: int) -> bytes:
    """Silence at 4 kHz."""
    content = io.BytesIO()
    soundfile.write(content, np.zeros(4_000 * seconds, np.int16), 4_000, format="FLAC")
    return content.getvalue()


def test_what_mlflow_refuses_by_itself_has_no_trace(server: Server) -> None:
    for kind, body in (
        ("text/csv", b"path\na"),
        ("application/vnd.apache.parquet", b"PAR1"),
        ("application/json", b"{"),
    ):
        request = urllib.request.Request(f"{server.url}/invocations", body, {"Content-Type": kind})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=60)
        answer = refused.value.read().decode()
        assert refused.value.code == 400 and "Traceback" not in answer and "site-packages" not in answer


def test_ten_minutes_are_answered(server: Server) -> None:
    path = server.readable / "long.flac"
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=600 * 4_000), 4_000)
    rows = server.rows([{"path": str(path)}])
    assert len(rows) == 301 and rows[-1]["end"] == 600
    assert all(np.isfinite([row[name] for name in server.model.classes]).all() for row in rows)


def test_the_package_in_this_process_takes_tables_of_numbers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers for the rate, arrays for samples: as numpy and pandas give them."""
    import mlflow
    import pandas as pd

    model = mlflow.pyfunc.load_model(str(server.readable.parent / "model"))
    sound = 0.1 * np.random.default_rng(1).normal(size=32_000)
    said = model.predict(pd.DataFrame({"samples": [sound], "rate": [16_000], "cycles": [np.array([[0, 1], [1, 2]])]}))
    expected = server.model.predict(Waveform(sound, 16_000), [(0, 1), (1, 2)])
    assert said.iloc[-1][server.model.classes].tolist() == pytest.approx(expected.probabilities.tolist(), abs=1e-6)
    with pytest.raises(mlflow.exceptions.MlflowException, match="this server reads no files"):
        model.predict(pd.DataFrame({"path": ["any.wav"]}))
