"""Texts in Python that a page shows, so that they can be in another language than English.

1. Captions, headings, titles and notices are written in English where they are used. The page translates them as it is made. Other constants are marked
   with `_`.
2. A text with values in it is `words("{run} is halted", run=run)`: the words are looked up, the values put in afterwards.
3. Data is never looked up: a plan that somebody has called "Runs" stays that. In a cell, or as the name of a series, only `words` are translated.

`catalogue.py` finds all of them.
"""

from __future__ import annotations

import gettext
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from coordinator.console.charts import Chart


def _(text: str) -> str:
    """Mark a text for translation; it is translated where a page shows it."""
    return text


class Words(str):
    """A text in English, which remembers what it was made from."""

    __slots__ = ("template", "values")
    template: str
    values: Mapping[str, object]

    def __new__(cls, template: str, values: Mapping[str, object]) -> Self:
        """Put the values in."""
        made = super().__new__(cls, template.format_map(values))
        made.template, made.values = template, values
        return made


def words(template: str, **values: object) -> Words:
    """A text with `values` in the places that it names in braces."""
    return Words(template, values)


def translated(text: str, into: gettext.NullTranslations) -> str:
    """`text` in another language, or as it is where the catalogue lacks it, or has it with places that there are no values for."""
    if isinstance(text, Words):
        try:
            return into.gettext(text.template).format_map(text.values)
        except (LookupError, ValueError, AttributeError):
            return str(text)
    return into.gettext(text) if text else text  # the empty text is where a catalogue keeps its header


def translated_words(text: Any, into: gettext.NullTranslations) -> Any:  # noqa: ANN401  (whatever a cell shows)
    """`words` in another language; anything else is data and stays as it is."""
    return translated(text, into) if isinstance(text, Words) else text


def drawn(chart: Chart, into: gettext.NullTranslations) -> dict[str, Any]:
    """What the browser's script draws of a chart, with its words in another language."""
    told = chart.drawn
    told |= {key: translated(told[key], into) for key in ("title", "x", "y")}
    told["series"] = [{**each, "name": translated_words(each["name"], into)} for each in told["series"]]
    told["bounds"] = [{**each, "name": translated(each["name"], into)} for each in told["bounds"]]
    return told
