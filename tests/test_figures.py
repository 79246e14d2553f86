"""Figures: what they show to the pixel, what they say, and what they refuse."""

import base64
import inspect
import io
import re

import matplotlib as mpl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from course import figures
from course.figures import BeforeAfter, Figure, FrameSlider, curves, filmstrip, grid, heatmap, scatter, source
from course.figures.figure import DENSITY
from course.figures.layout import GAP, LARGEST, MARGIN
from course.figures.pixels import enlarged, side_by_side, to_pixels

RED, BLUE = (214, 39, 40), (31, 119, 180)


def plain(colour: tuple[int, int, int], size: int = 64) -> np.ndarray:
    return np.full((size, size, 3), colour, np.uint8)


def noise(batch: int, seed: int = 0, size: int = 64) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


def dots(figure: Figure) -> np.ndarray:
    return np.asarray(figure.image())


MAKERS = {
    "grid": lambda alt: grid(noise(2), ["a", "b"], alt=alt),
    "filmstrip": lambda alt: filmstrip(noise(3), ["a", "b", "c"], alt=alt),
    "heatmap": lambda alt: heatmap(noise(1), noise(1)[0, :1, :16, :16].abs(), ["car"], alt=alt),
    "curves": lambda alt: curves([0, 1], {"a": [1, 2], "b": ([1, 2], [0.1, 0.2])}, "x", "y", alt=alt),
    "scatter": lambda alt: scatter({"a": ([0, 1], [1, 2])}, "x", "y", alt=alt),
    "FrameSlider": lambda alt: FrameSlider([noise(1), noise(1, 1)], ["a", "b"], alt=alt),
    "BeforeAfter": lambda alt: BeforeAfter(noise(1), noise(1, 1), alt=alt),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_alt_text_is_required_and_travels_in_the_metadata(make):
    with pytest.raises(ValueError, match="say what it shows"):
        make(" \n ")
    data, metadata = make("  Two\n balls ")._repr_mimebundle_()
    assert metadata["alt"] == metadata["image/png"]["alt"] == "Two balls"
    assert data["image/png"].startswith("iVBOR")
    if "text/html" in data:
        assert metadata["text/html"] == {"alt": "Two balls"}
        assert 'alt="Two balls' in data["text/html"]


def test_every_figure_is_tried_above():
    takes_alt = {
        name
        for name in figures.__all__
        if name not in ("Figure", "require_alt")
        and callable(getattr(figures, name))
        and "alt" in inspect.signature(getattr(figures, name)).parameters
    }
    assert takes_alt == set(MAKERS)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_bytes_are_the_same_whatever_the_reader_has_set(make):
    first = make("x")._repr_mimebundle_()[0]
    with mpl.rc_context({"font.size": 30, "figure.dpi": 50, "axes.facecolor": "black", "image.cmap": "jet"}):
        second = make("x")._repr_mimebundle_()[0]
    assert first == second
    png = base64.b64decode(first["image/png"])
    assert b"tEXt" not in png and b"Software" not in png


def test_a_figure_shows_in_ipython_with_its_text_and_a_width_for_dense_screens():
    figure = grid(noise(1), alt="Noise")
    assert figure.image().size == (figure.width * DENSITY, figure.height * DENSITY)
    assert figure._repr_mimebundle_()[1]["image/png"]["width"] == figure.width
    assert repr(figure) == f"Figure({figure.width}x{figure.height}, alt='Noise')"


def test_grid_enlarges_each_pixel_to_a_block_and_changes_no_value():
    images = noise(3)
    figure = grid(images, alt="x")
    for index, expected in enumerate(to_pixels(images)):
        left = (MARGIN + index * (LARGEST + GAP)) * DENSITY
        cell = dots(figure)[MARGIN * DENSITY : (MARGIN + LARGEST) * DENSITY, left : left + LARGEST * DENSITY]
        assert (cell == enlarged(expected, LARGEST * DENSITY)).all()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 12])
