"""A model card as Markdown, for people: beside the weights, as the version's description in MLflow, on the terminal."""

from __future__ import annotations

from feature_store.counted import counted
from feature_store.metrics import MEANINGS, USUAL
from orchestrator.markdown import code, row, text
from orchestrator.registry.card.card import DeviceRow, ModelCard

LONGEST_DESCRIPTION = 5000  # characters that MLflow's database takes of a version's description


def page(card: ModelCard) -> str:
    """The whole card."""
    return "\n\n".join([_head(card), *_sections(card)]) + "\n"


def description(card: ModelCard) -> str:
    """As many whole sections of the page as MLflow takes."""
    text = _head(card)
    for section in _sections(card):
        if len(text) + 2 + len(section) > LONGEST_DESCRIPTION:
            break
        text += "\n\n" + section
    return text


def _head(card: ModelCard) -> str:
    watched = (
        "" if card.test_reads == 1 else f"; the test side was read {counted(card.test_reads, 'time')} by a training"
    )
    tested = f"{counted(card.test_cycles, 'test cycle')} of {counted(card.test_patients, 'patient')}"
    rows = {
        card.metric_label: f"**{card.score}**",
        "Sp": str(card.specificity),
        "Se": str(card.sensitivity),
        **({"Score, two classes": str(card.score_icbhi2)} if card.metric == USUAL else {}),
        "metric": f"{card.metric}: {MEANINGS[card.metric]}",
        "split": f"{text(card.split)}: {tested}",
        "protocol": f"{text(card.protocol)}{watched}",
        "seeds": f"{_listed(card.seeds)}; these weights are of seed {card.weights_seed}, best on its held-out patients",
    }
    if card.patients_on_both_sides:
        rows["patients on both sides"] = _listed(card.patients_on_both_sides)
    if card.compat:
        rows["copied defects"] = _listed(card.compat)
    numbers = "Percent on the test side: mean ± deviation over seeds, 95 % interval by bootstrap over patients."
    return f"# {text(f'{card.name}: {card.model}, {card.objective}')}\n\n{numbers}\n\n{_table(rows)}"


def _sections(card: ModelCard) -> list[str]:
    """In the order of their weight for a reader: what is cut off the end of a description is missed least."""
    return [_use(card), _devices(card), _data(card), _search(card), _load(card), _training(card), _identity(card)]


def _use(card: ModelCard) -> str:
    limits = "\n".join(f"- {text(limit)}" for limit in card.limits)
    kept = "Its corpus keeps its own terms" + (", and so do the pretrained weights." if card.pretrained else ".")
    return (
        f"## Intended use and limits\n\n{text(card.intended_use)}\n\n{limits}\n\nLicence: {text(card.licence)}. {kept}"
    )


def _devices(card: ModelCard) -> str:
    lines = [
        row(["device", "cycles", "patients", card.metric_label, "Sp", "Se"]),
        "| --- | --: | --: | --: | --: | --: |",
    ]
    lines += [
        row([text(one.device), f"{one.cycles:,}", f"{one.patients}", *(f"{number:.2f}" for number in _rates(one))])
        for one in card.devices
    ]
    return "## By recording device\n\n" + "\n".join(lines)


def _rates(one: DeviceRow) -> tuple[float, float, float]:
    return one.score, one.specificity, one.sensitivity


def _data(card: ModelCard) -> str:
    rows = {
        "corpus": text(f"{card.dataset}, {card.extent}"),
        "task": f"{text(card.task)}: {_listed(card.classes)}",
        "trained on": f"{counted(card.train_cycles, 'cycle')} of {counted(card.train_patients, 'patient')}",
        "held out of the training": counted(card.validation_cycles, "cycle"),
        "feature": f"{code(card.feature_id)}: {card.sample_rate} Hz, {card.feature_seconds:g} s",
    }
    if card.table:
        rows["beside each sound"] = f"{counted(card.table, 'number')} of its row in the corpus' list"
    return f"## Data\n\n{_table(rows)}"


def _search(card: ModelCard) -> str:
    search = card.search
    if search is None:
        return "## Search\n\nIt comes from no search."
    rows = {"study": text(search.study), "objective": f"{search.objective:.4f}"}
    if search.score:
        rows[f"{card.metric_label} over its folds"] = str(search.score)
        rows["folds"] = f"{_listed(search.folds)} of {text(search.split)}, protocol {text(search.protocol)}"
    return f"## Search\n\n{_table(rows)}"


def _load(card: ModelCard) -> str:
    name, listed = " ".join(card.name.replace("`", "'").split()), " --table list.csv" if card.table else ""
    row = '{"audio": [open("recording.wav", "rb").read()]' + (', "table": [cells]}' if card.table else "}")
    return f"""## How to load

    lungtune predict {name}@champion recording.wav{listed}
    mlflow models serve --model-uri models:/{name}@champion --env-manager local --port 5001

or `mlflow.pyfunc.load_model("models:/{name}@champion").predict(pandas.DataFrame({row}))`.
Nothing in the package is pickled: code, configuration and safetensors."""


def _training(card: ModelCard) -> str:
    rows = {
        "time": f"{card.train_seconds / 60:.1f} minutes, {counted(len(card.runs), 'fold run')}",
        "on": _listed(card.trained_on),
        "GPU hours": "none" if card.gpu_hours is None else f"{card.gpu_hours:.2f}",
        "energy": "not measured" if card.energy_kwh is None else f"{card.energy_kwh:.3f} kWh",
        "finished": text(card.finished),
        "parameters": f"{card.parameters:,}",
    }
    if pretrained := card.pretrained:
        rows["pretrained weights"] = f"{code(pretrained.file)}, licence: {text(pretrained.licence)}"
        if pretrained.sha256:
            rows["their SHA-256"] = code(pretrained.sha256)
    return f"## Training\n\n{_table(rows)}"


def _identity(card: ModelCard) -> str:
    rows = {
        "code": text(f"lungtune {card.lungtune}, commit {card.git_commit}, training semantics {card.semantics}"),
        "Python, torch": text(f"{card.python}, {card.torch}"),
        "config": code(card.config_hash),
        "data": code(card.data_hash),
        "split": code(card.split_hash),
        "weights (SHA-256)": code(card.weights_sha256),
        "fold runs": ", ".join(code(name[:12]) for name in card.results),
        "dependencies": _listed([str(dependency) for dependency in card.dependencies]),
    }
    return f"## Identity\n\n{_table(rows)}"


def _table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "| --- | --- |", *(row([name, value]) for name, value in rows.items())])


def _listed(values: list[str] | list[int]) -> str:
    return text(", ".join(map(str, values)))
