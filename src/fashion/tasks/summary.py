"""task=summary: the layers of a model, its parameters and multiply-accumulates."""

import torch
from omegaconf import DictConfig
from pydantic import Field
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from fashion.config import as_dict
from fashion.network import EMBEDDING, SiameseEncoder, parameters_and_macs
from fashion.report.tables import show
from fashion.tasks.options import Options, note_renamed, read_options


class SummaryOptions(Options):
    classes: int = Field(ge=2)
    image_size: int = Field(ge=32, multiple_of=16)


def run(cfg: DictConfig) -> int:
    """Print the table; returns the number of parameters."""
    options = read_options(cfg, SummaryOptions)
    note_renamed(cfg.model)
    network = SiameseEncoder(as_dict(cfg.model), options.classes)
    table = Table(title=f"{cfg.model.name} at {options.image_size}×{options.image_size}")
    for column in ("layer", "kind", "output", "parameters", "multiply-accumulates"):
        table.add_column(column, justify="left" if column in ("layer", "kind") else "right")
    for row in layer_rows(network, options.image_size):
        table.add_row(*row)
    parameters, macs = parameters_and_macs(network, options.image_size)
    table.add_section()
    table.add_row("in all", "", "", f"{parameters:,}", f"{macs:,}")
    show(table)
    return parameters


def layer_rows(network: SiameseEncoder, image_size: int) -> list[list[str]]:
    """[name, kind, output shape, parameters, multiply-accumulates] of each backbone layer, and of the heads."""
    rows = []
    x = torch.zeros(1, 3, image_size, image_size)
    network.eval()
    for name, layer in network.backbone.layers.named_children():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            x = layer(x)
        size = sum(parameter.numel() for parameter in layer.parameters())
        shape = "×".join(str(side) for side in x.shape[1:])
        rows.append([name, type(layer).__name__, shape, f"{size:,}", f"{counter.get_total_flops() // 2:,}"])
    heads = sum(p.numel() for key, p in network.named_parameters() if not key.startswith("backbone."))
    shape = f"{EMBEDDING}, {len(network.directions)}"
    macs = sum(weight.numel() for weight in (network.kind.weight, network.axes.weight, network.directions))
    return [*rows, ["heads", "embedding, class logits", shape, f"{heads:,}", f"{macs:,}"]]
