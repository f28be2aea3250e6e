"""What laws and guidelines ask, and which rules of the shipped pack bear on it: data for a page of the documentation, and nobody's opinion of law."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protos.documents import Document, FieldError, Part, read_document
from protos.names import Name, distinct
from protos.policy_pack import Sentence


class Row(Part):
    """One thing that is asked; `rules` bear on it, and `not_checkable` says what no recorded fact shows."""

    place: Sentence
    rules: Annotated[tuple[Name, ...], AfterValidator(distinct)]
    not_checkable: Sentence | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.rules and self.not_checkable is None:
            raise FieldError("rules", "no rule bears on it; say why under not_checkable")
        return self


class Source(Part):
    """A law or guideline."""

    name: Sentence
    about: Sentence
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]


class Mapping(Document):
    """The whole table."""

    covenant: Literal["policy-mapping/v1"]
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]


def mapping() -> Mapping:
    """The table, read."""
    text = (files(__package__) / "mapping.yaml").read_text(encoding="utf-8")
    return read_document(text, Mapping, "mapping.yaml")
