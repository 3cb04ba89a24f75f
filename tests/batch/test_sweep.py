"""What `--sweep OPTION=VALUE,...` means: axes from the declaration of options, and their combinations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image, ImageChops

from sdedit_cli.batch.sheet import Sheet, Tile, cut, drawn, side_of, width_of
from sdedit_cli.batch.sheet_plot import Line, Point, distance, is_measured, plotted
from sdedit_cli.batch.sweep import sweep_of
from sdedit_cli.errors import UsageError
from sdedit_cli.options.adapters import LoraFile

THOUSAND = ",".join(map(str, range(1, 1001)))
SEVEN = ("seed", "steps", "cfg-scale", "max-side", "mask-grow", "mask-padding", "mask-blur")


def values(text: str) -> tuple[object, ...]:
    return sweep_of([text], 1000).across.values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("strength=0.3,0.5", (0.3, 0.5)),
        ("--cfg-scale=4, 8", (4.0, 8.0)),
        ("cfg_scale=4", (4.0,)),
        ("seed=1,18446744073709551615", (1, 2**64 - 1)),
        ("vae-tiling=true,off", (True, False)),
        ('prompt="red, green",a ""quiet"" dog', ("red, green", 'a ""quiet"" dog')),
        ('prompt="a ""quiet"" dog",', ('a "quiet" dog', "")),
        ("prompt=a=b", ("a=b",)),
        ("timesteps=900 500,700 1", ((900, 500), (700, 1))),
        ('freeu="0.9,0.2,1.3,1.4"', ((0.9, 0.2, 1.3, 1.4),)),
        ("lora=,ink.safetensors:0.5", ((), (LoraFile("ink.safetensors", 0.5),))),
        ("preset=pixel-art,oil", ("pixel-art", "oil")),
    ],
)
def test_values_are_read_by_the_declaration_of_their_option(text: str, expected: tuple[object, ...]) -> None:
    assert values(text) == expected


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["strenght=0.3"], "no option is called 'strenght'; did you mean 'strength'?"),
        (["strength=0.3,2"], "--sweep strength is 2; expected a number above 0"),
        (["strength=0.3,"], "--sweep strength is ''"),
        (["strength=0.5,0.50"], "has '0.5' twice"),
        (["strength"], "expected OPTION=VALUE,VALUE,..."),
        (["=1"], "expected OPTION=VALUE,VALUE,..."),
        (["count=1,2"], "--sweep seed=1,2,3"),
        (["seed=1", "seed=2"], "seed is there twice"),
        (["steps=4", "timesteps=9 1"], "steps and timesteps exclude each other"),
        (['prompt="open'], "open quote"),
        (["seed=1,2", "steps=3,4,5", "eta=0,1"], "12 combinations are over the limit of 11"),
        ([f"{key}={THOUSAND}" for key in SEVEN], f"{10**21:,} combinations are over the limit of 11"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(texts: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        sweep_of(texts, 11)
    assert words in str(caught.value)


def test_cells_are_every_combination_and_names_of_files_differ() -> None:
    sweep = sweep_of(["strength=0.3,0.5", "lora=a/x.bin:1,b/x.bin:1", "seed=1,2,3"], 12)
    cells = list(sweep.cells())
    assert [cell.at for cell in cells] == list(itertools.product(range(2), range(2), range(3)))
    assert (
        len({cell.variant for cell in cells}) == len({cell.label for cell in cells}) == len(cells) == sweep.size == 12
    )
    assert cells[1].values == {"strength": 0.3, "lora": (LoraFile("a/x.bin"),), "seed": 2}
    assert not any(mark in cell.variant for cell in cells for mark in "/\\:")


def test_the_sheet_has_every_picture_in_its_place() -> None:
    """The first option goes across, the second down, the others in blocks: seen by a colour for each cell."""
    sweep = sweep_of(["seed=1,2,3", "steps=2,3", "eta=0,1"], 12)
    colours = {cell.at: (40 + 60 * cell.at[0], 40 + 90 * cell.at[1], 200 * cell.at[2]) for cell in sweep.cells()}
    tiles = {at: Tile(Image.new("RGB", (80, 76), colour)) for at, colour in colours.items()}
    image = drawn(Sheet(sweep, tiles, Image.new("RGB", (80, 76), "#ff00ff"), "a.png", ["prompt: a dog"]))
    boxes = {at: _box(image, colour) for at, colour in colours.items()}
    assert len(boxes) == 12
    for (x, y, z), (left, top, right, bottom) in boxes.items():
        assert (right - left, bottom - top) == (80, 76)
        assert left == boxes[x, 0, 0][0]
        assert top == boxes[0, y, z][1]
    lefts, tops = [boxes[x, 0, 0][0] for x in range(3)], [boxes[0, y, z][1] for z in range(2) for y in range(2)]
    assert lefts == sorted(set(lefts))
    assert tops == sorted(set(tops))


def _box(image: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:

    far = (
        ImageChops.difference(image, Image.new("RGB", image.size, colour)).convert("L").point(lambda v: 255 * (v == 0))
    )
    box = far.getbbox()
    assert box is not None, colour
    return box


def test_a_cell_that_failed_is_marked_and_says_why() -> None:
    sweep = sweep_of(["seed=1,2"], 2)
    made = Tile(Image.new("RGB", (90, 90), "#00ff00"))
    there = drawn(Sheet(sweep, {(0,): made, (1,): made}, Image.new("RGB", (90, 90)), "", []))
    sheet = [
        drawn(Sheet(sweep, {(0,): made, (1,): Tile(None, why)}, Image.new("RGB", (90, 90)), "", []))
        for why in ("no memory", "no such file")
    ]
    assert there.size == sheet[0].size == sheet[1].size
    assert len({image.tobytes() for image in (there, *sheet)}) == 3


def test_texts_are_cut_to_their_room_in_letters_that_the_font_has() -> None:
    assert cut("strength", 14, 200) == "strength"
    assert cut("café中", 14, 200) == "cafe?"
    for room in (20, 60, 150):
        short = cut("a very long prompt of many words " * 30, 14, room)
        assert short.endswith("...")
        assert width_of(short, 14) <= room
    assert width_of(cut("W" * 50, 14, 150) + "W", 14) > 130  # no more is cut than has to be


def test_an_axis_that_no_sheet_holds_is_refused() -> None:
    long = "seed=" + ",".join(map(str, range(500)))
    with pytest.raises(UsageError, match="500 pictures across"):
        side_of(sweep_of([long, "eta=0,1"], 1000))
    assert side_of(sweep_of(["eta=0,1"], 1000)) == 256


def test_a_single_option_goes_on_in_the_next_line() -> None:
    """Each picture once, in reading order, under its own value, on a sheet that a screen can show."""
    sweep = sweep_of(["seed=" + ",".join(map(str, range(50)))], 50)
    colours = {cell.at: (5 * cell.at[0], 99, 77) for cell in sweep.cells()}
    tiles = {at: Tile(Image.new("RGB", (192, 100), colour)) for at, colour in colours.items()}
    image = drawn(Sheet(sweep, tiles, Image.new("RGB", (192, 100), "#ff00ff"), "a.png", []))
    places = [_box(image, colour)[:2] for colour in colours.values()]
    assert image.width < 2100
    assert places == sorted(places, key=lambda place: place[::-1])
    assert len({y for _, y in places}) == 5
    above = [np.asarray(image.crop((x, y - 20, x + 192, y - 1))).min() for x, y in places]
    assert max(above) < 100


def test_the_distance_is_the_root_mean_square_difference() -> None:
    black, white = Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), "white")
    half = black.copy()
    half.paste((255, 255, 255), (0, 0, 2, 4))
    assert distance(black, black) == 0
    assert distance(black, white) == 1
    assert distance(half, black) == pytest.approx(0.5**0.5)
    assert distance(Image.new("RGB", (4, 4), (51, 0, 0)), black) == pytest.approx(0.2 / 3**0.5)


def test_the_plot_has_a_point_for_each_picture_at_both_of_its_distances() -> None:
    """The one that is nearer to the real pictures stands lower, and the one nearer to the input further left."""
    line = Line("", [Point(0.3, 0.1, 0.8), Point(0.6, 0.2, 0.4)])
    drawn = plotted([line], "real pictures").tobytes()
    assert plotted([line], "others").tobytes() != drawn, "says what was compared with"
    assert plotted([Line("", [Point(0.3, 0.1, 0.4), Point(0.6, 0.2, 0.8)])], "real pictures").tobytes() != drawn
    blue = np.argwhere((np.asarray(plotted([line], "real pictures")) == (0x24, 0x56, 0xC7)).all(axis=2))
    left, right = blue[blue[:, 1].argmin()], blue[blue[:, 1].argmax()]
    assert left[0] < right[0] - 50, "rows are counted from above"


def test_a_plot_without_features_is_by_strength_alone() -> None:
    half = [Line("", [Point(0.3, 0.1, 0.8), Point(0.6, 0.2)])]
    assert not is_measured(half)
    without = [Line("", [Point(0.3, 0.1), Point(0.6, 0.2)])]
    assert plotted(half, "x").tobytes() == plotted(without, "").tobytes()


def test_a_plot_of_equal_and_of_negative_distances_is_drawn() -> None:
    for points in ([Point(0.5, 0.0, 0.0)] * 2, [Point(0.5, 0.0, -0.01), Point(0.6, 0.1, -0.3)]):
        assert plotted([Line("seed 1", points)], "the input", 0.1).size[0] == 400
