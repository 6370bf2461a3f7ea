import math

import pytest
import torch
from torch.nn import functional as F

from fashion.data.transforms import Augmentation, affine_maps, blurred, erased, recoloured

OFF = {"crop_scale": 1, "crop_largest": 1, "flip": 0, "rotate": 0, "colour": 0, "grey": 0, "sharpness": 0, "erasing": 0}


@pytest.fixture
def pictures():
    return torch.randint(0, 256, (20, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_it_keeps_the_type_changes_pictures_and_follows_the_seed(pictures):
    augment = Augmentation(32)
    torch.manual_seed(0)
    first = augment(pictures)
    torch.manual_seed(0)
    assert first.shape == (20, 3, 32, 32)
    assert first.dtype == torch.uint8
    assert torch.equal(augment(pictures), first)
    assert not torch.equal(augment(pictures), first)


def test_its_numbers_are_drawn_where_the_pictures_are(pictures):
    # Tensors of the device "meta" have no content, and refuse, as a GPU's do, to meet those of the CPU.
    assert Augmentation(32)(pictures.to("meta")).device.type == "meta"
    with pytest.raises(RuntimeError, match="on device cpu"):
        pictures.to("meta") + torch.ones(40)


def test_with_all_off_pictures_stay(pictures):
    assert torch.equal(Augmentation(40, **OFF)(pictures), pictures)


@pytest.mark.parametrize("only", [{"crop_scale": 0.3}, {"rotate": 30}, {"colour": 0.5}, {"sharpness": 0.9}])
def test_every_picture_has_a_draw_of_its_own(pictures, only):
    same = pictures[:1].expand(16, -1, -1, -1)
    result = Augmentation(40, **OFF | only)(same)
    assert len({bytes(picture.numpy().tobytes()) for picture in result}) == 16


def test_mirroring_is_exact(pictures):
    assert torch.equal(Augmentation(40, **OFF | {"flip": 1})(pictures), pictures.flip(3))


def test_crops_lie_inside_the_picture_and_keep_their_share():
    maps = affine_maps(500, 0.4, 1, 1.25, 0.5, 0)
    corners = torch.tensor([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)])
    assert (maps @ corners.T).abs().max() <= 1 + 1e-6
    width, height = maps[:, 0, 0].abs(), maps[:, 1, 1].abs()
    assert 0.4 - 1e-5 <= (width * height).min() <= 0.45
    near = affine_maps(500, 0.9, 1, 1.25, 0, 0)
    assert near[:, 0, 0].max() <= 1
    assert near[:, 1, 1].max() <= 1
    assert (width / height).max() <= 1.25 + 1e-5
    assert 0.3 < (maps[:, 0, 0] < 0).float().mean() < 0.7


def test_larger_crops_show_the_whole_picture_and_its_mirror_image_round_it():
    maps = affine_maps(500, 1.2, 1.5, 1.0, 0, 0)
    width, height = maps[:, 0, 0], maps[:, 1, 1]
    assert 1.2 - 1e-5 <= (width * height).min() < (width * height).max() <= 1.5 + 1e-5
    assert ((maps[:, 0, 2].abs() <= width - 1) & (maps[:, 1, 2].abs() <= height - 1)).all()  # nothing is cut off


def test_a_shrunk_picture_has_its_mirror_image_at_its_edges():
    ramp = (4 * torch.arange(40, dtype=torch.uint8)).expand(60, 3, 40, 40)
    torch.manual_seed(0)
    result = Augmentation(40, **OFF | {"crop_largest": 2, "crop_ratio": 1})(ramp)
    rows = result[:, 0, 20].int()
    falls = (rows[:, 1:] < rows[:, :-1]).any(dim=1)
    assert falls.float().mean() > 0.8  # the ramp turns round at an edge
    assert (rows.amin(dim=1) <= 6).all()  # and all of it is there
    assert (rows.amax(dim=1) >= 150).all()


def test_turning_is_a_turn():
    maps = affine_maps(200, 1, 1, 1, 0, 90)
    turn = maps[:, :, :2]
    assert torch.allclose(turn @ turn.transpose(1, 2), torch.eye(2).expand(200, 2, 2), atol=1e-5)
    assert torch.allclose(torch.linalg.det(turn), torch.ones(200), atol=1e-5)


def test_colours_of_grey_pictures_change_in_white_balance_only():
    grey = torch.full((50, 3, 4, 4), 100.0)
    result = recoloured(grey, 0.4, 0)
    assert torch.allclose(result, result[:, :, :1, :1].expand_as(result), atol=1e-3)  # still one colour
    spread = result.amax(dim=1) / result.amin(dim=1)
    assert spread.max() <= (1 + 0.1 * 1.4) / (1 - 0.1 * 1.4) + 1e-4  # a balance of ±10%, at most 1.4 times the contrast


def test_without_colour_a_picture_is_grey(pictures):
    result = recoloured(pictures.float(), 0, 1)
    luma = (pictures.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)
    assert torch.allclose(result, luma.expand_as(result), atol=1e-2)


def test_blurring_is_the_mean_of_neighbours(pictures):
    x = pictures.float()
    slow = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    assert torch.allclose(blurred(x), slow, atol=1e-3)


def test_erased_rectangles_have_their_share_of_the_area():
    x = torch.zeros(400, 3, 64, 64)
    result = erased(x, 0.5)
    holes = (result == 127).all(dim=1)
    touched = holes.flatten(1).any(dim=1)
    assert 0.4 < touched.float().mean() < 0.6
    areas = holes[touched].float().mean(dim=(1, 2))
    assert 0.005 < areas.min() < areas.max() < 0.36
    for hole in holes[touched][:20]:  # a rectangle: what its rows and columns span is full
        rows, columns = hole.any(dim=1), hole.any(dim=0)
        assert hole.sum() == rows.sum() * columns.sum()
    assert math.isclose(erased(x, 0).sum().item(), 0)