def test_a_picture_of_64_pixels_is_shown_two_to_four_times_as_large_on_one_page(count):
    figure = filmstrip(noise(count), [str(index) for index in range(count)], alt="x")
    assert figure.width <= figures.PAGE_WIDTH
    rows = -(-count // 6)
    assert figure.height >= rows * 2 * 64
    assert figure.height <= rows * (4 * 64 + 40) + 2 * MARGIN


def test_a_list_of_batches_gives_a_row_to_each():
    reds, blues = np.stack([plain(RED)] * 3), np.stack([plain(BLUE)] * 3)
    figure = grid([reds, blues], ["a", "b", "c"], row_titles=["red", "blue"], caption="Two rows.", alt="x")
    assert figure.width > 3 * 128
    picture = dots(figure)
    upper, lower = picture[: len(picture) // 2], picture[len(picture) // 2 :]
    assert (upper == RED).all(-1).sum() == (lower == BLUE).all(-1).sum() > 0
    assert not (upper == BLUE).all(-1).any()


def test_pictures_of_unlike_size_share_a_scale():
    """A latent of 16 pixels and a picture of 64 stand beside each other at the same size."""
    figure = grid([plain(RED, 16), plain(BLUE, 64)], alt="x")
    picture = dots(figure)
    assert (picture == RED).all(-1).sum() == (picture == BLUE).all(-1).sum() == (LARGEST * DENSITY) ** 2


def test_a_large_picture_is_averaged_down_to_the_page():
    figure = grid([plain(RED, 1024)] * 4, columns=4, alt="x")
    assert figure.width <= figures.PAGE_WIDTH


def test_words_are_wrapped_to_their_cell():
    short = grid(noise(4), ["a"] * 4, columns=4, alt="x")
    long = grid(noise(4), ["a red car on grass to the left of a blue gift"] * 4, columns=4, alt="x")
    assert long.height > short.height and long.width == short.width


def test_a_dollar_in_a_title_is_no_formula():
    assert dots(grid(noise(1), ["$5 and $6"], alt="x")).any()


@pytest.mark.parametrize(
    ("images", "first"),
    [
        (torch.zeros(3, 4, 4), 128),
        (torch.full((1, 3, 4, 4), 7.0), 255),
        (torch.full((1, 3, 4, 4), -1.0), 0),
        (torch.ones(1, 1, 4, 4), 255),
        (torch.zeros(1, 1, 4, 4), 0),
        (torch.zeros(1, 3, 4, 4, dtype=torch.bfloat16, requires_grad=True), 128),
        (np.full((4, 4), True), 255),
        (np.full((4, 4), 9, np.uint8), 9),
        (np.full((2, 4, 4, 3), 9, np.uint8), 9),
        (Image.new("L", (4, 4), 9), 9),
        (Image.new("RGBA", (4, 4), (9, 9, 9, 0)), 255),
        ([np.full((4, 4), 9, np.uint8), [Image.new("L", (5, 4), 3)]], 9),
    ],
)
def test_pictures_of_any_kind_are_read(images, first):
    found = to_pixels(images)
    assert {(each.dtype, each.ndim, each.shape[2]) for each in found} == {(np.dtype(np.uint8), 3, 3)}
    assert (found[0] == first).all()


@pytest.mark.parametrize(
    ("images", "remedy"),
    [
        (torch.zeros(1, 4, 8, 8), "decode latents first"),
        (torch.zeros(8, 8), "decode latents first"),
        (torch.zeros(0, 3, 8, 8), "decode latents first"),
        (torch.full((1, 3, 8, 8), torch.nan), "not finite"),
        (np.zeros((8, 8, 3)), "pass floats as tensor"),
        (np.zeros((8, 8, 4), np.uint8), r"\[H W 3\]"),
        ([], "empty"),
        ("picture.png", "cannot show str"),
        (3, "cannot show int"),
    ],
)
def test_what_is_no_picture_is_refused(images, remedy):
    with pytest.raises(ValueError, match=remedy):
        grid(images, alt="x")


@pytest.mark.parametrize(
    "make",
    [
        lambda: grid(noise(4), ["a", "b", "c"], columns=4, alt="x"),
        lambda: grid(noise(4), row_titles=["a"], columns=2, alt="x"),
        lambda: grid(noise(4), columns=0, alt="x"),
        lambda: filmstrip(noise(4), ["a"], alt="x"),
        lambda: heatmap(noise(1), torch.rand(2, 4, 4), ["a"], alt="x"),
        lambda: heatmap(noise(1), torch.rand(0, 4, 4), [], alt="x"),
        lambda: heatmap(noise(1), -torch.rand(1, 4, 4), ["a"], alt="x"),
        lambda: heatmap(noise(1), torch.full((1, 4, 4), torch.inf), ["a"], alt="x"),
        lambda: heatmap(noise(1), torch.rand(1, 2, 4, 4), ["a"], alt="x"),
        lambda: heatmap(noise(1), torch.rand(1, 4, 4), ["a"], top=0, alt="x"),
        lambda: curves([0, 1], {}, "x", "y", alt="x"),
        lambda: curves([0, 1], {"a": [1]}, "x", "y", alt="x"),
        lambda: curves([0, 1], {"a": ([1, 2], [1])}, "x", "y", alt="x"),
        lambda: curves([0, 1], {"a": [1, np.nan]}, "x", "y", alt="x"),
        lambda: scatter({}, "x", "y", alt="x"),
        lambda: scatter({"a": ([1, 2], [1])}, "x", "y", alt="x"),
        lambda: FrameSlider([noise(1)], ["a"], alt="x"),
        lambda: FrameSlider([noise(1)] * 2, ["a"], alt="x"),
        lambda: FrameSlider([noise(1)] * 2, ["a", "b"], start=2, alt="x"),
        lambda: BeforeAfter(noise(1), noise(1, size=32), alt="x"),
        lambda: side_by_side([plain(RED), plain(RED, 32)]),
        lambda: source(len),
        lambda: source(),
    ],
)
def test_what_does_not_fit_together_is_refused(make):
    with pytest.raises(ValueError, match=r"give|needed|needs|no |at least|finite|need|start|row|columns"):
        make()


def test_a_heatmap_is_bright_where_the_map_is_large_and_keeps_its_coarse_cells():
    maps = torch.zeros(2, 4, 4)
    maps[0, 1, 2], maps[1, 3, 0] = 2.0, 1.0
    picture = dots(heatmap(plain((128, 128, 128)), maps, ["a", "b"], alt="x", label="weight"))
    bright = (picture[..., 0] > 200) & (picture[..., 2] < 90)  # viridis ends in yellow
    assert bright.any(axis=0).sum() > 100
    same = heatmap(
        plain((128, 128, 128)), [maps[0].numpy(), maps[1].numpy()], ["a", "b"], alt="x", label="weight"
    )
    assert (dots(same) == picture).all()
    dim = dots(heatmap(plain((128, 128, 128)), maps, ["a", "b"], alt="x", label="weight", top=100.0))
    assert ((dim[..., 0] > 200) & (dim[..., 2] < 90)).sum() < bright.sum()
    assert heatmap(plain(RED), torch.zeros(1, 4, 4), ["nothing"], alt="x").png


def test_curves_differ_in_grey_too():
    """Two lines through the same points: what is drawn must differ in more than colour."""
    one = curves([0, 1, 2], {"a": [0, 1, 0], "b": [2, 2, 2]}, "x", "y", alt="x", title="A title")
    two = curves([0, 1, 2], {"a": [2, 2, 2], "b": [0, 1, 0]}, "x", "y", alt="x", title="A title")
    grey = [np.asarray(each.image().convert("L")).astype(int) for each in (one, two)]
    assert (abs(grey[0] - grey[1]) > 60).sum() > 200


def test_joined_points_carry_their_names_and_a_line():
    points = {"0.2": ([1, 1.2], [0, 0.1]), "0.8": ([5, 5.1], [1, 1.1])}
    joined, apart = (scatter(points, "x", "y", alt="x", joined=value) for value in (True, False))
    assert joined.png != apart.png
    assert scatter({"one": ([1], [1])}, "x", "y", alt="x").png


def test_the_source_shown_is_the_one_that_runs():
    shown = source(figures.require_alt)
    assert shown.name == "course.figures.figure.require_alt"
    assert shown.code == inspect.getsource(figures.require_alt).rstrip()
    assert shown._repr_markdown_() == f"`{shown.name}`\n\n```python\n{shown.code}\n```"
    assert "class Figure" in repr(source(figures.Figure, figures.require_alt))


def test_a_fence_in_the_source_does_not_end_it():
    def tricky() -> str:
        return "```"

    assert source(tricky)._repr_markdown_().rstrip().endswith("\n````")


def frames_of(html: str) -> list[np.ndarray]:
    urls = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(url))).convert("RGB")) for url in urls]


