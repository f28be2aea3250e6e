"""Templates: always escaped, and a name that they do not have is an error. Texts go through gettext."""

from __future__ import annotations

import gettext
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from coordinator.console.navigation import entries_for
from coordinator.console.tables import Cell
from coordinator.console.texts import drawn, translated, translated_words
from protos.quantities import thousands

if TYPE_CHECKING:
    from coordinator.console.visit import Visit

DOMAIN: Final = "console"
LOCALES: Final = Path(__file__).parent / "locale"
_SHOWN_DIGITS: Final = 12
_JSON_ESCAPES: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "'": "\\u0027"}


def render(visit: Visit, template: str, context: Mapping[str, Any]) -> str:
    """The page that `visit` gets."""
    language = visit.language
    notice = None
    if visit.session is not None and not visit.partial and not visit.session.over:
        notice = visit.console.sessions.told(visit.session.digest)
    return (
        environment(language)
        .get_template(template)
        .render(
            visit=visit,
            language=language,
            notice=notice,
            officer=None if visit.actor is None else visit.actor.officer,
            static=visit.console.assets.url,
            navigation=entries_for(visit),
            federation=visit.centre.settings.config.federation,
            desk=visit.console.section.desk,
            **context,
        )
    )


def language_for(accepted: str) -> str:
    """The language that a browser is answered in, by its `Accept-Language`."""
    return language_of(accepted, languages(LOCALES))


@lru_cache(1)
def languages(folder: Path) -> tuple[str, ...]:
    """The languages that there is a catalogue for; English, in which the texts are written, is always one."""
    found = sorted(path.parents[1].name for path in folder.glob(f"*/LC_MESSAGES/{DOMAIN}.mo"))
    return ("en", *found)


def language_of(accepted: str, known: tuple[str, ...]) -> str:
    """The first of the languages that a browser accepts (RFC 9110, 12.5.4; by order) that is known."""
    for each in accepted.split(",")[:10]:
        tag = each.partition(";")[0].strip().lower()
        for one in known:
            if tag in {one.lower(), one.lower().partition("-")[0]} or tag.partition("-")[0] == one.lower():
                return one
    return "en"


@lru_cache(16)
def translations(language: str) -> gettext.NullTranslations:
    """The texts of one language; those that it lacks stay English."""
    return gettext.translation(DOMAIN, str(LOCALES), languages=[language], fallback=True)


@lru_cache(16)
def environment(language: str) -> Environment:
    """Where templates are found, with the texts of one language."""
    made = Environment(
        loader=PackageLoader("coordinator.console"),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined]
    into = translations(language)
    made.filters |= {
        "moment": moment,
        "short": short,
        "data": data,
        "count": thousands,
        "translated": partial(translated, into=into),
        "words": partial(translated_words, into=into),
        "cell": partial(cell, into=into),
        "drawn": partial(drawn, into=into),
    }
    return made


def moment(value: datetime | None) -> Markup:
    """An instant: in UTC until the browser's script has written it in the reader's zone."""
    if value is None:
        return Markup("&ndash;")
    at = value.astimezone(UTC)
    return Markup('<time datetime="{}" title="{} UTC">{} UTC</time>').format(
        at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S}", f"{at:%Y-%m-%d %H:%M}"
    )


def cell(each: Cell, into: gettext.NullTranslations) -> Markup:
    """One value of a table. Not a macro, because a page has thousands."""
    value = translated_words(each.value if each.text is None else each.text, into)
    match value:
        case None:
            shown = Markup("&ndash;")
        case datetime():
            shown = moment(value)
        case _:
            shown = escape(value)
    if each.code:
        shown = Markup('<code title="{}">{}</code>').format("" if each.value is None else each.value, shown)
    if each.href:
        shown = Markup('<a href="{}">{}</a>').format(each.href, shown)
    if each.tone:
        shown = Markup('<span class="badge {}">{}</span>').format(each.tone, shown)
    return shown


def short(digest: str) -> Markup:
    """The first digits of a digest, the whole of it on hover."""
    return Markup('<code title="{}">{}</code>').format(digest, digest[:_SHOWN_DIGITS])


def data(value: Any) -> Markup:  # noqa: ANN401  (anything JSON has)
    """JSON within a page's data block, which no text in it can end."""
    told = json.dumps(value, allow_nan=False, ensure_ascii=False)
    return Markup("".join(_JSON_ESCAPES.get(each, each) for each in told))  # noqa: S704  (escaped here)
