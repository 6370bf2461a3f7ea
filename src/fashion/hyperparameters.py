"""Which settings a training can have; both tasks' modules check theirs."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fashion.errors import FashionError


class Settings(BaseModel):
    """What settings of the training tasks may be."""

    model_config = ConfigDict(strict=True)

    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    muon: float | None = Field(None, gt=0)
    margin: float = Field(0.0, ge=0, le=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0, le=1)
    cutmix: float = Field(0.0, ge=0, le=1)
    look: float = Field(ge=0, le=1)
    teaching: float = Field(0.0, ge=0, le=1)
    classification: float = Field(0.0, ge=0)


def check_settings(hparams: Mapping[str, Any]) -> None:
    """Refuse training settings that no training can have; other hyper-parameters are not looked at.

    Raises:
        FashionError: naming the first.
    """
    try:
        Settings(**hparams)
    except ValidationError as error:
        first = error.errors()[0]
        raise FashionError(f"task.module.{first['loc'][0]} is {first['input']!r}: {first['msg']}.") from None
