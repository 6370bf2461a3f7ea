"""Where a training starts from: another's weights, a run that is to go on, or an empty folder."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning import Trainer
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher  # it has no public name
from pytorch_lightning.utilities import rank_zero_only
from torch import nn

from fashion.callbacks import epochs_begun
from fashion.checkpoints import load_network, offline
from fashion.data.folders import class_name
from fashion.errors import FashionError
from fashion.tasks.recipe import check_same, of_module

log = logging.getLogger(__name__)

USUAL_EMA = 0.995
"""task.ema of the runs whose checkpoints do not note it."""


def resume_from(resume: str | None, epochs: int | None, folder: Path, module: Any, ema: float | None) -> str | None:
    """The checkpoint to go on from: of a run folder, or of the newest run of this task (`latest`).

    Raises:
        FashionError: if there is none, or it has as many epochs already, or is of another task, model or data, or was
            trained with other settings.
    """
    if resume is None:
        return None
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise FashionError("resume goes on with one run; leave it out of a multirun (-m).")
    run = Path(resume).expanduser()
    if resume == "latest":
        run = _latest(folder)
    checkpoint = run if run.suffix == ".ckpt" else run / "checkpoints" / "last.ckpt"
    _, trained = load_network(checkpoint)  # refuses what is no checkpoint of ours, in one sentence
    mine = offline(module.hparams)
    if ("classification" in trained) != ("classification" in mine):
        raise FashionError(f"{checkpoint} is a run of another task; resume goes on with the same one only.")
    trained["class_names"], mine["class_names"] = (
        [class_name(name) for name in hparams["class_names"]] for hparams in (trained, mine)
    )
    for name, what in {"backbone": "model", "class_names": "data.classes", "image_size": "data.image_size"}.items():
        if trained[name] != mine[name]:
            raise FashionError(f"{checkpoint} is a run of another {what}; resume goes on with the same one only.")
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    averaging = saved.get("callbacks", {}).get("Averaging")
    before, asked = of_module(trained, mine)
    before |= {"task.ema": averaging and averaging.get("decay", ema or USUAL_EMA)} | (saved.get("settings") or {})
    check_same(checkpoint, before, {**asked, "task.ema": ema or None, **module.settings})
    done = epochs_begun(saved)
    if epochs not in (None, -1) and done >= epochs:  # -1: Lightning's word for no limit
        raise FashionError(
            f"{checkpoint} has {done} epochs done already; raise task.epochs, or trainer.max_epochs ({epochs})."
        )
    log.info("Going on from %s", checkpoint)
    return str(checkpoint)


def how_to_go_on(folder: Path, sweep_name: str) -> str:
    """What an interrupted run says; empty if not one epoch was completed."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return f"the same command with sweep_name={sweep_name} goes on, and skips the jobs that had finished"
    return f"it goes on with resume={folder}" if (folder / "checkpoints/last.ckpt").exists() else ""


def done_by(checkpoint: Path) -> dict[str, float]:
    """The epochs, steps and seconds of training behind a checkpoint, as spawned processes report them nowhere else.

    The seconds are 0 where the trainer was not ours.
    """
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    timer = saved.get("callbacks", {}).get("Timer")
    seconds = timer["time_elapsed"]["train"] if timer else 0.0
    return {"epochs": epochs_begun(saved), "steps": saved["global_step"], "seconds": round(seconds, 1)}


def _latest(folder: Path) -> Path:
    """The run in `folder`, where hydra.run.dir is fixed; else the newest of the task's runs beside it."""
    runs = [run for run in folder.parent.iterdir() if (run / "checkpoints/last.ckpt").exists()]
    if folder in runs:
        return folder
    if not runs or folder.parent.name != HydraConfig.get().runtime.choices["task"]:
        raise FashionError(
            f"resume=latest finds no run in {folder} or of this task beside it; name one, or leave it out."
        )
    return max(runs, key=lambda run: (run / "checkpoints/last.ckpt").stat().st_mtime)


@rank_zero_only
def set_aside(folder: Path) -> None:
    """Clear the folder of an earlier run: its checkpoints move to `checkpoints/before`, its figures are deleted."""
    for pattern in ("events.out.tfevents.*", "metrics.json", "report.html"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    for path in folder.glob("checkpoints/*.ckpt"):
        (path.parent / "before").mkdir(exist_ok=True)
        path.replace(path.parent / "before" / path.name)


def warm_start(network: nn.Module, checkpoint: Path, class_names: Sequence[str]) -> None:
    """Copy into `network` what the checkpoint's network shares with it: at least the whole backbone.

    Directions of classes are copied by the classes' names, whatever their order.

    Raises:
        FashionError: if the backbones differ.
    """
    trained, hparams = load_network(checkpoint)
    own, theirs = network.state_dict(), trained.state_dict()
    directions = own["directions"].clone()
    known = [class_name(name) for name in hparams["class_names"]]
    for row, name in enumerate(class_names):
        if name in known:
            directions[row] = theirs["directions"][known.index(name)]
    theirs["directions"] = directions
    shared = {k: v for k, v in theirs.items() if k in own and own[k].shape == v.shape}
    if {k for k in own if k.startswith("backbone.")} - shared.keys():
        raise FashionError(
            f"{checkpoint} holds the backbone {hparams['backbone'].get('name')!r}, another than this run's; "
            "choose the same model=…."
        )
    network.load_state_dict(shared, strict=False)
    log.info("Starting from %s (%d of %d tensors)", checkpoint, len(shared), len(own))


def guard_multirun(trainer: Trainer) -> None:
    """Refuse, inside a multirun, what starts this command again in other processes: each would run the whole sweep.

    Raises:
        FashionError: if the trainer does so.
    """
    multirun = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    if multirun and isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
        raise FashionError(
            "Training on several devices (trainer=ddp) cannot run inside a multirun: its processes would each start "
            "the whole sweep again; add trainer.strategy=ddp_spawn, or launch jobs through Slurm."
        )
