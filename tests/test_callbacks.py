"""What a training is watched for, and what tells its processes and its continuations apart."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from fashion.callbacks import Averaging, Diverged, OneFolder, SamePace, SeedPerProcess
from fashion.errors import FashionError

MODULE: Any = nn.Linear(3, 2)


def fake(**attributes: Any) -> Any:
    return SimpleNamespace(**attributes)


def checkpoint(epochs: int, steps: int) -> dict[str, Any]:
    return {"loops": {"fit_loop": {"epoch_progress": {"current": {"ready": epochs}}}}, "global_step": steps}


@pytest.mark.parametrize("moment", ["on_validation_start", "on_train_epoch_end"])  # not every epoch is validated
def test_weights_that_are_no_numbers_end_a_training(moment):
    watch = getattr(Diverged(), moment)
    watch(fake(current_epoch=2), MODULE)
    for value in (float("nan"), float("inf"), 1e30):
        broken: Any = nn.Linear(3, 2)
        nn.init.constant_(broken.bias, value)
        with pytest.raises(FashionError, match="diverged in epoch 3"):
            watch(fake(current_epoch=2), broken)


@pytest.mark.parametrize(("batches", "accumulated", "fits"), [(3, 1, True), (5, 2, True), (2, 1, False), (7, 1, False)])
def test_a_run_of_two_epochs_and_six_steps_goes_on_at_its_pace_only(batches, accumulated, fits):
    pace, trainer = SamePace(), fake(num_training_batches=batches, accumulate_grad_batches=accumulated)
    pace.on_load_checkpoint(trainer, MODULE, checkpoint(2, 6))
    if fits:
        pace.on_train_start(trainer, MODULE)
    else:
        with pytest.raises(FashionError, match=f"took 3 steps an epoch, and this one would take {batches}"):
            pace.on_train_start(trainer, MODULE)


def test_each_seed_process_and_continuation_draws_by_itself():
    seeds = []
    for seed in (1, 2):
        for epochs in (0, 1, 2):
            for rank in (0, 1, 2):
                torch.manual_seed(seed)
                callback, trainer = SeedPerProcess(seed), fake(global_rank=rank, datamodule=fake())
                if epochs:
                    callback.on_load_checkpoint(trainer, MODULE, checkpoint(epochs, 6))
                    assert trainer.datamodule.epochs_done == epochs
                callback.on_fit_start(trainer, MODULE)
                seeds.append(torch.initial_seed())
    assert len({*seeds}) == 18
    assert {1, 2} <= {*seeds}  # a first process that starts anew keeps its seed


def test_a_folder_of_another_process_goes_only_if_nothing_was_written_into_it(tmp_path):
    def ended(name: str, first: Path) -> bool:
        folder = tmp_path / name
        (folder / ".hydra").mkdir(parents=True)
        (folder / "run.log").touch()
        if name == "full":
            (folder / "metrics.json").touch()
        callback = OneFolder(folder)
        callback.setup(fake(strategy=fake(broadcast=lambda _: str(first))), MODULE, "fit")
        callback.teardown(fake(), MODULE, "fit")
        return folder.exists()

    assert ended("first", tmp_path / "first")
    assert not ended("second", tmp_path / "first")
    assert ended("full", tmp_path / "first")


def test_an_average_notes_its_decay():
    assert Averaging(0.9).state_dict()["decay"] == 0.9
