"""`lungtune submission`: a contest's unlabelled clips classified, in the file that it asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from feature_store.counted import counted
from orchestrator.cli.console import err, out


def submission(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="as for `lungtune predict`; several count alike"),
    ] = None,
    root: Annotated[Path, typer.Option(metavar="DIR", help="folder of the corpus, with the contest's list")] = Path(),
    dataset: Annotated[str, typer.Option(help="the corpus")] = "breathing-phase",
    ensemble: Annotated[
        str | None, typer.Option(metavar="HASH", help="a stored ensemble instead: its members with its weights")
    ] = None,
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE", help="where to write")] = Path("submission.csv"),
) -> None:
    """Classify the clips of a contest's list and write a row for each, in the list's order.

    Example: lungtune submission 3f9a27 81c0de --root ~/breathing_phase --out submissions/submission.csv

    Example: lungtune submission --ensemble 5d1c --root ~/breathing_phase
    """
    from feature_store.datasets import open_corpus
    from feature_store.errors import UserError
    from orchestrator import contest as made
    from orchestrator.cli.predict import opened

    if bool(models) == (ensemble is not None):
        raise UserError("give models, or --ensemble HASH", where="lungtune submission")
    members = _members(ensemble) if ensemble is not None else dict.fromkeys(models or [], 1.0)
    contest = open_corpus(dataset, root).contest()
    with err.status("predicting") as status:
        said, task = made.probabilities_of(
            contest,
            (opened(name) for name in members),
            lambda done: status.update(f"{done} of {counted(len(contest.clips), 'clip')}"),
        )
    mean = made.weighted(said, list(members.values()))
    made.write(out_file, made.submission(contest, task, mean))
    codes = contest.codes[task]
    counts = [sum(int(row.argmax()) == number for row in mean.values()) for number in range(len(codes))]
    told = ", ".join(f"{count} {code}" for code, count in zip(codes, counts, strict=True))
    out.print(f"{counted(len(mean), 'clip')} ({told}) in {out_file}", highlight=False)


def _members(prefix: str) -> dict[str, float]:
    """Fold runs of a stored ensemble with their weights.

    Raises:
        UserError: there is none, or more than one that begins so, or it is over several folds.
    """
    from feature_store.errors import UserError
    from feature_store.settings import Settings
    from workers.ensembles import EnsembleStore

    store = EnsembleStore.open(Settings.load().results)
    found = [name for name in store.hashes() if name.startswith(prefix)]
    stored = store.get(found[0]) if len(found) == 1 else None
    if stored is None:
        what = counted(len(found), "ensemble begins", "ensembles begin") if found else "no ensemble begins"
        raise UserError(f"{what} with '{prefix}'", where="--ensemble", hint="see `lungtune ensemble`")
    if len(stored.folds) > 1:
        raise UserError(
            "is over several folds, whose models never answer together", where=f"ensemble {stored.hash[:12]}"
        )
    return {member.hash: member.weight for member in stored.members}
