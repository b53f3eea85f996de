"""Train a recipe's network: `python -m train --recipe tsm_ucf101 --data_root … --ann_file … --output_dir …`.

OUTPUT_DIR/log.jsonl      a line a step and a validation (see `train.outputs.run_log`)
OUTPUT_DIR/last.pth       the state after the last epoch, from which the same command continues
OUTPUT_DIR/best.pth       that of the best validation; both in mmaction2's format
OUTPUT_DIR/curves.png     loss, rate and accuracy
OUTPUT_DIR/tensorboard/   event files, where tensorboard is installed
OUTPUT_DIR/train.json     what was trained with what, and what came out
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from networks.loading import build_network
from preprocess.datasets.sample_list import list_digest, list_samples
from train.clips.clip_loader import ClipSource, ListedClips
from train.clips.epochs import Epochs
from train.devices import accelerator_of, is_first, is_worker, run_on_cards
from train.fit import Run, fit
from train.learning.initial_weights import load_pretrained
from train.learning.network_input import Normalisation
from train.learning.parameter_groups import build_optimizer
from train.learning.steps import Trainer
from train.outputs.config_text import config_text
from train.outputs.run_checkpoint import Progress, load_run, save_run
from train.outputs.run_log import RunLog
from train.outputs.run_report import Outcome, write_report
from train.train_options import RunOptions, TrainOptions
from train.validation import CentreClips, Validator
from vidom.command import configure_logging
from vidom.errors import BadDataError
from vidom.folder_lock import locked_folder
from vidom.formats.recipe import Recipe
from vidom.options import read_options
from vidom.system.machine import usable_cores
from vidom.system.torch_devices import lay_out

__all__ = ["main", "train", "train_on"]

_log = logging.getLogger(__name__)


def train(options: TrainOptions) -> Outcome:
    """Train as the options say, or continue, on this process's device, and return what came out.

    Raises UsageError for a recipe without a train section, BadDataError for lists, samples and checkpoints that are
    damaged or belong to a different run, UnavailableError for a folder in which another process trains,
    CheckFailedError for a loss that is not finite, KeyboardInterrupt after an interruption, when all is saved.
    """
    recipe = options.recipe
    training = list_samples(options.ann_file, data_root=options.data_root, recipe=recipe)
    clips = ListedClips(recipe, training, options.data_root, options.seed)
    return train_on(clips, options, validation=_validation(options, clips), data_sha256=list_digest(training))


def _validation(options: TrainOptions, clips: ListedClips) -> ClipSource | None:
    """Return the clips to validate with, None without a validation list and for a performance run."""
    recipe = options.recipe
    if options.steps is not None:
        return None
    if recipe.training[0].validation == "training_clips":
        _log.warning(
            "The accuracy is that of random clips of the training list (train.validation: training_clips), as the "
            "original of StNet computes it; the validation list is not used."
        )
        return clips
    if options.val_ann is None:
        return None
    root = options.val_root or options.data_root
    return CentreClips(recipe, list_samples(options.val_ann, data_root=root, recipe=recipe), root)


def train_on(
    clips: ClipSource, options: RunOptions, *, validation: ClipSource | None, data_sha256: str
) -> Outcome:
    """Train on the clips of any source; `data_sha256` names them. Everything else is as in `train`."""
    recipe, (section, views) = options.recipe, options.recipe.training
    accelerator = accelerator_of(section, options.precision or section.precision)
    is_first = accelerator.is_main_process
    epochs = Epochs(len(clips), section.batch_size, accelerator.num_processes, options.seed)
    identity = {
        "recipe": recipe.name,
        "settings_sha256": _digest({**recipe.model_dump(include={"train", "network", "views"}, mode="json")}),
        "classes": recipe.dataset.num_classes,
        "data_sha256": data_sha256,
        "devices": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
        "seed": options.seed,
    }
    with locked_folder(options.output_dir) if is_first else nullcontext():
        last = options.output_dir / "last.pth"
        network, optimizer = _built(recipe, options, epochs)
        progress = Progress()
        scaler: Mapping[str, Any] = {}
        if last.exists():
            progress, scaler = load_run(last, network, optimizer, identity=identity)
            _log.info(f"Continues {options.output_dir} at step {progress.step}.")
        elif options.resume:
            raise BadDataError(f"There is no {last} to continue. Leave --resume out to begin anew.")
        elif options.checkpoint or section.pretrained:
            load_pretrained(network, options.checkpoint or str(section.pretrained))
        trainer = _prepared(accelerator, network, optimizer, recipe=recipe, seed=options.seed, scaler=scaler)
        total = options.steps or section.epochs * epochs.steps
        log = RunLog(options.output_dir if is_first else None, step=progress.step, total=total)
        save = partial(
            _save, trainer, folder=options.output_dir, epochs=epochs, identity=identity, recipe=recipe
        )
        workers = _workers(options, accelerator)
        validator = None
        if validation is not None:
            validator = Validator(
                validation,
                trainer,
                shape=views.images_shape,
                batch_size=section.batch_size,
                workers=workers,
            )
        this_run = Run(
            trainer=trainer,
            clips=clips,
            shape=views.images_shape,
            epochs=epochs,
            steps=total,
            validator=validator,
            log=log,
            workers=workers,
            skip_broken=options.on_bad == "skip",
            save=save,
        )
        try:
            progress = fit(this_run, progress)
        finally:
            log.close()
        outcome = Outcome(
            recipe=recipe,
            progress=progress,
            clips_per_s=this_run.speed.clips_per_s,
            devices=accelerator.num_processes,
            device=accelerator.device.type,
            precision=accelerator.mixed_precision,
            epochs=progress.step / epochs.steps,
            left_out=this_run.broken,
            identity=identity,
        )
        if is_first:
            write_report(options.output_dir, outcome)
        accelerator.wait_for_everyone()
        return outcome


def _built(recipe: Recipe, options: RunOptions, epochs: Epochs) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return the network with random weights that depend on the seed only, and its optimizer."""
    section, views = recipe.training
    torch.manual_seed(options.seed)
    arguments = {**recipe.network.arguments(views), "num_classes": recipe.dataset.num_classes}
    if section.dropout is not None:
        arguments["dropout"] = section.dropout
    network = build_network(recipe.network.arch, arguments)
    rate = section.lr
    if section.lr_batch:
        rate *= section.batch_size * epochs.devices * section.accumulate / section.lr_batch
        _log.info(
            f"The learning rate is {rate:.6g}, {section.lr:g} of a batch of {section.lr_batch} in proportion."
        )
    return network, build_optimizer(network, section, lr=rate)


