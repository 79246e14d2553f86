import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from course.core.images import read_image, read_mask, shrink_mask, to_pil

RED, BLUE, WHITE, BLACK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def encoded(picture, form="PNG", **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def corners(image):
    """8-bit colours of the four corners: top left, top right, bottom left, bottom right."""
    picture = to_pil(image)[0]
    end = picture.width - 1
    return [picture.getpixel(at) for at in ((0, 0), (end, 0), (0, end), (end, end))]


def picture(seed=0, width=16, height=16):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def header_only_png(width, height):
    """A small file that declares a picture of this size."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


# What is read.


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.one_of(st.none(), st.integers(1, 40)), st.integers(0, 99))
def test_every_picture_becomes_a_square_in_range(width, height, size, seed):
    image = read_image(picture(seed, width, height), size)
    side = size or min(width, height)
    assert image.shape == (1, 3, side, side) and image.dtype == torch.float32
    assert image.min() >= -1 and image.max() <= 1


@given(st.integers(0, 999))
def test_eight_bits_survive_the_round_trip(seed):
    source = picture(seed)
    (back,) = to_pil(read_image(source, 16))
    assert np.array_equal(np.asarray(back), np.asarray(source))


def test_every_source_of_one_picture_gives_the_same_image(tmp_path):
    source = picture()
    path = tmp_path / "picture.png"
    source.save(path)
    array = np.asarray(source)
    expected = torch.from_numpy(array.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    sources = (source, path, str(path), encoded(source), array, array / 255, (array / 255).astype(np.float32))
    for same in (*sources, expected, expected[0]):
        torch.testing.assert_close(read_image(same, 16), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_common_formats_are_read(form):
    image = read_image(encoded(Image.new("RGB", (16, 16), RED), form))
    torch.testing.assert_close(image, read_image(Image.new("RGB", (16, 16), RED)), rtol=0, atol=0.02)


def test_transparency_becomes_white():
    for mode, clear, opaque in (("RGBA", (0, 0, 255, 0), (0, 0, 255, 255)), ("LA", (0, 0), (0, 255))):
        source = Image.new(mode, (8, 8), clear)
        source.putpixel((0, 0), opaque)
        assert corners(read_image(encoded(source)))[1:] == [WHITE] * 3
        assert corners(read_image(source))[0] == (BLUE if mode == "RGBA" else BLACK)
    assert (
        corners(read_image(np.full((4, 4, 4), 255, np.uint8) * np.array([0, 0, 1, 0], np.uint8)))[0] == WHITE
    )
    assert corners(read_image(Image.new("RGBA", (4, 4), (0, 0, 0, 128))))[0] == (127, 127, 127)


def test_palettes_are_looked_up_and_their_transparent_colour_is_white():
    source = Image.new("P", (8, 8), 1)
    source.putpalette([*RED, *BLUE])
    source.putpixel((0, 0), 0)
    assert corners(read_image(encoded(source))) == [RED, BLUE, BLUE, BLUE]
    assert corners(read_image(encoded(source, transparency=1))) == [RED, WHITE, WHITE, WHITE]


def test_greys_of_every_depth_are_read():
    assert corners(read_image(Image.new("L", (4, 4), 100)))[0] == (100,) * 3
    assert corners(read_image(Image.new("1", (4, 4), 1)))[0] == WHITE
    assert corners(read_image(np.full((4, 4), 100, np.uint8)))[0] == (100,) * 3
    assert corners(read_image(np.full((4, 4, 1), 0.2)))[0] == (51,) * 3
    sixteen = Image.fromarray(np.full((4, 4), 100 * 257, np.uint16))
    assert corners(read_image(encoded(sixteen)))[0] == (100,) * 3


def test_cmyk_is_read():
    assert corners(read_image(encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "TIFF")))[0] == WHITE


def test_exif_rotation_is_applied():
    source = Image.new("RGB", (8, 8), WHITE)
    source.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    assert corners(read_image(encoded(source, exif=exif))) == [WHITE, RED, WHITE, WHITE]
    exif[0x0112] = 3
    assert corners(read_image(encoded(source, exif=exif))) == [WHITE, WHITE, WHITE, RED]


@pytest.mark.parametrize("axis", [0, 1])
def test_the_centre_is_cut_out(axis):
    shape = [12, 12, 3]
    shape[axis] = 30
    array = np.full(shape, 255, np.uint8)
    centre = [slice(None)] * 2
    centre[axis] = slice(9, 21)
    array[tuple(centre)] = RED
    assert (read_image(array) == read_image(Image.new("RGB", (12, 12), RED))).all()


def test_the_first_frame_of_an_animation_is_taken():
    first, second = (Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE))
    source = encoded(first, "GIF", save_all=True, append_images=[second])
    assert corners(read_image(source))[0] == RED


def test_a_tensor_of_the_right_size_is_not_rounded(generator):
    image = torch.rand(1, 3, 8, 8, generator=generator) * 2 - 1
    assert torch.equal(read_image(image, 8), image)
    assert read_image(image, 4).shape == (1, 3, 4, 4)


def test_the_source_is_left_as_it_was():
    array, source = np.zeros((8, 8, 3), np.uint8), Image.new("P", (8, 8))
    read_image(array, 4).add_(1)
    read_image(array).add_(1)
    read_image(source, 4)
    assert not array.any() and (source.mode, source.size) == ("P", (8, 8))


# What is refused.


def test_a_missing_file_is_named(tmp_path):
    for missing in (tmp_path / "no.png", str(tmp_path / "no" / "such.png")):
        with pytest.raises(FileNotFoundError, match="there is no picture at"):
            read_image(missing)


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(ValueError, match="cannot be read as a file"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a picture of a cat",
        encoded(picture())[:200],
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
)
def test_what_is_not_a_picture_is_refused(content, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    for source in (content, path):
        for read in (read_image, read_mask):
            with pytest.raises(ValueError, match="cannot be read as a picture"):
                read(source)


@pytest.mark.parametrize(
    ("width", "height"), [(8001, 8001), (12_000, 9_000), (60_000, 60_000), (2**31 - 1, 1)]
)
def test_a_huge_picture_is_refused_before_it_is_decoded(width, height):
    with pytest.raises(ValueError, match="64 megapixels"):
        read_image(header_only_png(width, height))


def test_a_picture_just_small_enough_is_decoded():
    with pytest.raises(
        ValueError, match="cannot be read as a picture"
    ):  # it has no pixels, which shows only now
        read_image(header_only_png(8000, 8000))


def test_huge_arrays_and_pictures_are_refused():
    with pytest.raises(ValueError, match="64 megapixels"):
        read_image(np.broadcast_to(np.uint8(0), (8001, 8001, 3)))
    with pytest.raises(ValueError, match="64 megapixels"):
        read_image(Image.new("1", (8001, 8001)))


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((3, 5, 6), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((4, 4, 3), np.int64),
        np.full((4, 4, 3), 200.0),
        np.full((4, 4, 3), -0.1),
        np.full((4, 4, 3), np.nan),
        np.array([["a"]]),
        Image.new("RGB", (0, 4)),
        Image.new("F", (4, 4)),
        Image.new("I", (4, 4)),
        torch.zeros(2, 3, 4, 4),
        torch.zeros(4, 4),
        torch.zeros(1, 3, 0, 4),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        torch.full((3, 4, 4), 1.5),
        torch.full((3, 4, 4), float("nan")),
        None,
        7,
        [[1, 2], [3, 4]],
    ],
    ids=lambda source: f"{type(source).__name__}-{getattr(source, 'dtype', getattr(source, 'mode', source))}",
)
def test_what_is_out_of_shape_or_range_is_refused(source):
    with pytest.raises(ValueError, match=r"must|from 1 pixel|states no range|a picture is"):
        read_image(source)


@pytest.mark.parametrize("size", [0, -1, 10**6])
def test_an_impossible_size_is_refused(size):
    with pytest.raises(ValueError, match="size must be in"):
        read_image(picture(), size)


WHOLE = [encoded(picture(), form) for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")]


@settings(max_examples=100)
@given(st.sampled_from(WHOLE), st.data())
def test_damaged_files_are_read_or_refused_and_nothing_else(content, data):
    damaged = bytearray(content[: data.draw(st.integers(0, len(content)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = read_image(bytes(damaged), 8)
    except ValueError as error:
        assert str(error)
    else:
        assert image.shape == (1, 3, 8, 8)


# What is written.


def test_images_are_clipped_and_rounded():
    image = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0, 0.0039])[None, None, None].expand(1, 3, 1, 6)
    assert [p[0] for p in np.asarray(to_pil(image)[0])[0]] == [0, 0, 128, 255, 255, 128]


def test_a_batch_becomes_a_list_whatever_its_type():
    images = torch.zeros(3, 3, 4, 5, dtype=torch.float16, requires_grad=True)
    assert [one.size for one in to_pil(images)] == [(5, 4)] * 3


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 4, 4), torch.zeros(1, 4, 4, 4), torch.full((1, 3, 2, 2), float("nan"))]
)
def test_what_is_no_image_is_not_written(images):
    with pytest.raises(ValueError, match=r"must be \[b 3 H W\]|not finite"):
        to_pil(images)


# Masks.


def test_every_source_of_one_mask_gives_the_same(tmp_path):
    may = np.random.default_rng(0).random((8, 8)) > 0.5
    grey = Image.fromarray(may * np.uint8(255))
    clear = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    clear.paste((255, 255, 255, 255), mask=grey)
    path = tmp_path / "mask.png"
    grey.save(path)
    tensor = torch.from_numpy(may)
    for source in (
        grey,
        grey.convert("RGB"),
        clear,
        path,
        may,
        may.astype(float),
        tensor,
        tensor[None],
        tensor[None, None].float(),
    ):
        mask = read_mask(source, 8)
        assert mask.shape == (1, 1, 8, 8) and mask.dtype == torch.float32
        assert torch.equal(mask[0, 0].bool(), tensor)


def test_middle_grey_is_the_threshold():
    assert read_mask(np.array([[127, 128]] * 2, np.uint8)).tolist() == [[[[0, 1], [0, 1]]]]


def test_a_mask_is_cut_as_its_image_is():
    array = np.zeros((12, 30), np.uint8)
    array[:, 9:21] = 255
    assert read_mask(array, 6).all()
    assert read_image(array, 6).min() == 1


def test_a_mask_that_would_be_black_is_refused():
    with pytest.raises(ValueError, match="astype"):
        read_mask(np.eye(4, dtype=np.uint8))
    assert not read_mask(np.zeros((4, 4), np.uint8)).any()


@pytest.mark.parametrize("mask", [torch.zeros(2, 4, 4), torch.zeros(4), torch.full((4, 4), 255.0)])
def test_a_tensor_that_is_no_mask_is_refused(mask):
    with pytest.raises(ValueError, match="must"):
        read_mask(mask)


@settings(max_examples=60)
@given(st.integers(1, 24), st.integers(1, 24), st.data())
def test_a_cell_may_change_if_any_of_its_pixels_may(height, width, data):
    h, w = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    pixel = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    mask = torch.zeros(1, 1, height, width)
    mask[0, 0][pixel] = 1
    small = shrink_mask(mask, h, w)
    assert small.shape == (1, 1, h, w) and set(small.unique().tolist()) <= {0.0, 1.0}
    assert small[0, 0, pixel[0] * h // height, pixel[1] * w // width] == 1
    if height % h == width % w == 0:
        assert small.sum() == 1


def test_nearest_is_what_diffusers_does_and_loses_a_thin_stroke():
    mask = torch.zeros(2, 1, 16, 16)
    mask[:, :, :, 3] = 1
    assert torch.equal(shrink_mask(mask, 4, 4, "nearest"), F.interpolate(mask, (4, 4)))
    assert not shrink_mask(mask, 4, 4, "nearest").any()
    assert shrink_mask(mask, 4, 4)[..., 0].all()


def test_masks_that_cannot_shrink_are_refused():
    mask = torch.zeros(1, 1, 4, 4)
    for bad in ((8, 4), (4, 0)):
        with pytest.raises(ValueError, match="cannot shrink"):
            shrink_mask(mask, *bad)
    with pytest.raises(ValueError, match="mode"):
        shrink_mask(mask, 2, 2, "mean")
    with pytest.raises(ValueError, match="read_mask"):
        shrink_mask(mask[0], 2, 2)


def test_paths_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture().save("here.png")
    assert torch.equal(read_image("here.png"), read_image(Path("here.png")))
