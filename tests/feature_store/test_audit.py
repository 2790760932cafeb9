"""The audit report against the published counts, and the command that prints it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from feature_store.audit import AuditReport, audit
from feature_store.datasets.icbhi import IcbhiCorpus
from feature_store.errors import UserError
from orchestrator.cli.data import app

runner = CliRunner()


@pytest.fixture(scope="module")
def report(shared_data: Path) -> AuditReport:
    return audit(IcbhiCorpus(shared_data / "icbhi" / "all_920_annotations"))


def side(report: AuditReport, split: str, fold: int, name: str):
    [found] = [s for s in report.sides if (s.split, s.fold, s.side) == (split, fold, name)]
    return found


@pytest.mark.slow
def test_whole_database(report):
    assert report.completeness == "complete: all 920"
    assert (report.patients, report.cycles, report.audio, report.errors) == (126, 6898, False, 0)
    assert report.totals["lungsound4"] == {"normal": 3642, "crackle": 1864, "wheeze": 886, "both": 506}
    assert report.totals["diagnosis3"] == {"healthy": 322, "chronic": 5856, "non-chronic": 720}
    assert [(d.device, d.recordings) for d in report.all_devices] == [
        ("AKGC417L", 646),
        ("Litt3200", 60),
        ("LittC2SE", 87),
        ("Meditron", 127),
    ]


@pytest.mark.slow
def test_sides(report):
    train = side(report, "official", 0, "train")
    assert (train.patients, train.recordings, train.cycles) == (79, 539, 4142)
    assert train.labels["lungsound2"] == {"normal": 2063, "abnormal": 2079}
    fold = side(report, "five-fold", 2, "test")
    assert (fold.patients, fold.recordings, fold.cycles) == (25, 50, 536)
    assert list(fold.labels["lungsound4"].values()) == [403, 107, 22, 4]


def test_devices_by_side(report):
    found = {(d.side, d.device): (d.cycles, d.patients) for d in report.devices if d.split == "official"}
    assert found == {
        ("train", "AKGC417L"): (2510, 17),
        ("train", "LittC2SE"): (594, 23),
        ("train", "Litt3200"): (41, 2),
        ("train", "Meditron"): (997, 41),
        ("test", "AKGC417L"): (1836, 16),
        ("test", "Litt3200"): (461, 10),
        ("test", "Meditron"): (459, 24),
    }


def test_leakage_is_of_two_patients_of_the_official_split(report):
    leaking = {(o.split, o.fold): o for o in report.overlaps if o.patients}
    assert list(leaking) == [("official", 0), ("compat-official-patient-expanded", 0)]
    found = {
        p.patient: (p.train_recordings, p.train_cycles, p.test_recordings, p.test_cycles)
        for p in leaking["official", 0].patients
    }
    assert found == {"156": (9, 69, 8, 61), "218": (4, 48, 4, 59)}
    assert leaking["official", 0].recordings_on_both_sides == 0


@pytest.mark.spec("D10")
def test_leakage_of_the_split_expanded_to_patients_is_of_25_recordings(report):
    [overlap] = [o for o in report.overlaps if o.split == "compat-official-patient-expanded"]
    assert overlap.recordings_on_both_sides == 25
    twice = [(p.patient, p.train_recordings, p.train_cycles) for p in overlap.patients]
    assert twice == [(p.patient, p.test_recordings, p.test_cycles) for p in overlap.patients]
    assert sum(cycles for _, _, cycles in twice) == 237
    assert [o.split for o in report.overlaps if o.recordings_on_both_sides] == [overlap.split]


@pytest.mark.slow
def test_published_counts_agree_and_a_changed_annotation_is_found(report, shared_data, tmp_path):
    assert len(report.published) == 7 and all(row.agrees for row in report.published)
    shutil.copytree(shared_data / "icbhi" / "all_920_annotations", tmp_path / "txt")
    shutil.copytree(shared_data / "icbhi" / "metadata", tmp_path / "metadata")
    changed = tmp_path / "txt" / "101_1b1_Al_sc_Meditron.txt"
    changed.write_text(changed.read_text().replace("\t0\t0\n", "\t0\t1\n", 1))
    folds = dict(
        line.split() for line in (tmp_path / "metadata" / "patient_list_foldwise.txt").read_text().splitlines()
    )
    fold = int(folds["101"])
    other = audit(IcbhiCorpus(tmp_path / "txt"))
    assert sorted((r.split, r.fold, r.side) for r in other.published if not r.agrees) == [
        ("five-fold", fold, "test"),
        ("official", 0, "test"),
    ]
    assert other.errors == 2


@pytest.mark.slow
def test_partial_database(shared_data):
    report = audit(IcbhiCorpus(shared_data / "icbhi" / "audio"))
    assert report.completeness == "partial: 199 of 920"
    assert report.audio and not report.complete and report.published == []
    assert [p.patient for o in report.overlaps for p in o.patients] == ["218", "218"]


def test_no_split_file_is_one_problem(shared_data, tmp_path):
    shutil.copytree(shared_data / "icbhi" / "metadata", tmp_path / "metadata")
    (tmp_path / "metadata" / "official_split.txt").unlink()
    shutil.copy(shared_data / "icbhi" / "all_920_annotations" / "101_1b1_Al_sc_Meditron.txt", tmp_path)
    report = audit(IcbhiCorpus(tmp_path))
    assert report.cycles == 12 and {side.split for side in report.sides} >= {"official", "five-fold"}
    about_split = [p for p in report.problems if "published list" in p.what]
    assert len(about_split) == 1 and "ICBHI_challenge_train_test.txt is missing" in about_split[0].what


@pytest.mark.slow
def test_command_prints_tables(shared_data):
    root = shared_data / "icbhi" / "all_920_annotations"
    result = runner.invoke(app, ["check", "--root", str(root)], env={"COLUMNS": "140"})
    assert result.exit_code == 0
    assert "complete: all 920 recordings; 6,898 cycles of 126 patients" in result.stdout
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "train 79 539 4,142 2,063 1,215 501 363" in rows
    assert "fold 3 test 25 99 759 441 81 205 32" in rows
    assert "LittC2SE 594 / 87 / 23 594 / 87 / 23 -" in rows
    assert "official 0 156 69 / 9 61 / 8" in rows and "official 0 218 48 / 4 59 / 4" in rows
    assert "All 7 published counts are reproduced." in result.stdout
    assert "no audio, only annotations" in result.stdout


@pytest.mark.slow
def test_command_prints_json(shared_data):
    result = runner.invoke(app, ["check", "--root", str(shared_data / "icbhi" / "audio"), "--json"])
    assert result.exit_code == 0
    content = json.loads(result.stdout)
    assert (content["recordings"], content["recordings_listed"], content["cycles"]) == (199, 920, 2052)
    assert content["completeness"] == "partial: 199 of 920" and content["errors"] == 0


def test_command_exits_with_2_where_a_file_is_wrong_and_counts_the_rest(shared_data, tmp_path):
    for name in ("101_1b1_Al_sc_Meditron", "102_1b1_Ar_sc_Meditron"):
        for suffix in (".flac", ".txt"):
            shutil.copy(shared_data / "icbhi" / "audio" / f"{name}{suffix}", tmp_path)
    shutil.copytree(shared_data / "icbhi" / "metadata", tmp_path / "metadata")
    (tmp_path / "102_1b1_Ar_sc_Meditron.flac").write_bytes(b"")
    result = runner.invoke(app, ["check", "--root", str(tmp_path)], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "partial: 1 of 920 recordings; 12 cycles of 1 patient\n" in result.stdout
    assert "102_1b1_Ar_sc_Meditron.flac: the file is empty (0 bytes)" in result.stdout


def test_command_lists_twenty_problems_unless_asked_for_all(tmp_path):
    for number in range(25):
        (tmp_path / f"{101 + number}_1b1_Al_sc_Meditron.txt").write_text("")
    short = runner.invoke(app, ["check", "--root", str(tmp_path)])
    assert "and 5 more (--all lists them)" in short.stdout
    assert "125_1b1_Al_sc_Meditron" not in short.stdout
    assert "125_1b1_Al_sc_Meditron" in runner.invoke(app, ["check", "--root", str(tmp_path), "--all"]).stdout


@pytest.mark.slow
def test_command_shows_another_task_and_refuses_an_unknown_one(shared_data):
    root = str(shared_data / "icbhi" / "all_920_annotations")
    result = runner.invoke(app, ["check", "--root", root, "--task", "diagnosis3"], env={"COLUMNS": "140"})
    assert "test 49 381 2,756 175 2,423 158" in [" ".join(line.split()) for line in result.stdout.splitlines()]
    result = runner.invoke(app, ["check", "--root", root, "--task", "diagnosis4"])
    assert isinstance(result.exception, UserError) and "did you mean 'diagnosis" in str(result.exception)


@pytest.mark.slow
def test_command_synthesizes_a_corpus_that_it_can_check(tmp_path):
    dest = tmp_path / "synthetic"
    made = runner.invoke(app, ["synthesize", str(dest), "--patients", "10", "--recordings", "1"])
    assert made.exit_code == 0 and "10 recordings, 60 cycles of 10 patients" in made.stdout
    checked = runner.invoke(app, ["check", "--root", str(dest)])
    assert checked.exit_code == 0
    assert "SYNTHETIC" in checked.stdout and "No problems." in checked.stdout
