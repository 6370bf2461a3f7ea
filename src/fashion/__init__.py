"""Fashion visual search: name a garment, and find the ones that look like it.

The public names are loaded when first used, so that searching with an exported (ONNX) encoder never imports torch.
"""

import logging
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fashion.backbone import Backbone
    from fashion.classifier import ClassifierModule
    from fashion.search.engine import VisualSearchEngine
    from fashion.search.index import FAISSIndex
    from fashion.triplet import TripletModule

__all__ = ["Backbone", "ClassifierModule", "FAISSIndex", "TripletModule", "VisualSearchEngine"]

_HOMES = {
    "Backbone": "fashion.backbone",
    "ClassifierModule": "fashion.classifier",
    "FAISSIndex": "fashion.search.index",
    "TripletModule": "fashion.triplet",
    "VisualSearchEngine": "fashion.search.engine",
}


# ONNX Runtime from 1.29 on would note an id of this machine below ~/.cache and send what it is used for to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# It logs every instruction set that it tries.
logging.getLogger("faiss.loader").setLevel(logging.WARNING)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fashion' has no attribute {name!r}")