def test_a_frame_slider_holds_its_frames_unchanged_and_shows_one():
    slider = FrameSlider([plain(RED), plain(BLUE), plain(RED)], ["0 <", "1", "2"], alt='a "ball"', start=1)
    html = slider.html()
    assert [frame[0, 0].tolist() for frame in frames_of(html)] == [list(RED), list(BLUE), list(RED)]
    assert frames_of(html)[0].shape == (64, 64, 3)
    assert html.count(" hidden>") == 2
    assert 'alt="a &quot;ball&quot;: 0 &lt;"' in html and "<output>1</output>" in html
    assert not re.search(r"https?://|<script", html)
    assert " id=" not in html  # two sliders on one page do not disturb each other


def test_a_frame_of_several_pictures_is_shown_as_a_row():
    slider = FrameSlider([noise(3), noise(3, 1)], ["a", "b"], alt="x")
    assert frames_of(slider.html())[0].shape == (64, 3 * 64 + 2 * 4, 3)
    assert slider.sheet().height > 2 * 128


def test_before_and_after_lie_on_top_of_each_other():
    html = BeforeAfter(plain(RED), plain(BLUE), alt="x", labels=("source", "edit")).html()
    assert [frame[0, 0].tolist() for frame in frames_of(html)] == [list(RED), list(BLUE)]
    assert 'alt="x: source"' in html and 'alt="x: edit"' in html and "clip-path" in html


WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.sampled_from([8, 16, 64, 200]), WORDS)
def test_any_grid_fits_the_page(count, columns, size, title):
    figure = grid(noise(count, size=size), [title] * count, columns=columns, alt="x")
    assert figure.width <= figures.PAGE_WIDTH
    assert figure.image().size == (figure.width * DENSITY, figure.height * DENSITY)
