import contextlib
import io
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from fashion.data import images
from fashion.data.images import BadPictureError, as_picture, load_picture, open_picture
from fashion.data.loading import PIECE, keep_good, load_pictures, made_of_pictures


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width: int = 60, height: int = 40) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=2).astype(np.uint8))


def chunk(kind: bytes, data: bytes) -> bytes:
    """One part of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_formats_give_the_same_picture(kind):
    exact = load_picture(saved(gradient(), "PNG"), 32).astype(int)
    picture = load_picture(saved(gradient(), kind), 32)
    assert picture.shape == (3, 32, 32)
    assert picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - exact).mean() < 3


def test_draft_changes_little():
    noise = np.random.default_rng(0).integers(0, 256, (200, 150, 3), dtype=np.uint8)
    large = Image.fromarray(noise).resize((600, 800), Image.Resampling.BICUBIC)
    data = saved(large, "JPEG", quality=95)
    full = np.asarray(open_picture(data).resize((64, 64), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert open_picture(data, draft=128).size == (150, 200)
    phones = saved(large, "MPO", save_all=True, append_images=[gradient()], quality=95)  # with a second picture behind
    np.testing.assert_array_equal(load_picture(phones, 64), load_picture(data, 64))
    assert np.abs(load_picture(data, 64).astype(int) - full).mean() < 1


@pytest.mark.parametrize("centre", [1.0, 0.5])
def test_a_jpeg_is_decoded_at_twice_the_size_that_is_looked_at(monkeypatch, centre):
    seen = []
    squared = images.squared
    monkeypatch.setattr(images, "squared", lambda image, *how: (seen.append(image.size), squared(image, *how))[1])
    for side in (512, 1000, 2048):
        load_picture(saved(gradient(side, side), "JPEG"), 64, centre=centre)
    assert min(min(size) for size in seen) >= 2 * 64 / centre
    assert max(seen[-1]) < 2048


def test_the_longer_side_decides_where_it_is_asked_for():
    data = saved(gradient(2400, 800), "JPEG")
    assert open_picture(data, longest=600).size == (600, 200)
    assert open_picture(data, longest=601).size == (1200, 400)  # 600 is less
    assert open_picture(saved(gradient(533, 800), "JPEG"), longest=400).size == (267, 400)


@pytest.mark.parametrize("number", range(1, 9))
def test_every_orientation_is_pillows(number):
    exif = Image.Exif()
    exif[0x0112] = number
    data = saved(gradient(), "PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(np.asarray(open_picture(data)), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_laid_on_white(mode):
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image = clear if mode == "RGBA" else clear.convert("LA") if mode == "LA" else clear.quantize(4)
    assert (load_picture(saved(image, "PNG"), 8) == 255).all()


def test_grey_palette_cmyk_and_16_bit_become_rgb():
    grey = gradient().convert("L")
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    expected = np.asarray(grey).astype(int)
    for data in (saved(grey, "PNG"), saved(wide, "PNG"), saved(grey.convert("P"), "PNG"), saved(wide, "TIFF")):
        rgb = np.asarray(open_picture(data)).astype(int)
        assert rgb.shape == (40, 60, 3)
        assert np.abs(rgb - expected[:, :, None]).mean() < 2
    cmyk = np.asarray(open_picture(saved(gradient().convert("CMYK"), "JPEG", quality=95))).astype(int)
    assert np.abs(cmyk - np.asarray(gradient()).astype(int)).mean() < 4


def test_grey_from_0_to_1_is_not_black():
    grey = np.asarray(gradient().convert("L"))
    fractions = (grey / 255).astype(np.float32)
    expected = as_picture(grey, 32).astype(int)
    for given in (fractions, fractions.astype(np.float64), saved(Image.fromarray(fractions), "TIFF")):
        assert np.abs(as_picture(given, 32).astype(int) - expected).max() <= 1
    assert as_picture(np.ones((9, 9), np.int32), 8).max() == 1


def test_a_box_looks_at_a_part():
    image = Image.new("RGB", (40, 40), "black")
    image.paste("white", (10, 20, 30, 40))
    data = saved(image, "PNG")
    assert (load_picture(data, 16, box=(10, 20, 30, 40)) == 255).all()
    with pytest.raises(BadPictureError, match="holds no pixel"):
        load_picture(data, 16, box=(50, 50, 60, 60))


def test_a_box_of_a_large_jpeg_is_in_its_own_pixels():
    image = Image.new("RGB", (1600, 1600), "black")
    image.paste("white", (800, 800, 1600, 1600))
    data = saved(image, "JPEG", quality=95)
    assert (load_picture(data, 16, box=(800, 800, 1600, 1600)) > 250).all()
    assert (load_picture(data, 16, box=(0, 0, 790, 790)) < 5).all()


def test_the_middle_is_what_is_cut_out_and_stretched():
    image = gradient(200, 100)
    middle = image.crop((20, 10, 180, 90)).resize((16, 16), Image.Resampling.BICUBIC, reducing_gap=2.0)
    found = load_picture(saved(image, "PNG"), 16, centre=0.8)
    assert np.abs(found.astype(int) - np.asarray(middle).transpose(2, 0, 1)).max() <= 3  # the rim sees its neighbours
    framed = Image.new("RGB", (300, 300), "red")
    framed.paste(image, (50, 50))
    np.testing.assert_array_equal(load_picture(saved(framed, "PNG"), 16, (50, 50, 250, 150), centre=0.8), found)


@pytest.mark.parametrize("side", [9_000, 30_000])
def test_too_many_pixels_are_refused_before_decoding(side):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    with pytest.raises(BadPictureError, match="more than the 64,000,000 pixels"):
        load_picture(bomb, 64)


def test_as_many_pixels_as_may_be_are_decoded(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 60 * 40)
    assert open_picture(saved(gradient(60, 40), "PNG")).size == (60, 40)
    with pytest.raises(images.BadPictureError, match="more than"):
        open_picture(saved(gradient(61, 40), "PNG"))


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_a_head_whose_entries_share_one_region_takes_little_memory(kind):
    """Each of 200 notes in a TIFF's head, or a PNG's EXIF, points at the same two megabytes."""
    fields = [(256, 8), (257, 8), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 8), (279, 64)]
    shared, count = 2_000_000, 200
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields]
    entries += [struct.pack("<HHII", 40_000 + at, 7, shared, 8) for at in range(count)]
    ends = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    data = b"II*\0" + struct.pack("<I", 8 + shared) + bytes(shared) + ends
    if kind == "PNG":
        plain = saved(gradient(), "PNG")
        data = plain[:33] + chunk(b"eXIf", data) + plain[33:]
    tracemalloc.start()
    try:
        assert load_picture(data, 16).shape == (3, 16, 16)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_damaged_files_give_one_sentence_or_a_picture(kind):
    """Never another exception: random flips of each format, whole and cut off."""
    whole = saved(gradient(), kind)
    random = np.random.default_rng(0)
    good = 0
    for tried in range(60):
        data = bytearray(whole[: random.integers(0, len(whole))] if tried % 2 else whole)
        for at in random.integers(0, max(len(data), 1), 3):
            if data:
                data[at] = random.integers(256)
        with contextlib.suppress(BadPictureError):
            assert load_picture(bytes(data), 16).shape == (3, 16, 16)
            good += 1
    assert 0 < good < 60


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_an_orientation_that_cannot_be_read_is_none(kind):
    cut_off = saved(gradient(), kind, exif=b"Exif\0\0II*\0")
    np.testing.assert_array_equal(load_picture(cut_off, 16), load_picture(saved(gradient(), kind), 16))


PEAK = """
import re, sys
from fashion.data.images import load_picture

