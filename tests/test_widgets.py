"""The live controls without a front end: the same functions, called by setting the controls' values."""

import base64
import io
import json
import re
from html import unescape

import ipywidgets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from course.figures import Figure, grid
from course.widgets import (
    ERASER,
    PALETTE,
    LiveView,
    StrengthSlider,
    Stroke,
    StrokePainter,
    paint_and_edit,
    slider_view,
)
from course.widgets.strokes import covered

RED = (215, 38, 61)


def shade(light: float) -> torch.Tensor:
    return torch.full((1, 3, 64, 64), light)


def shown(view: LiveView) -> tuple[str, int]:
    """The alt text of the picture on show and the value in its middle."""
    html = view._picture.value
    found = re.search(r'src="data:image/png;base64,([^"]+)" alt="([^"]*)"', html)
    assert found, html
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))
    return unescape(found[2]), int(picture[picture.shape[0] // 2, picture.shape[1] // 2, 0])


def pixels(image: torch.Tensor) -> np.ndarray:
    return ((image[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()


# Sliders


def test_the_picture_follows_the_slider():
    view = slider_view(shade, alt="A square", light=(-1.0, 1.0, 0.1))
    assert shown(view) == ("A square (light = 0.0)", 128)
    view.inputs["light"].control.value = 1.0
    assert shown(view) == ("A square (light = 1.0)", 255)
    assert (
        (view.result == 1).all() and view.figure is not None and view.figure.alt == "A square (light = 1.0)"
    )


def test_a_value_is_drawn_once():
    calls = []

    def draw(light: float, mark: str) -> torch.Tensor:
        calls.append((light, mark))
        return shade(light)

    view = slider_view(draw, alt="x", light=(0.0, 1.0, 0.1), mark=["a", "b"])
    for light, mark in [(0.1, "a"), (0.5, "a"), (0.5, "b"), (0.5, "a"), (0.1, "a")]:
        view.inputs["light"].control.value, view.inputs["mark"].control.value = light, mark
    assert calls == [(0.5, "a"), (0.1, "a"), (0.5, "b")]
    assert shown(view)[0] == "x (light = 0.1, mark = a)"


def test_the_oldest_pictures_are_forgotten():
    view = slider_view(lambda n: shade(n / 200), alt="x", n=(0, 199, 1))
    for n in range(200):
        view.inputs["n"].control.value = n
    assert len(view._known) == 64


def test_an_error_is_shown_and_raised_and_passes():
    def draw(light: float) -> torch.Tensor:
        if light > 0.5:
            raise ValueError("light > 0.5 & no more")
        return shade(light)

    view = slider_view(draw, alt="x", light=(0.0, 1.0, 0.1, 0.5))
    with pytest.raises(ValueError, match="no more"):
        view.inputs["light"].control.value = 0.9
    assert view._picture.value == ""
    assert "ValueError: light &gt; 0.5 &amp; no more" in view._status.value
    assert 'role="alert"' in view._status.value
    view.inputs["light"].control.value = 0.2
    assert shown(view) == ("x (light = 0.2)", 153) and "alert" not in view._status.value


def test_the_first_picture_is_made_at_once_so_that_a_broken_cell_fails():
    with pytest.raises(ZeroDivisionError):
        slider_view(lambda n: shade(1 / n), alt="x", n=(0, 4, 1, 0))


def test_it_says_that_it_is_busy():
    states = []
    view = slider_view(
        lambda n: states.append(view._status.value if states else "") or shade(0), alt="x", n=(0, 4, 1)
    )
    view.inputs["n"].control.value = 4
    assert "drawing" in states[-1] and "drawing" not in view._status.value


@pytest.mark.parametrize(
    ("spec", "kind", "value"),
    [
        ((0, 10, 1), ipywidgets.IntSlider, 5),
        ((0, 10, 1, 2), ipywidgets.IntSlider, 2),
        ((0.0, 1.0, 0.25), ipywidgets.FloatSlider, 0.5),
        (["a", "b"], ipywidgets.Dropdown, "a"),
        (True, ipywidgets.Checkbox, True),
        ("a red car", ipywidgets.Text, "a red car"),
    ],
)
def test_a_control_for_each_kind_of_argument(spec, kind, value):
    seen = []
    view = slider_view(lambda my_knob: seen.append(my_knob) or shade(0), alt="x", my_knob=spec)
    knob = view.inputs["my_knob"].control
    assert type(knob) is kind and seen == [value] and knob.description == "my knob"
    assert not getattr(knob, "continuous_update", False)


def test_a_control_of_ones_own_is_used():
    knob = ipywidgets.IntText(3)
    assert slider_view(lambda n: shade(n / 9), alt="x", n=knob).inputs["n"].control is knob


@pytest.mark.parametrize("spec", [(0, 1), (1, 0, 1), (0, 1, 0), (0, 1, 2), (0, 1, 1, 3), [], None, 3.0])
def test_a_control_that_is_none_is_refused(spec):
    with pytest.raises(ValueError, match="knob: "):
        slider_view(lambda knob: shade(0), alt="x", knob=spec)


def test_there_must_be_a_control_and_a_text():
    with pytest.raises(ValueError, match="nothing to change"):
        slider_view(shade, alt="x")
    with pytest.raises(ValueError, match="pass alt="):
        slider_view(shade, light=(0.0, 1.0, 0.1))
    with pytest.raises(ValueError, match="say what it shows"):
        slider_view(shade, alt=" ", light=(0.0, 1.0, 0.1))


def test_a_figure_brings_its_own_text():
    view = slider_view(lambda light: grid(shade(light), alt=f"Light {light}"), light=(0.0, 1.0, 0.5))
    assert shown(view)[0] == "Light 0.5"
    told = slider_view(lambda light: grid(shade(light), alt="y"), alt="A square", light=(0.0, 1.0, 0.5))
    assert shown(told)[0] == "A square (light = 0.5)"


def test_the_strength_slider_starts_in_the_middle_of_the_trade():
    view = StrengthSlider(lambda strength: shade(strength), alt="An edit")
    assert shown(view)[0] == "An edit (strength = 0.6)"
    knob = view.inputs["strength"].control
    assert (knob.min, knob.max) == (0.05, 1.0)
    knob.value = 1.0
    assert shown(view)[1] == 255


def test_where_no_kernel_runs_a_still_picture_stands_for_it():
    for live in (
        slider_view(shade, alt="A square", light=(-1.0, 1.0, 0.1)),
        StrokePainter(alt="A canvas"),
        paint_and_edit(StrokePainter(), lambda image: image, alt="Painted"),
    ):
        data, metadata = live._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in data
        assert data["image/png"].startswith("iVBOR")
        assert metadata["alt"] == metadata["image/png"]["alt"] != ""


# The canvas


def test_a_new_canvas_is_its_background():
    painter = StrokePainter(background="grass")
    assert painter.image.shape == (1, 3, 64, 64) and painter.image.dtype == torch.float32
    assert (pixels(painter.image) == (106, 168, 79)).all()
    assert painter.mask.shape == (1, 1, 64, 64) and not painter.mask.any()


def test_strokes_are_painted_in_order():
    painter = StrokePainter()
    painter.paint([Stroke("red", [(32, 32)], 20), Stroke("#0000ff", [(32, 32), (60, 32)], 4)])
    picture = pixels(painter.image)
    assert tuple(picture[25, 30]) == RED and tuple(picture[32, 50]) == (0, 0, 255)
    assert tuple(picture[5, 5]) == (255, 255, 255)
    assert painter.mask[0, 0, 25, 30] == 1 and painter.mask[0, 0, 5, 5] == 0
    assert set(painter.mask.unique().tolist()) == {0, 1}
    painter.clear()
    assert (pixels(painter.image) == 255).all()


def test_a_stroke_without_points_fills_and_the_eraser_brings_back():
    start = grid(shade(0), alt="x").image().resize((64, 64))
    painter = StrokePainter(picture=start)
    before = painter.image
    painter.paint([Stroke("black"), Stroke(ERASER, [(10, 10)], 8)])
    assert tuple(pixels(painter.image)[40, 40]) == (27, 27, 27)
    assert (painter.image[..., 9, 9] == before[..., 9, 9]).all()
    assert painter.mask[0, 0, 40, 40] == 1 and painter.mask[0, 0, 9, 9] == 0


def test_a_mask_leaves_its_picture_alone():
    painter = StrokePainter(picture=shade(0.5), mode="mask")
    painter.paint([Stroke("red", [(32, 32)], 20)])
    assert (painter.image - 0.5).abs().max() < 0.005
    assert 280 < painter.mask.sum() < 340  # a disc of diameter 20
    assert (painter.shown()[32, 32] != painter.shown()[5, 5]).any()


def test_the_disc_of_a_brush_has_the_right_area():
    assert covered([(32, 32)], 20, 64).sum() == pytest.approx(np.pi * 100, rel=0.03)
    assert covered([(22, 32), (42, 32)], 10, 64).sum() == pytest.approx(200 + np.pi * 25, rel=0.05)


def test_callbacks_hear_of_each_change():
    painter, heard = StrokePainter(), []
    painter.on_change(lambda changed: heard.append(len(changed.strokes)))
    painter.paint([Stroke("red", [(1, 1)])])
    painter.paint([Stroke("red", [(1, 1)]), Stroke("blue")])
    painter.clear()
    assert heard == [1, 2, 0]


def test_a_canvas_of_another_size():
    painter = StrokePainter(32, picture=np.zeros((32, 32, 3), np.uint8))
    assert painter.image.shape == (1, 3, 32, 32) and painter.get_state()["size"] == 32


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: StrokePainter(mode="draw"), "mode is"),
        (lambda: StrokePainter(0), "at least 1 pixel"),
        (lambda: StrokePainter(background="mauve"), "unknown colour 'mauve'"),
        (lambda: StrokePainter(palette={"red": "red"}), "unknown colour 'red'"),
        (lambda: StrokePainter(picture=torch.zeros(1, 3, 32, 32)), "the picture is 32x32, the canvas 64x64"),
        (lambda: StrokePainter(alt=""), "say what it shows"),
        (lambda: StrokePainter().paint([Stroke("mauve")]), "unknown colour 'mauve'"),
        (lambda: Stroke("red", [(1, 1)], 0), "more than 0"),
        (lambda: Stroke("red", [(1, 1)], 65), "at most 64"),
        (lambda: Stroke("red", [(1, float("nan"))]), "pairs"),
        (lambda: Stroke("red", [(1, 2, 3)]), "pairs"),
    ],
)
def test_what_cannot_be_painted_is_refused(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()


# Painting and editing


def test_the_edit_follows_the_painting():
    painter = StrokePainter(background="black")
    view = paint_and_edit(painter, lambda image: -image, alt="The negative")
    assert shown(view) == ("The negative", 255 - 27)
    painter.paint([Stroke("white")])
    assert shown(view) == ("The negative", 0)


def test_an_edit_may_have_sliders_too():
    painter = StrokePainter(background="white")
    view = paint_and_edit(painter, lambda image, light: image * light, alt="Dimmed", light=(-1.0, 1.0, 0.5))
    assert shown(view) == ("Dimmed (light = 0.0)", 128)
    view.inputs["light"].control.value = -1.0
    assert shown(view) == ("Dimmed (light = -1.0)", 0)


def test_in_mask_mode_the_edit_gets_the_mask():
    painter = StrokePainter(picture=shade(0.0), mode="mask")
    view = paint_and_edit(painter, lambda mask: mask, alt="The mask")
    assert shown(view)[1] == 0
    painter.paint([Stroke("red")])
    assert shown(view)[1] == 255


def test_the_still_picture_shows_the_canvas_and_the_edit():
    painter = StrokePainter(background="grass")
    still = paint_and_edit(painter, lambda image: -image, alt="The negative").sheet()
    assert isinstance(still, Figure)
    dots = np.asarray(still.image()).reshape(-1, 3)
    assert (dots == (106, 168, 79)).all(1).any() and (dots == (149, 87, 176)).all(1).any()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.builds(
            Stroke,
            st.sampled_from([*PALETTE, ERASER]),
            st.lists(st.tuples(st.floats(-10, 80), st.floats(-10, 80)), max_size=6),
            st.floats(0.5, 64),
        ),
        max_size=5,
    )
)
def test_any_strokes_give_a_picture_and_the_browser_is_told_of_them(strokes):
    painter = StrokePainter()
    painter.paint(strokes)
    assert painter.image.min() >= -1 and painter.image.max() <= 1
    told = painter.get_state()["strokes"]
    assert json.loads(json.dumps(told)) == told
    untouched = painter.mask[0, 0] == 0
    assert (painter.image[0, :, untouched] == 1).all()
