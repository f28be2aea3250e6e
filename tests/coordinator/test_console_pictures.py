"""The pictures of the console in the documentation."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from docs.pictures import MOST_BYTES, PAGE, PICTURES, name_of, packed

README = Path(__file__).parents[2] / "README.md"


def test_every_picture_is_shown_small_and_at_both_sizes() -> None:
    found = sorted(PICTURES.glob("*.png"))
    page = PAGE.read_text()

    assert found
    for each in found:
        assert f"(pictures/{each.name})" in page
        assert each.stat().st_size <= MOST_BYTES
        width = int(each.stem.rpartition("-")[2])
        with Image.open(each) as picture:
            assert isinstance(picture, PngImageFile)
            assert picture.width == width
    names = {each.stem.rpartition("-")[0] for each in found}
    assert {f"{name}-{width}" for name in names for width in (1440, 390)} == {each.stem for each in found}
    assert "docs/pictures/plans-digest-1440.png" in README.read_text()


def test_pages_have_names_of_their_own() -> None:
    assert [name_of(each) for each in ("/", "/runs", "/runs/{run}")] == ["overview", "runs", "runs-run"]


def test_a_picture_of_many_colours_loses_some_until_it_fits() -> None:
    target = io.BytesIO()
    Image.effect_noise((400, 500), 80).convert("RGB").save(target, "PNG")
    assert len(target.getvalue()) > MOST_BYTES
    made = packed(target.getvalue())
    assert len(made) <= MOST_BYTES
    with Image.open(io.BytesIO(made)) as picture:
        assert picture.size == (400, 500)
