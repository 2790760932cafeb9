"""A published file's weights put into a backbone, key by key and with nothing passed over in silence."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from torch import nn

from feature_store.errors import UserError
from workers.models.ast import AstBackbone
from workers.models.image import stem_weight
from workers.models.load_report import LoadReport
from workers.models.transformer_weights import Layout, transformer_state
from workers.models.weight_file import State, lacking, read_weights

NO_PLACE = re.compile(  # heads of other tasks, PANNs' and our own front ends, the mask of a pretraining
    r"(head|head_dist|mlp_head|pre_logits|classifier\.[15]|fc|fc1|fc_audioset|bn0|spectrogram_extractor"
    r"|logmel_extractor|front)\.|mask_token$"
)
COLOURS = 3


def load_pretrained(
    backbone: nn.Module,
    path: Path,
    *,
    pretrained_stem: Literal["sum", "random"] = "sum",
    pos_embed_layout: Layout = "correct",
) -> LoadReport:
    """Put a file's weights into a backbone: a published file's, or a model's that lungtune saved, without its head.

    Args:
        backbone: as initialised.
        path: the file.
        pretrained_stem: the first convolution of a colour image network is summed over colours, or stays as
            initialised and is reported as missing.
        pos_embed_layout: see `workers.models.transformer_weights.position_table`.

    Raises:
        UserError: a key of the backbone is missing in the file or has another shape, or the file holds something that
            the backbone has no place for, such as the register tokens of another transformer.
    """
    report = LoadReport()
    state = read_weights(path)
    untrained: list[str] = []
    stem = stem_weight(backbone)
    if any(name.startswith("backbone.") for name in state):  # lungtune's own
        state = {name.removeprefix("backbone."): value for name, value in state.items()}
    elif isinstance(backbone, AstBackbone):
        state = transformer_state(state, backbone, report, path, pos_embed_layout)
    elif stem and stem in state and state[stem].dim() == 4 and state[stem].shape[1] == COLOURS:
        if pretrained_stem == "sum":  # a grey picture then gives what it gave before
            state[stem] = state[stem].sum(dim=1, keepdim=True)
            report.adapted.append(stem)
        else:
            del state[stem]
            untrained.append(stem)
            report.left_over.append(stem)
    fill(backbone, state, report, path, spare=NO_PLACE, untrained=untrained)
    return report


def fill(
    module: nn.Module,
    state: State,
    report: LoadReport,
    path: Path,
    *,
    spare: re.Pattern[str] | None = None,
    untrained: Collection[str] = (),
) -> None:
    """Put a state into a module, all of it or, after an error, nothing; the report is completed.

    Args:
        module: whose names the state has.
        state: of the file, adapted.
        report: has the adapted names.
        path: of the file, for errors.
        spare: names that may be left over.
        untrained: names of the module that may be missing; batch norms' counters always may.

    Raises:
        UserError: a name is missing, too many, or has another shape.
    """
    own = module.state_dict()
    matched: State = {}
    for name, value in own.items():
        if name not in state:
            report.missing.append(name)
        elif state[name].shape != value.shape:
            raise UserError(
                f"'{name}' has shape {list(state[name].shape)}, the model needs {list(value.shape)}",
                where=str(path),
                hint="is it the checkpoint of another size or width, or of another feature? set the model's to fit",
            )
        else:
            matched[name] = state[name].to(value.dtype)
            if name not in report.adapted:
                report.used.append(name)
    extra = [name for name in state if name not in own]
    report.left_over += extra
    wanting = [n for n in report.missing if n not in untrained and not n.endswith("num_batches_tracked")]
    if wanting:
        raise lacking(wanting, state, path)
    unknown = [name for name in extra if spare is None or not spare.match(name)]
    if unknown:
        raise UserError(
            f"has {len(unknown)} entries that the model has no place for, the first: {', '.join(unknown[:3])}",
            where=str(path),
            hint="is it a checkpoint of another model? set the model's name and size to fit",
        )
    module.load_state_dict(matched, strict=False)