def _prepared(
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    recipe: Recipe,
    seed: int,
    scaler: Mapping[str, Any],
) -> Trainer:
    section, views = recipe.training
    lay_out(network, accelerator.device)
    network, optimizer = accelerator.prepare(network, optimizer)
    if accelerator.scaler is not None and scaler:
        accelerator.scaler.load_state_dict(dict(scaler))
    normalise = Normalisation(views).to(accelerator.device)
    return Trainer(accelerator, network, optimizer, normalise, section, seed)


def _save(
    trainer: Trainer,
    progress: Progress,
    *,
    folder: Path,
    epochs: Epochs,
    identity: Mapping[str, Any],
    recipe: Recipe,
) -> None:
    accelerator = trainer.accelerator
    if not accelerator.is_main_process:
        return
    names = ["last.pth"]
    if progress.best_epoch is not None and progress.best_epoch * epochs.steps == progress.step:
        names.insert(0, "best.pth")
    for name in names:
        save_run(
            folder / name,
            accelerator.unwrap_model(trainer.network, keep_torch_compile=False),
            trainer.optimizer,
            progress,
            identity=identity,
            epoch=progress.step // epochs.steps,
            config=config_text(recipe),
            scaler=accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
        )


def _workers(options: RunOptions, accelerator: Accelerator) -> int:
    if options.workers is not None:
        return options.workers
    return max(1, usable_cores() // int(accelerator.num_processes))


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def main(argv: Sequence[str] | None = None) -> int | None:
    """Train, on several cards with a process for each, and print the row of the guides' tables."""
    words = sys.argv[1:] if argv is None else list(argv)
    options = read_options(TrainOptions, words, prog="python -m train")
    if len(options.cards) > 1 and not is_worker():
        return run_on_cards(words, options.cards)
    if not is_first():
        configure_logging(logging.WARNING)
    outcome = train(options)
    if is_first():
        print(outcome.row)
    return None
