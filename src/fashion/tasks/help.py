"""task=help: what there is to run; the task of a command line that names none."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    """Print the examples that `--help` begins with."""
    print(HydraConfig.get().help.header)
