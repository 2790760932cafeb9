"""Every flag of Patch-Mix' command line (Bae et al., 2023) and what becomes of it here.

`patchmix_command` converts whole commands by this table; docs/patchmix.md shows it.
"""

from __future__ import annotations

from search_spaces.command_line import Flag, FlagTable, Status


def _on(name: str, becomes: tuple[str, ...], status: Status, note: str) -> Flag:
    return Flag(name, False, bool, becomes, status, note)


RESNETS = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101")
MODELS = ("cnn6", *RESNETS, "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "ast", "ssast")
POLICIES = ("LB", "LD", "SM", "SS", "icbhi_sup", "icbhi_ast_sup")
METHODS = ("ce", "patchmix", "patchmix_cl")
TARGETS = ("grad_block", "grad_flow", "project_block", "project_flow")

TABLE = FlagTable("Patch-Mix", (
    Flag("seed", 0, int, ("--seed",), "same", "Repeatable here: a training for each."),
    Flag("print_freq", 10, int, (), "replaced", "A line an epoch is printed."),
    Flag("save_freq", 100, int, (), "replaced", "The full state is kept between epochs until a run is done."),
    Flag("save_dir", "./save", str, (), "replaced", "Results go to the result store, `LUNGTUNE_HOME` if not set."),
    Flag("tag", "", str, (), "replaced", "Results are named by a hash of their config, data, split, fold and seed."),
    Flag("resume", None, str, (), "replaced", "A stopped run goes on, with its full state, when it is started again."),
    _on("eval", ("lungtune evaluate",), "replaced", "Scores a checkpoint and stores nothing."),
    _on("two_cls_eval", ("training.metric",), "switch", "Both Scores are always reported; this chooses by `icbhi2`."),
    # optimisation
    Flag("optimizer", "adam", str, ("optim.name",), "same", "L2 weight decay, as there.", ("adam", "sgd")),
    Flag("epochs", 400, int, ("training.epochs",), "same", "The default here is 50."),
    Flag("learning_rate", 1e-3, float, ("optim.lr",), "same", "Same default."),
    Flag("lr_decay_epochs", "120,160", str, ("optim.decay_epochs",), "same", "The last epochs before a drop."),
    Flag("lr_decay_rate", 0.1, float, ("optim.decay_rate",), "same", "The cosine ends at lr times its cube."),
    Flag("weight_decay", 1e-4, float, ("optim.weight_decay",), "same", "The default here is 1e-6."),
    Flag("momentum", 0.9, float, ("optim.momentum",), "same", "For sgd only."),
    _on("cosine", ("optim.schedule",), "same", "`cosine` with it, `step` without; the default here is cosine."),
    _on("warm", ("optim.warmup_epochs",), "same", "Ten epochs, linear from lr / 10."),
    Flag("warm_epochs", 0, int, (), "dead", "Set to 10 by --warm and not read without it; use `optim.warmup_epochs`."),
    _on("weighted_loss", ("objective.class_weights",), "same", "`inverse`: one over the class' frequency."),
    Flag("mix_beta", 1.0, float, ("objective.mix_beta",), "same", "Zero and below mix nothing."),
    _on("time_domain", ("objective.domain",), "switch", "`time` mixes whole time columns, with ssast too."),
    # data
    Flag("dataset", "icbhi", str, ("dataset",), "same", "The only one of the release.", ("icbhi",)),
    Flag(
        "data_folder", "./data/", str, ("lungtune features build --root",), "replaced",
        "Features are computed once, from --root, into a store that trainings read.",
    ),
    Flag("batch_size", 128, int, ("training.batch_size",), "same", "The default here is 8."),
    Flag("num_workers", 8, int, (), "replaced", "Trainings read stored features without loader processes."),
    Flag(
        "class_split", "lungsound", str, ("task",), "same", "With --n_cls it names the task.",
        ("lungsound", "diagnosis"),
    ),
    Flag("n_cls", 4, int, ("task",), "same", "lungsound: 4 or 2; diagnosis: 3 or 2."),
    Flag(
        "test_fold", "official", str, ("--split", "--fold"), "same",
        "`--split official`, or `--split five-fold --fold` 0 to 4.", ("official", "0", "1", "2", "3", "4"),
    ),
    _on("weighted_sampler", ("training.sampler",), "same", "`weighted`: all classes are drawn alike."),
    Flag(
        "stetho_id", -1, int, ("devices",), "same", "-1 all, 0 Meditron, 1 LittC2SE, 2 Litt3200, 3 AKGC417L.",
        (-1, 0, 1, 2, 3),
    ),
    Flag("sample_rate", 16000, int, ("feature.sample_rate",), "switch", "The release stops at any other than 16000."),
    Flag(
        "butterworth_filter", None, int, (), "dead",
        "`feature={kind: fbank, band_pass: [200, 1800]}` filters recordings, as was meant.",
    ),
    Flag(
        "desired_length", 8, int, ("feature.seconds",), "switch",
        "The release resizes any other length to 798 frames; here the feature has its own.",
    ),
    Flag("nfft", 1024, int, (), "dead", "Of a spectrogram that is never computed; here it is the feature `mel-db`."),
    Flag(
        "n_mels", 128, int, ("feature.n_mels",), "switch",
        "The release resizes any other number to 128 bins; here the feature has its own.",
    ),
    Flag(
        "concat_aug_scale", 0.0, float, (), "dead",
        "`training.concat_scale` grows the abnormal classes by joined cycles as was meant.",
    ),
    Flag(
        "pad_types", "repeat", str, ("feature.pad",), "switch",
        "aug fills with augmented copies; the release pads nothing and enlarges the picture: `feature.pad=stretch`.",
        ("repeat", "zero", "aug"),
    ),
    Flag("resz", 1.0, float, ("model.resize",), "same", "Scales frames and bins."),
    Flag("raw_augment", 0, int, ("feature.copies",), "switch", "Augmented copies of training cycles; raises there."),
    _on(
        "blank_region_clip", ("feature.clip_blank",), "switch",
        "Cuts blank bins off; the release takes every row for blank and squashes the picture.",
    ),
    Flag(
        "specaug_policy", "icbhi_ast_sup", str, ("augment.policy",), "switch",
        "The gate opens as often as the policy says; `augment.gate=seed_compat` is the release's.", POLICIES,
    ),
    Flag("specaug_mask", "mean", str, ("augment.fill",), "same", "What masks are filled with.", ("mean", "zero")),
    # model
    Flag(
        "model", "ast", str, ("model.name",), "switch",
        "AST's pretrained positions lie right; `model.pos_embed_layout=seed_compat` is the release's.", MODELS,
    ),
    _on(
        "pretrained", ("model.pretrained", "lungtune evaluate --weights"), "switch",
        "With --eval the checkpoint is scored; without, the backbone starts from it and the head from random weights.",
    ),
    Flag(
        "pretrained_ckpt", None, str, ("model.pretrained", "lungtune evaluate --weights"), "same",
        "A checkpoint of the release is read as it is.",
    ),
    _on(
        "from_sl_official", ("model.pretrained", "model.pretrained_stem"), "switch",
        "The file has to be in the weights folder; nothing is downloaded.",
    ),
    _on("ma_update", ("training.average.name",), "same", "`live_blend`: the blend goes into the live model."),
    Flag("ma_beta", 0.0, float, ("training.average.beta",), "same", "Share of the weights before the step."),
    _on(
        "audioset_pretrained", ("model.pretrained",), "switch",
        "The file has to be in the weights folder; ssast also runs without.",
    ),
    Flag(
        "ssast_task", "ft_avgtok", str, ("model.pool",), "switch",
        "`avgtok` or `cls`; patch mixing reaches both, in the release neither.", ("ft_avgtok", "ft_cls"),
    ),
    Flag("fshape", 16, int, ("model.patch_bins",), "same", "That of the checkpoint: Patch 16, Frame 128."),
    Flag("tshape", 16, int, ("model.patch_frames",), "same", "That of the checkpoint: Patch 16, Frame 2."),
    Flag(
        "ssast_pretrained_type", "Patch", str, ("model.pretrained",), "same", "Which of the two files.",
        ("Patch", "Frame"),
    ),
    # method
    Flag("method", "ce", str, ("objective.name",), "same", "Mixing needs ast or ssast.", METHODS),
    Flag("proj_dim", 768, int, ("objective.proj_dim",), "same", "Output of the projector."),
    Flag("temperature", 0.06, float, ("objective.tau",), "same", "Same default."),
    Flag("alpha", 1.0, float, ("objective.alpha",), "same", "Weight of the contrastive loss."),
    Flag(
        "negative_pair", "all", str, ("objective.negative_pair",), "same",
        "Same default. In current torch the release raises with `diff_label`; here it trains.", ("all", "diff_label"),
    ),
    Flag("target_type", "grad_block", str, ("objective.target_type",), "same", "Same default.", TARGETS),
))  # fmt: skip
CONTRASTIVE = ("proj_dim", "temperature", "alpha", "negative_pair", "target_type")  # of patchmix_cl only
