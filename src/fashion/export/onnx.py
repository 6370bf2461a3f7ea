"""The network as an ONNX graph: preprocessing after decoding, backbone and heads, in one file."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx.utils
import torch
from onnx import helper, numpy_helper

from fashion.network import MEAN, STD, SiameseEncoder

OPSET = 18

HEADS = {"embedding": "embedder.onnx", "logits": "classifier.onnx"}
"""Which file gives one of the network's two answers alone."""


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
    scale_at_once(model)
    unit_at_once(model)
    drop_unused(model)
    forget_origin(model)
    onnx.save(model, path)


def export_heads(joint: Path) -> list[Path]:
    """Write, beside the joint network, one that only embeds and one that only names; returns their paths."""
    paths = []
    for output, name in HEADS.items():
        paths.append(joint.with_name(name))
        onnx.utils.extract_model(joint, paths[-1], ["pictures"], [output])
    return paths


def scale_at_once(model: onnx.ModelProto) -> None:
    """Replace the pictures' Cast, Sub and Div by one DequantizeLinear, (x − 128) / 64: 4% of a picture's time."""
    graph = model.graph
    steps = list(graph.node)[:3]
    assert [node.op_type for node in steps] == ["Cast", "Sub", "Div"]
    for node in steps:
        graph.node.remove(node)
    constants = {"picture_scale": np.float32(1 / STD), "picture_zero": np.uint8(MEAN)}
    graph.initializer.extend(numpy_helper.from_array(np.array(value), name) for name, value in constants.items())
    graph.node.insert(0, helper.make_node("DequantizeLinear", ["pictures", *constants], steps[2].output, "scale"))


def unit_at_once(model: onnx.ModelProto) -> None:
    """Replace ReduceL2, Clip and Div, which make vectors of length 1, by one LpNormalization each."""
    nodes = model.graph.node
    maker = {name: node for node in nodes for name in node.output}
    for divide in [node for node in nodes if node.op_type == "Div" and node.input[1] in maker]:
        clip = maker[divide.input[1]]
        norm = maker.get(clip.input[0])
        if norm is None or (norm.op_type, clip.op_type) != ("ReduceL2", "Clip"):
            continue
        unit = helper.make_node("LpNormalization", divide.input[:1], divide.output, divide.name, axis=1, p=2)
        nodes.insert(list(nodes).index(divide), unit)
        for node in (norm, clip, divide):
            nodes.remove(node)


def drop_unused(model: onnx.ModelProto) -> None:
    """Drop constants that no operation reads any more."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    for constant in [one for one in graph.initializer if one.name not in used]:
        graph.initializer.remove(constant)


def forget_origin(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes of where each node came from: 0.1 MB of source lines and this machine's paths."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
