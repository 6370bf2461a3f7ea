"""The moving average of weights, against one that is kept in plain Python; which weights are stepped how."""

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fashion.callbacks import Averaging
from fashion.muon import Muon
from fashion.optim import OneCycle, optimizer

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Small(LightningModule):
    def __init__(self, norm: bool):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4) if norm else nn.Identity(), nn.Linear(4, 2))
        self.net[2].bias.requires_grad_(False)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.training_step(batch, batch_idx)

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)


class ByHand(Callback):
    """Comes after the other, and averages what the network is after each step."""

    def __init__(self, decay):
        self.decay, self.count, self.state, self.steps = decay, 0, {}, 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.steps:
            return
        self.steps = trainer.global_step
        now = {name: value.clone() for name, value in pl_module.state_dict().items()}
        keep = min(self.decay, (1 + self.count) / (10 + self.count)) if self.count else 0.0
        for name, value in now.items():
            averaged = value.is_floating_point()
            self.state[name] = keep * self.state.get(name, value) + (1 - keep) * value if averaged else value
        self.count += 1


def trained(epochs, folder, norm=True, resume=None, **options):
    seed_everything(0, verbose=False)
    module, by_hand = Small(norm), ByHand(0.7)
    draw = torch.Generator().manual_seed(1)
    pictures, labels = torch.randn(40, 3, generator=draw), torch.randint(0, 2, (40,), generator=draw)
    loader = DataLoader(TensorDataset(pictures, labels), batch_size=6)
    saving = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True)
    trainer = Trainer(max_epochs=epochs, callbacks=[Averaging(0.7), by_hand, saving], **QUIET, **options)
    trainer.fit(module, loader, loader, ckpt_path=resume, weights_only=True)
    return module.state_dict(), by_hand.state


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 3}, {"val_check_interval": 2}])
def test_the_network_ends_as_the_moving_average_of_what_it_was(tmp_path, norm, options):
    ended, by_hand = trained(3, tmp_path, norm, **options)
    for name, value in ended.items():
        torch.testing.assert_close(value, by_hand[name], msg=name)


def test_an_average_that_goes_on_is_the_one_that_was_never_stopped(tmp_path):
    trained(2, tmp_path / "begun")
    resumed, _ = trained(4, tmp_path / "gone on", resume=tmp_path / "begun/last.ckpt")
    whole, _ = trained(4, tmp_path / "whole")
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, msg=name)


class Parts(nn.Module):
    """A weight of each kind, and one that does not learn."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.depthwise = nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=8, bias=False)
        self.norm, self.linear = nn.BatchNorm2d(8), nn.Linear(8, 2)
        self.scale, self.frozen = nn.Parameter(torch.tensor(1.0)), nn.Linear(2, 2).requires_grad_(False)


@pytest.mark.parametrize("muon", [None, 3.0])
def test_what_is_decayed_and_what_is_orthogonal(muon):
    module = Parts()
    found = optimizer(module, 0.01, 0.05, muon)
    names = {id(p): name for name, p in module.named_parameters()}
    groups = {group["name"]: group for group in found.param_groups}
    assert {name: [names[id(p)] for p in group["params"]] for name, group in groups.items()} == {
        "mixing": ["conv.weight"],
        "others": ["depthwise.weight", "linear.weight"],
        "vectors": ["scale", "conv.bias", "norm.weight", "norm.bias", "linear.bias"],
    }
    assert {name: group["weight_decay"] for name, group in groups.items()} == {
        "mixing": 0.05, "others": 0.05, "vectors": 0.0,
    }  # fmt: skip
    assert isinstance(found, torch.optim.AdamW if muon is None else Muon)
    if muon:
        assert [groups[name]["orthogonal"] for name in ("mixing", "others", "vectors")] == [True, False, False]
        assert groups["mixing"]["scale"] == muon


def test_a_longer_run_follows_the_longer_cycle():
    def cycle(steps):
        return OneCycle(torch.optim.AdamW([nn.Parameter(torch.ones(1))], lr=0.01), 0.01, total_steps=steps)

    short, longer = cycle(10), cycle(40)
    for _ in range(4):
        short.optimizer.step()
        short.step()
    longer.load_state_dict(short.state_dict())
    assert longer.total_steps == 40


@pytest.mark.parametrize(("epochs", "options"), [(1, {"max_steps": 1}), (5, {})])
def test_an_average_of_one_step_is_that_step_and_of_many_decays_as_asked(tmp_path, epochs, options):
    ended, by_hand = trained(epochs, tmp_path, **options)
    for name, value in ended.items():
        torch.testing.assert_close(value, by_hand[name], msg=name)
