"""Feature store and result store on a real S3 server (SeaweedFS)."""

from __future__ import annotations

import multiprocessing
import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest
import soundfile

from feature_store.build import build
from feature_store.datasets import open_corpus
from feature_store.errors import UserError
from feature_store.features import FbankSpec
from feature_store.storage import open_storage
from feature_store.store import FeatureStore
from feature_store.verify import verify_feature
from tests.support import servers
from tests.support.storage_contract import StorageContract
from tests.workers.test_results import make_result
from workers.results import ResultStore

SPEC = FbankSpec(seconds=2.0, n_mels=32, shift_ms=40.0)
WRITERS = 8


@pytest.fixture
def place(s3: str) -> str:
    return f"{s3}/{uuid.uuid4().hex}"


# --- storage ---


class TestStorage(StorageContract):
    """On S3; `place` is this module's."""


def test_lists_more_than_a_page(s3: str) -> None:
    storage = open_storage(f"{s3}/many")
    for number in range(1005):
        storage.write(f"k/{number:04d}", b"")
    assert storage.list("k") == [f"k/{number:04d}" for number in range(1005)]


def test_a_bucket_without_prefix(s3: str) -> None:
    storage, key = open_storage(s3), f"{uuid.uuid4().hex}/x"
    storage.write(key, b"1")
    assert key in storage.list("")
    assert storage.uri(key) == f"s3://lungtune/{key}"


def test_a_missing_bucket_is_said(s3: str) -> None:
    assert s3
    with pytest.raises(UserError, match=r"s3://nowhere.*no bucket"):
        FeatureStore.open("s3://nowhere/store")


def test_a_wrong_key_is_said(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it remembers the right one
    for use in (lambda s: s.read("a"), lambda s: s.exists("a"), lambda s: s.write("a", b""), lambda s: s.list("")):
        with pytest.raises(UserError, match=r"s3://lungtune.*refuses"):
            use(open_storage(place))


def test_a_server_that_is_not_there_is_said(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = servers.free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(UserError, match=rf"cannot be used.*{port}"):
        open_storage(place).read("a")


# --- feature store ---


def test_builds_reads_and_rebuilds(synthetic_corpus: Path, place: str, tmp_path: Path) -> None:
    """The same as in a folder, bit for bit; then one recording is replaced and one removed."""
    root = tmp_path / "corpus"
    shutil.copytree(synthetic_corpus, root)
    there = FeatureStore.open(place, create=True)
    here = FeatureStore.open(str(tmp_path / "store"), create=True)
    corpus = open_corpus("icbhi", root)
    for store in (there, here):
        assert build(corpus, SPEC, store, workers=0).computed == len(corpus.recordings)
    again = FeatureStore.open(place)
    assert again.datasets() == ["icbhi"]
    assert again.splits("icbhi") == here.splits("icbhi")
    assert again.cycles("icbhi").equals(here.cycles("icbhi"))
    one = again.load("icbhi", SPEC.feature_id, tmp_path / "cache-there")
    two = here.load("icbhi", SPEC.feature_id, tmp_path / "cache-here")
    assert one.cycle_ids == two.cycle_ids
    np.testing.assert_array_equal(one.values, two.values)
    assert build(corpus, SPEC, again, workers=0).computed == 0

    replaced, removed = corpus.recordings[0], corpus.recordings[1]
    assert replaced.audio and removed.audio
    samples, rate = soundfile.read(replaced.audio)
    soundfile.write(replaced.audio, samples[::-1], rate, subtype=soundfile.info(replaced.audio).subtype)
    removed.audio.unlink()
    removed.audio.with_suffix(".txt").unlink()
    report = build(open_corpus("icbhi", root), SPEC, again, workers=0)
    assert (report.computed, report.removed, report.failed) == (1, 1, [])
    assert verify_feature(again, "icbhi", SPEC.feature_id) == []
    after = again.load("icbhi", SPEC.feature_id, tmp_path / "cache-there")
    before = dict(zip(one.cycle_ids, one.values, strict=True))
    assert after.cycle_ids == [cycle for cycle in one.cycle_ids if not cycle.startswith(f"{removed.name}#")]
    changed = {
        cycle.rsplit("#")[0]
        for cycle, values in zip(after.cycle_ids, after.values, strict=True)
        if not np.array_equal(values, before[cycle])
    }
    assert changed == {replaced.name}
    parts = [key for key in again.storage.list("icbhi/features") if "/part-" in key]
    assert len(parts) == len(again.manifest("icbhi", SPEC).parts)


def test_a_missing_store_says_how_to_build_one(place: str) -> None:
    with pytest.raises(UserError, match=r"no feature store here.*lungtune features build"):
        FeatureStore.open(place)


# --- result store ---


def _publish(place: str, writer: str, barrier, answers) -> None:
    results = ResultStore.open(place)
    barrier.wait()
    result, _ = make_result(note=writer)
    answers.put((writer, results.publish(result, {"log.jsonl": writer.encode() * 1000})))


def test_of_eight_publishers_exactly_one_wins(place: str) -> None:
    """And the files of the result are the winner's, not a mixture."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(WRITERS), context.Queue()
    names = [f"w{number}" for number in range(WRITERS)]
    writers = [context.Process(target=_publish, args=(place, name, barrier, answers)) for name in names]
    for writer in writers:
        writer.start()
    told = dict(answers.get(timeout=60) for _ in writers)
    for writer in writers:
        writer.join(60)
    (winner,) = [name for name in names if told[name]]
    results, (late, _) = ResultStore.open(place), make_result(note="late")
    assert results.hashes() == [late.hash]
    found = results.get(late.hash)
    assert found is not None
    assert found.provenance.git_commit == winner
    assert results.read(late.hash, "log.jsonl") == winner.encode() * 1000
    assert not results.publish(late, {})


def test_a_result_without_its_json_is_not_there(place: str) -> None:
    """A publisher that died after its files and before the commit."""
    results, (result, _) = ResultStore.open(place), make_result()
    results.storage.write(f"{result.hash[:2]}/{result.hash}/dead/log.jsonl", b"half")
    assert results.hashes() == []
    assert result.hash not in results
    assert results.get(result.hash) is None
    assert results.publish(result, {"log.jsonl": b"whole"})
    assert results.read(result.hash, "log.jsonl") == b"whole"
