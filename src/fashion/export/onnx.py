"""The network as an ONNX graph: preprocessing after decoding, backbone and heads, in one file."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import onnx
import torch

from fashion.network import SiameseEncoder

OPSET = 18


def export_onnx(network: SiameseEncoder, image_size: int, path: Path) -> None:
    """Write `network` as ONNX: `pictures` [N,3,S,S] uint8 → `embedding` [N,64] of length 1, `logits` [N,classes]."""
    # Two pictures, since the exporter would take a batch of one for a constant.
    example = torch.zeros(2, 3, image_size, image_size, dtype=torch.uint8)
    for name in ("torch.onnx", "onnx_ir", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # its progress is no news to anyone
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval().to("cpu", memory_format=torch.contiguous_format),  # type: ignore[call-overload]
            (example,),
            path,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=["pictures"],
            output_names=["embedding", "logits"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        )
    model = onnx.load(path)
    forget_origin(model)
    onnx.save(model, path)


def forget_origin(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes of where each node came from: 0.1 MB of source lines and this machine's paths."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
