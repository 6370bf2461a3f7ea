import pytest
import torch
import yaml
from helpers import ROOT, TINY
from torch import nn

from fashion.backbone import PEERS, Backbone, InvertedResidualBlock, build_backbone
from fashion.errors import FashionError
from fashion.network import EMBEDDING, SiameseEncoder, parameters_and_macs

OURS = ("tiny", "small", "base", "large")


def model(name: str) -> dict:
    return yaml.safe_load((ROOT / "conf" / "model" / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", OURS)
def test_our_backbones_turn_64_into_4_by_4_of_64_channels(name):
    assert build_backbone(model(name)).eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 64, 4, 4)


@pytest.mark.parametrize(("size", "side"), [(32, 2), (96, 6), (128, 8)])
def test_other_picture_sizes_work(size, side):
    assert Backbone(TINY["stem"], TINY["blocks"]).eval()(torch.zeros(1, 3, size, size)).shape == (1, 64, side, side)


@pytest.mark.parametrize("name", [*OURS, *PEERS])
def test_the_middle_map_is_an_eighth_of_the_picture(name):
    backbone = build_backbone(model(name)).eval()
    middle, last = backbone.maps(torch.zeros(1, 3, 64, 64))
    assert middle.shape[2:] == (8, 8)
    assert backbone.channels() == (middle.shape[1], last.shape[1])
    assert last.shape[2] < 8


def test_base_keeps_its_budget():
    parameters, macs = parameters_and_macs(SiameseEncoder(model("base"), 10), 64)
    assert parameters <= 429_000
    assert macs <= 15_000_000


def test_sizes_grow():
    parameters = [parameters_and_macs(SiameseEncoder(model(name), 10), 64)[0] for name in OURS]
    assert parameters == sorted(parameters)


@pytest.mark.parametrize("name", PEERS)
def test_torchvision_peers_serve_in_the_backbones_place(name):
    embeddings, logits = SiameseEncoder(model(name), 10).eval()(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert embeddings.shape == (2, EMBEDDING)
    assert logits.shape == (2, 10)


def test_peers_compute_what_torchvision_does():
    from torchvision.models import resnet18

    theirs = resnet18(weights=None).eval()
    ours = build_backbone({"name": "resnet18"}).eval()
    ours.load_state_dict({f"layers.{at}.{k}": v for at, (_, layer) in enumerate(theirs.named_children())
                          for k, v in layer.state_dict().items() if at < 8})  # fmt: skip
    x = torch.randn(1, 3, 64, 64)
    theirs.fc = nn.Identity()
    torch.testing.assert_close(ours(x).mean(dim=(2, 3)), theirs(x))


def test_residual_only_where_shapes_allow():
    assert InvertedResidualBlock(8, 8).residual
    assert not InvertedResidualBlock(8, 8, stride=2).residual
    assert not InvertedResidualBlock(8, 16).residual


def test_a_block_whose_projection_is_zero_is_the_identity():
    block = InvertedResidualBlock(8, 8).eval()
    nn.init.zeros_(block.layers[2][0].weight)
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize(
    ("blocks", "words"),
    [([[2, 8, 1]], "four whole numbers"), ([[2, 8, 1, 2]], "multiply to 2"), ([[2, 8, 0, 8]], "above 0")],
)
def test_a_malformed_table_is_refused(blocks, words):
    with pytest.raises(FashionError, match=words):
        Backbone(8, blocks)


def test_an_unknown_setting_is_refused():
    with pytest.raises(FashionError, match="model.widht is 2: Unexpected keyword argument"):
        build_backbone({"name": "base", "stem": 8, "blocks": TINY["blocks"], "widht": 2})


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(
        FashionError, match="model.name is 'resnet50'; choose from resnet18, mobilenet_v2, .* or give stem"
    ):
        build_backbone({"name": "resnet50"})


def test_embeddings_have_length_one_and_bytes_equal_floats():
    network = SiameseEncoder(TINY, 3).eval()
    pictures = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    embeddings, logits = network(pictures)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(network(pictures.float())[1], logits)
