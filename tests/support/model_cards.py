"""A model card as a whole official split by three seeds would give it, made up."""

from __future__ import annotations

from typing import Any

from orchestrator.registry.card.card import CardEstimate, Dependency, DeviceRow, ModelCard, Pretrained, SearchPart


def a_card(**changes: Any) -> ModelCard:
    """The card, with some of its fields as given."""
    card = ModelCard(
        name="icbhi-lungsound4",
        family="ast",
        model="AST base",
        parameters=87_728_649,
        objective="patchmix_cl",
        pretrained=Pretrained(file="audioset_10_10_0.4593.pth", sha256="a" * 64, licence="BSD-3-Clause (AST, SSAST)"),
        score=CardEstimate(mean=56.0, sd=0.8, low=52.0, high=60.0),
        specificity=CardEstimate(mean=72.0, sd=1.0),
        sensitivity=CardEstimate(mean=40.0, sd=1.5),
        score_icbhi2=CardEstimate(mean=63.25, sd=0.5),
        devices=[
            DeviceRow(device="AKGC417L", cycles=1836, patients=20, score=54.0, specificity=70.0, sensitivity=38.0),
            DeviceRow(device="Meditron", cycles=459, patients=19, score=60.5, specificity=80.0, sensitivity=41.0),
        ],
        search=SearchPart(
            study="ast-patchmix-cl-0123456789",
            objective=57.1234,
            split="official-inner5",
            split_hash="d" * 16,
            folds=[0, 1, 2, 3, 4],
            seeds=[0],
            protocol="last",
            score=CardEstimate(mean=57.1234, low=50.0, high=64.0),
            results=["f" * 40],
        ),
        dataset="icbhi",
        task="lungsound4",
        classes=["normal", "crackle", "wheeze", "both"],
        split="official",
        folds=1,
        protocol="last",
        seeds=[0, 1, 2],
        runs=[(0, 0), (1, 0), (2, 0)],
        weights_seed=2,
        weights_fold=0,
        recordings=920,
        recordings_listed=920,
        synthetic=False,
        train_cycles=3521,
        validation_cycles=621,
        test_cycles=2756,
        train_patients=67,
        test_patients=49,
        patients_on_both_sides=["156", "218"],
        compat=[],
        test_reads=1,
        config_hash="1" * 16,
        data_hash="2" * 16,
        split_hash="3" * 16,
        feature_id="fbank-0123456789ab",
        semantics=2,
        results=["4" * 40, "5" * 40, "6" * 40],
        weights_result="6" * 40,
        weights_sha256="7" * 64,
        lungtune="0.1.0",
        git_commit="0123456789ab",
        python="3.11.9",
        torch="2.11.0",
        dependencies=[Dependency(name="numpy", version="2.3.1"), Dependency(name="torch", version="2.11.0")],
        trained_on=["NVIDIA H200"],
        finished="2026-03-01T12:00:00+00:00",
        train_seconds=9000.0,
        gpu_hours=2.5,
        energy_kwh=1.25,
        feature_seconds=8.0,
        sample_rate=16000,
    )
    return card.model_copy(update=changes)
