"""One representation a file. Each is a spec: a name, a size, and a pure function of the waveform."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter, ValidationError

from feature_store.errors import UserError, nearest
from feature_store.features.fbank import FbankSpec
from feature_store.features.hybrid import HybridSpec
from feature_store.features.mel import MelSpec
from feature_store.features.mel_db import MelDbSpec
from feature_store.features.mfcc import MfccSpec
from feature_store.features.phase9 import Phase9Spec
from feature_store.features.spec import Spec

__all__ = ["NAMED", "FeatureSpec", "Spec", "resolve_feature"]

AnySpec = FbankSpec | HybridSpec | MelSpec | MelDbSpec | MfccSpec | Phase9Spec
FeatureSpec = Annotated[AnySpec, Field(discriminator="kind")]

KINDS: dict[str, type[Spec]] = {spec.model_fields["kind"].default: spec for spec in get_args(AnySpec)}

NAMED: dict[str, Spec] = {
    "fbank": FbankSpec(),
    "fbank-small": FbankSpec(seconds=5.0, n_mels=64, shift_ms=20.0),
    "hybrid": HybridSpec(),
    "hybrid-augmented": HybridSpec(copies=1, copy_of="cycle"),
    "mel": MelSpec(),
    "mel-db": MelDbSpec(),
    "mfcc": MfccSpec(),
    **{f"voice-mfcc{size}": MfccSpec(n_mfcc=size, table=44) for size in (13, 17, 21, 30, 50)},
    "phase9": Phase9Spec(),
}


def resolve_feature(value: Any) -> Spec:
    """A spec from its name, from a mapping of its parameters, or as it is.

    Raises:
        UserError: there is no such name, or the mapping is no spec.
    """
    if isinstance(value, Spec):
        return value
    if isinstance(value, str):
        if value not in NAMED:
            raise UserError(f"unknown feature '{value}'", where="feature", hint=nearest(value, NAMED))
        return NAMED[value]
    if not isinstance(value, Mapping) or "kind" not in value:
        raise UserError(f"{value!r} is no feature", where="feature", hint=f"a name ({', '.join(NAMED)}) or a mapping")
    kind = str(value["kind"])
    if kind not in KINDS:
        raise UserError(f"unknown kind '{kind}'", where="feature", hint=nearest(kind, KINDS))
    known = KINDS[kind].model_fields
    for key in value:
        if key not in known:
            raise UserError(f"unknown key '{key}' of {kind}", where="feature", hint=nearest(str(key), known))
    try:
        return TypeAdapter(FeatureSpec).validate_python(value)
    except ValidationError as error:
        problems = "; ".join(f"'{'.'.join(str(s) for s in p['loc'][1:])}': {p['msg']}" for p in error.errors())
        raise UserError(f"is no feature spec: {problems}", where="feature") from error
