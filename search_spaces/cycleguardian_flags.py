"""Every flag of CycleGuardian's command line (Chu et al., 2025) and what becomes of it here.

`cycleguardian_command` converts whole commands by this table; docs/cycleguardian.md shows it.
"""

from __future__ import annotations

from search_spaces.command_line import Flag, FlagTable

TARGETS = ("grad_block", "grad_flow", "project_block", "project_flow")
NOT_READ = "Not read."


def _dead(name: str, default: float | str | None, note: str = NOT_READ) -> Flag:
    return Flag(name, default, str if default is None else type(default), (), "dead", note)


TABLE = FlagTable("CycleGuardian", (
    Flag("lr_h", 1e-2, float, ("optim.lr",), "same", "The README's command says 1e-3."),
    _dead("lr_m", 1e-3),
    _dead("lr_l", 5e-4, "Not read, though the README's command sets it."),
    _dead("weight_decay", 0.0005, "Adam gets none; `optim.weight_decay` sets one."),
    Flag(
        "gpu_ids", "[0]", str, ("LUNGTUNE_DEVICE",), "replaced",
        "A training takes one device; a sweep gives each its own.",
    ),
    Flag("num_worker", 4, int, (), "replaced", "Trainings read stored features without loader processes."),
    Flag(
        "batch_size", 4, int, ("training.batch_size",), "same",
        "It also scales the clustering loss with `objective.cluster_reduction=sum`, which is the source's.",
    ),
    Flag("epochs", 10, int, ("training.epochs",), "same", "The README's command says 600."),
    Flag(
        "start_epochs", 0, int, (), "replaced",
        "A stopped run goes on, with its full state, when it is started again.",
    ),
    Flag(
        "data_dir", None, str, ("lungtune features build --root",), "replaced",
        "Features are computed once, from --root, into a store that trainings read.",
    ),
    Flag(
        "event_dir", "./data/events", str, ("training.event_scale",), "replaced",
        "Event files are read from a folder `events` beside the recordings; both scripts leave them unused.",
    ),
    Flag(
        "split_method", 0, int, ("--split",), "switch",
        "0: `official-patient-test`, the source's test patients, none of them trained on; any other: `five-fold`.",
    ),
    Flag("dataset_split_file", None, str, ("--split",), "replaced", "The lists lie beside the recordings."),
    _dead("train_dir", None),
    _dead("test_dir", None),
    _dead("folds_file", None),
    Flag("test_fold", 4, int, ("--fold",), "same", "With `--split five-fold`.", (0, 1, 2, 3, 4)),
    _dead("aug_scale", None, "Not read; `training.event_scale` grows the classes."),
    _dead("specaug_policy", "icbhi_ast_sup", "Always `group_sr22k` there; here `augment.policy`."),
    _dead("specaug_mask", "mean", "Always the mean there; here `augment.fill`."),
    Flag("model_path", None, str, ("LUNGTUNE_HOME",), "replaced", "Weights are kept with the result."),
    Flag(
        "checkpoint", None, str, ("model.pretrained",), "replaced",
        "Its pickles name the layers otherwise and are not read; `model.pretrained` starts from one of lungtune's.",
    ),
    _dead("stetho_id", -1, "Not read; `devices` chooses them."),
    _dead("annealing_epoch", 50),
    _dead("proj_dim", 768, "Its projector gives 128 values; here `objective.proj_dim`."),
    Flag("negative_pair", "all", str, ("objective.negative_pair",), "same", "Same default.", ("all", "diff_label")),
    Flag("mix_beta", 1.0, float, ("objective.mix_beta",), "same", "Same default."),
    Flag("temperature", 0.06, float, ("objective.tau",), "same", "Same default."),
    Flag("p_cluster", 1.0, float, ("objective.p_cluster",), "same", "Same default; see `objective.cluster_reduction`."),
    Flag("p_cos_sim", 0.2, float, ("objective.p_cos_sim",), "same", "Same default."),
    Flag("p_contra", 0.5, float, ("objective.p_contra",), "same", "Same default."),
    _dead("p_class", 1.0, "The cross entropy has the weight 1."),
    Flag(
        "target_type", "project_flow", str, ("objective.target_type",), "switch",
        "All four work; there only `project_flow` does.", TARGETS,
    ),
))  # fmt: skip