def megabytes():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

load_picture(sys.argv[1], 64)
before = megabytes()
load_picture(sys.argv[2], 64)
print(megabytes() - before)
"""


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_large_picture_is_held_twice_at_most(tmp_path, mode):
    for side in (8, 3000):
        Image.new(mode, (side, side)).save(tmp_path / f"{side}.png")
    command = [sys.executable, "-c", PEAK, str(tmp_path / "8.png"), str(tmp_path / "3000.png")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(found.stdout) < 2.4 * 36  # Pillow keeps four bytes a pixel


def test_missing_wrong_and_folder_paths_are_named(tmp_path: Path):
    text = tmp_path / "page.jpg"
    text.write_text("<html>")
    for path, words in ((tmp_path / "no.jpg", "no such file"), (text, "not a picture"), (tmp_path, "is a folder")):
        with pytest.raises(BadPictureError, match=words) as caught:
            load_picture(path, 16)
        assert str(path) in str(caught.value)


def test_threads_that_load_leave_the_warnings_of_others_alone():
    """catch_warnings, in several threads at once, puts back the filters of another."""
    picture = io.BytesIO()
    Image.new("RGB", (40, 40)).save(picture, "JPEG")
    before = list(warnings.filters)
    for _ in load_pictures([picture.getvalue()] * 500, 32):
        pass
    assert warnings.filters == before


def test_many_are_loaded_in_order_and_bad_ones_follow_the_policy(tmp_path: Path):
    paths = []
    for number in range(150):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (4, 4), (number, 0, 0)).save(paths[-1])
    paths[70].write_bytes(b"")
    skipped: list[int] = []
    good = list(keep_good(load_pictures(paths, 4), "skip", lambda at, error: skipped.append(at)))
    assert skipped == [70]
    assert [at for at, _ in good] == [at for at in range(150) if at != 70]
    assert all(picture[0, 0, 0] == at for at, picture in good)
    with pytest.raises(BadPictureError, match=r"70\.png.*on_bad_image=skip"):
        list(keep_good(load_pictures(paths, 4), "fail", lambda at, error: None))


@pytest.mark.parametrize("count", [0, 1, 3, 33, 200])
def test_what_is_made_of_pictures_keeps_their_order(tmp_path: Path, count):
    sources: list[bytes] = []
    for number in range(count):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4), (number, 0, 0)).save(buffer, "PNG")
        sources.append(b"" if number % 7 == 2 else buffer.getvalue())
    sizes: list[int] = []

    def reds(pictures):
        sizes.append(len(pictures))
        return [int(picture[0, 0, 0]) for picture in pictures]

    made = list(made_of_pictures(reds, sources, 4))
    assert [None if isinstance(red, BadPictureError) else red for red in made] == [
        None if number % 7 == 2 else number for number in range(count)
    ]
    assert max(sizes, default=0) <= PIECE
    if count == 200:
        assert max(sizes) > 1  # several at a time


@pytest.mark.parametrize("kind", [np.uint16, ">u2", np.int32, np.float32])
def test_wide_grey_is_scaled_a_piece_at_a_time(kind):
    dice = np.random.default_rng(0)
    for grey in (dice.uniform(0, 70_000, (300, 700)), dice.uniform(-5, 255, (300, 700)), np.zeros((0, 3))):
        grey = grey.clip(0, 65535).astype(kind)
        top = 65535 if grey.max(initial=0) > 255 else 255
        np.testing.assert_array_equal(images._eight_bits(grey), (grey.astype(np.float64) / top * 255).astype(np.uint8))
    grey = np.full((2000, 2000), 40_000, kind)
    tracemalloc.start()
    images._eight_bits(grey)
    assert tracemalloc.get_traced_memory()[1] < 2 * grey.size  # its own bytes, and a band of fractions
    tracemalloc.stop()


@pytest.mark.slow
def test_mutated_files_are_pictures_or_explained(tmp_path):
    """FASHION_FUZZ seconds of damaged files: each becomes a picture or one clear error, and never takes long."""
    dice, seeds = np.random.default_rng(0), []
    for kind, mode in (("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "P"), ("GIF", "P"), ("WEBP", "RGB"),
                       ("TIFF", "RGB"), ("TIFF", "I;16"), ("BMP", "RGB")):  # fmt: skip
        buffer = io.BytesIO()
        Image.effect_noise((70, 50), 90).convert(mode).save(buffer, kind)
        seeds.append(buffer.getvalue())
    end = time.monotonic() + float(os.environ.get("FASHION_FUZZ", "5"))
    tried = good = 0
    while time.monotonic() < end:
        data = np.frombuffer(seeds[tried % len(seeds)], np.uint8).copy()
        for _ in range(int(dice.integers(1, 12))):
            # Heads decide most, so most of the damage is there.
            at = int(dice.integers(len(data)) if dice.random() < 0.3 else dice.integers(min(200, len(data))))
            data[at] = dice.integers(256)
        text = data.tobytes()[: int(dice.integers(1, len(data))) if dice.random() < 0.2 else None]
        started = time.monotonic()
        try:
            assert load_picture(text, 32).shape == (3, 32, 32)
            good += 1
        except BadPictureError:
            pass
        assert time.monotonic() - started < 5
        tried += 1
    assert 0 < good < tried
