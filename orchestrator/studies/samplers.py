"""Optuna's samplers as a search uses them."""

from __future__ import annotations

import warnings

import optuna

from search_spaces.samplers import SAMPLERS, CmaEsSampler, GpSampler, QmcSampler, RandomSampler, SamplerPart, TpeSampler
from search_spaces.schema import Search


def build_sampler(search: Search, asked: int) -> optuna.samplers.BaseSampler:
    """The sampler for the next trial of a search.

    Args:
        search: which sampler, and its seed.
        asked: trials asked for before.

    Raises:
        UserError: another package brings the sampler, and it cannot be used.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # which Optuna gives for some arguments
        return SAMPLERS.build(search.sampler, search, asked, kind=optuna.samplers.BaseSampler)  # type: ignore[type-abstract]


def build(settings: SamplerPart, search: Search, asked: int) -> optuna.samplers.BaseSampler:
    """One of lungtune's own samplers; the arguments are those of `build_sampler`."""
    seed, startup = search.seed + asked, search.startup_trials
    match settings:
        case TpeSampler():
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=True)
        case GpSampler():
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        case CmaEsSampler():
            return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        case QmcSampler():  # its place in the sequence is in the study
            return optuna.samplers.QMCSampler(seed=search.seed, scramble=True, warn_independent_sampling=False)
        case RandomSampler():
            return optuna.samplers.RandomSampler(seed=seed)
    raise TypeError(f"{type(settings).__name__} is no sampler of this module")
