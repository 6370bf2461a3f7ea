"""What turns pictures into unit vectors and class probabilities: torch or ONNX Runtime behind one call."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fashion.data.folders import class_name
from fashion.errors import FashionError
from fashion.files import sha256
from fashion.model_files import figures_of, find_model, no_match_of, read_bundle_manifest

if TYPE_CHECKING:
    import torch

    from fashion.network import SiameseEncoder

log = logging.getLogger(__name__)

BATCH = 64
"""Pictures of one forward pass of torch."""

ONNX_BATCH = 16
"""Pictures of one forward pass of ONNX Runtime: their activations stay in a core's own cache (8% faster than 64)."""

UNFITTED = (
    "%s: its training did not end, so that its looks are random and searches are worse; end it with resume=…, or, with "
    "a Trainer of your own, save a checkpoint after the fit, or call the module's fit_looks(training batches)."
)

Embedded = tuple[NDArray[np.float32], NDArray[np.float32]]


class Encoder(Protocol):
    """Pictures [N,3,S,S] uint8 → embeddings [N,64] of length 1, class probabilities [N,classes].

    class_names: with accented letters as one sign (NFC), as labels have them, whatever an older model has.
    centre: the share of a picture's sides that it is to be shown, see `load_picture`.
    no_match: the cosine below which the nearest item is no answer, as calibrated on validation pictures; None: not
    calibrated.
    """

    class_names: tuple[str, ...]
    image_size: int
    centre: float
    fingerprint: str
    source: Path
    no_match: float | None

    def __call__(self, pictures: NDArray[np.uint8]) -> Embedded: ...


class TorchEncoder:
    """The network of a checkpoint, run by torch on a device: `cpu`, `cuda:0`, …"""

    def __init__(self, checkpoint: Path, device: "str | torch.device" = "cpu"):
        import torch

        from fashion.checkpoints import load_network
        from fashion.network import fingerprint

        network, hparams = load_network(checkpoint)
        self.source, self.hparams = checkpoint, hparams
        self.class_names = tuple(map(class_name, hparams["class_names"]))
        self.image_size, self.centre = int(hparams["image_size"]), float(hparams.get("centre", 1.0))
        self.fingerprint = fingerprint(
            network_arrays(network), self.image_size, hparams["class_names"], self.centre, network.look
        )
        self.no_match = no_match_of(figures_of(checkpoint))
        self.names_classes = hparams.get("classification") != 0
        self.looks_fitted = bool(hparams.get("looks_fitted", True))
        self.device = torch.device(device)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)

    def __call__(self, pictures: NDArray[np.uint8]) -> Embedded:
        return _with_probabilities(self.raw(pictures))

    def raw(self, pictures: NDArray[np.uint8]) -> Embedded:
        """Embeddings, and logits in place of probabilities."""
        import torch

        from fashion.network import precisely

        parts = []
        with torch.inference_mode(), precisely(self.device):
            for at in range(0, len(pictures), BATCH):
                batch = torch.from_numpy(np.array(pictures[at : at + BATCH])).to(self.device)
                embeddings, logits = self.network(batch)
                parts.append((embeddings.cpu().numpy(), logits.cpu().numpy()))
        return _joined(parts, len(self.class_names))


class OnnxEncoder:
    """The network of a bundle, run by ONNX Runtime; nothing here needs torch.

    Args:
        folder: the bundle.
        file: the network; `encoder.int8.onnx` where the bundle has one.  Its embeddings are near enough to the others'
            to search a catalogue of theirs, and their no-match threshold is used for both.

    Raises:
        FashionError: if the bundle is incomplete, or its network is not the one that its manifest describes.
    """

    def __init__(self, folder: Path, file: str = "encoder.onnx"):
        import onnxruntime as ort

        manifest = read_bundle_manifest(folder)
        path = folder / file
        if not path.is_file():
            raise FashionError(f"{folder} has no {file}; its manifest says why, or leave it at encoder.onnx.")
        if sha256(path) != manifest["files"].get(file):
            raise FashionError(f"{path} was changed or damaged after its export; export the bundle again.")
        self.source = folder if file == "encoder.onnx" else path
        self.class_names = tuple(map(class_name, manifest["class_names"]))
        self.image_size, self.centre = int(manifest["image_size"]), float(manifest.get("centre", 1.0))
        self.fingerprint = str(manifest["fingerprint"])
        self.no_match = no_match_of(manifest)
        self.names_classes = manifest.get("training", {}).get("classification") != 0
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # best for single pictures
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        outputs = [output.name for output in self.session.get_outputs()]
        if outputs != ["embedding", "logits"]:
            raise FashionError(f"{path} gives {' and '.join(outputs)} only; search with encoder.onnx beside it.")

    def __call__(self, pictures: NDArray[np.uint8]) -> Embedded:
        return _with_probabilities(self.raw(pictures))

    def raw(self, pictures: NDArray[np.uint8]) -> Embedded:
        """Embeddings, and logits in place of probabilities."""
        parts = []
        for at in range(0, len(pictures), ONNX_BATCH):
            batch = np.ascontiguousarray(pictures[at : at + ONNX_BATCH])
            parts.append(tuple(self.session.run(["embedding", "logits"], {"pictures": batch})))
        return _joined(parts, len(self.class_names))


def _with_probabilities(raw: Embedded) -> Embedded:
    return raw[0], softmax(raw[1])


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits [N,classes] → probabilities."""
    powers: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis=1, keepdims=True)


def _joined(parts: list[Embedded], classes: int) -> Embedded:
    if not parts:
        return np.zeros((0, 64), np.float32), np.zeros((0, classes), np.float32)
    embeddings, logits = zip(*parts, strict=True)
    return np.concatenate(embeddings), np.concatenate(logits)


def network_arrays(network: "SiameseEncoder") -> dict[str, NDArray[Any]]:
    """Name → contiguous array of all that the network computes with; batch norm's step counters are left out."""
    return {
        name: value.detach().cpu().contiguous().numpy()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def load_encoder(path: Path, device: "str | torch.device" = "cpu") -> Encoder:
    """The encoder that `find_model` finds there.

    Args:
        device: where a checkpoint's network runs; a bundle's always runs on the CPU.
    """
    model = find_model(path)
    if model.is_dir():
        encoder: TorchEncoder | OnnxEncoder = OnnxEncoder(model)
    else:
        encoder = OnnxEncoder(model.parent, file=model.name) if model.suffix == ".onnx" else TorchEncoder(model, device)
    if not encoder.names_classes:
        log.warning("%s was trained with task.module.classification=0: it searches, and its names mean nothing.", path)
    if isinstance(encoder, TorchEncoder) and not encoder.looks_fitted:
        log.warning(UNFITTED, path)
    return encoder
