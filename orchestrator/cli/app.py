"""All commands in one place."""

from __future__ import annotations

import typer

from orchestrator.cli import (
    data,
    demo,
    doctor,
    ensemble,
    evaluate,
    features,
    leaderboard,
    nightly,
    predict,
    presets,
    registry,
    status,
    submission,
    sweep,
    train,
)

app = typer.Typer(
    name="lungtune",
    help="Finds, trains and ranks respiratory-sound classifiers on a Ray cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(features.app, name="features")
app.add_typer(presets.app, name="presets")
app.add_typer(registry.app, name="registry")
app.add_typer(leaderboard.app, name="leaderboard")
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("ensemble")(ensemble.ensemble)
app.command("submission")(submission.submission)
app.command("plan")(sweep.plan)
app.command("sweep")(sweep.sweep)
app.command("nightly")(nightly.nightly)
app.command("status")(status.status)
app.command("importance")(status.importance)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
