"""Where a site keeps its personal models: a folder for each shared model, and the count of looks at rows that shall have the last word.

1. Files are 0600, replaced as a whole, and in folders that nobody else may enter. The card is written last, and names the model's file by digest.
2. That a personal model was asked for is on disk before a row is read: what may be told of it later does not depend on rows.
3. A look is on disk before its result is shown. The same model on the same rows is the same look.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from safetensors.numpy import save

from client.personal.blend import Blend
from client.personal.making import Chosen
from client.personal.measures import Gain
from client.personal.parts import Parts, Rows
from client.shared_models import SharedModel, read_tensors
from protos.documents import Document, Part
from protos.files import replace_file
from protos.moments import Moment
from protos.names import Name, Reference, Sha256, Site
from strategies.encoding import Vector, digest_of, sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, SiteName

_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700
_SHORT: Final = 16
_SHORTEST: Final = 8
_ASKED, _CARD, _MODEL, _LOOKS = "asked.json", "card.json", "model.safetensors", "looks.json"


class IntervalFacts(Part):
    """An estimate and its interval."""

    value: float
    low: float
    high: float


class GateFacts(Part):
    """What the personal model gained over the shared one on the rows of the gate, at the how-many-eth look at them."""

    loss: IntervalFacts
    auc: IntervalFacts
    looks: Annotated[int, Field(ge=1)]
    offered: bool


class Card(Document):
    """What is known of a personal model. Stays at the site."""

    covenant: Literal["personal-model/v1"] = "personal-model/v1"
    site: Site
    shared: Sha256
    run: str | None = None
    plan: Name
    contract: Reference
    population: Name
    method: Literal["fine-tuned", "local"]
    alpha: Annotated[float, Field(ge=0, le=1)]
    pull: float
    passes: int
    words: str
    rows: dict[str, int]
    gate: GateFacts
    model: Sha256
    file: Sha256
    made_at: Moment


class Asked(Document):
    """That a personal model of a shared one was asked for."""

    covenant: Literal["personal-asked/v1"] = "personal-asked/v1"
    shared: Sha256
    plan: Name
    run: str | None = None
    at: Moment


class Look(Part):
    """That a model was compared on rows that are to decide: of the gate, or held out."""

    what: Literal["gate", "held-out"]
    holdout: Sha256
    model: Sha256
    rows: Sha256
    at: Moment


class Looks(Document):
    """All looks."""

    covenant: Literal["personal-looks/v1"] = "personal-looks/v1"
    looks: tuple[Look, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalModel:
    """A personal model with the shared one that it grew from, and the purely local one, (d,), beside it."""

    card: Card
    shared: SharedModel
    blend: Blend
    local: Vector


@dataclass(frozen=True, slots=True)
class Shelf:
    """The personal models of one site, in `folder`."""

    folder: Path
    clock: Callable[[], datetime]

    def ask(self, shared: SharedModel) -> None:
        """Write down that a personal model of `shared` is asked for."""
        asked = Asked(shared=shared.digest, plan=shared.plan.name, run=shared.run, at=self._now())
        self._write(self._place(shared.digest) / _ASKED, asked.canonical)

    def asked(self) -> Iterator[Asked]:
        """All that were asked for, whatever came of it."""
        for folder in self._folders():
            if (folder / _ASKED).exists():
                yield Asked.from_canonical(_read(folder / _ASKED))

    def keep(
        self,
        shared: SharedModel,
        chosen: Chosen,
        parts: Parts,
        gain: Gain,
        looks: int,
        *,
        site: SiteName,
        population: str,
    ) -> Card:
        """Keep a model in the place of an earlier one of the same shared model."""
        place = self._place(shared.digest)
        tensors = {"shared": shared.vector, "own": chosen.blend.own, "local": chosen.local}
        data = save(tensors, metadata=shared.header)
        card = Card(
            site=site,
            shared=shared.digest,
            run=shared.run,
            plan=shared.plan.name,
            contract=shared.contract.ref,
            population=population,
            method=chosen.method,
            alpha=chosen.blend.alpha,
            pull=chosen.pull,
            passes=chosen.passes,
            words=chosen.words,
            rows=parts.counts(),
            gate=GateFacts(
                loss=IntervalFacts(value=gain.loss.value, low=gain.loss.low, high=gain.loss.high),
                auc=IntervalFacts(value=gain.auc.value, low=gain.auc.low, high=gain.auc.high),
                looks=looks,
                offered=gain.is_better,
            ),
            model=chosen.blend.digest,
            file=sha256_hex(data),
            made_at=self._now(),
        )
        (place / _CARD).unlink(missing_ok=True)  # so that a card never stands beside another model's file
        self._write(place / _MODEL, data)
        self._write(place / _CARD, card.canonical)
        return card

    def cards(self) -> Iterator[Card]:
        """Of all models that are here."""
        for folder in self._folders():
            if (folder / _CARD).exists():
                yield Card.from_canonical(_read(folder / _CARD))

    def find(self, name: str) -> Digest:
        """The shared model that `name` is the plan, run or beginning of the digest of, the one asked for last. Raises UsageError."""
        found = sorted(self.asked(), key=lambda each: each.at, reverse=True)
        for each in found:
            if name in {each.plan, each.run} or (len(name) >= _SHORTEST and each.shared.startswith(name)):
                return each.shared
        known = ", ".join(f"{each.plan} ({each.shared[:_SHORT]})" for each in found) or "none"
        raise UsageError(
            f"no personal model was asked for of {name!r}; there: {known}. Make one with `covenant-agent personal make`"
        )

    def load(self, shared: Digest) -> PersonalModel:
        """A model that was kept. Raises UsageError where there is none, Refused for one that was changed."""
        place = self._place(shared)
        if not (place / _CARD).exists():
            raise UsageError(
                f"there is no personal model of {shared[:_SHORT]}: it was never made to its end, or its rows were too few. Run `covenant-agent personal make` again"
            )
        card = Card.from_canonical(_read(place / _CARD))
        if sha256_hex(_read(place / _MODEL)) != card.file:
            raise Refused(f"{place / _MODEL} is not the file that its card names; make the model again")
        facts, tensors = read_tensors(place / _MODEL)
        grown = SharedModel.from_header(facts, _vector(tensors, "shared"))
        blend = Blend(shape=grown.shape, shared=grown.vector, own=_vector(tensors, "own"), alpha=card.alpha)
        if blend.digest != card.model or grown.digest != card.shared:
            raise Refused(f"{place / _CARD} was changed after it was written; make the model again")
        return PersonalModel(card=card, shared=grown, blend=blend, local=_vector(tensors, "local"))

    def drop(self, shared: Digest) -> None:
        """Delete a model and its card. That it was asked for stays, and so does the count of looks."""
        place = self._place(shared)
        if not (place / _CARD).exists() and not (place / _MODEL).exists():
            raise UsageError(f"there is no personal model of {shared[:_SHORT]} to drop")
        asked = _read(place / _ASKED)
        shutil.rmtree(place)
        self._write(place / _ASKED, asked)

    def look(self, what: Literal["gate", "held-out"], holdout: Digest, model: Digest, rows: Rows) -> int:
        """Count a look, on disk when this returns, and say the how-many-eth it is at this part of this hold-out."""
        path = self.folder / _LOOKS
        known = Looks.from_canonical(_read(path)) if path.exists() else Looks()
        seen = digest_of([sha256_hex(rows.x.tobytes()), sha256_hex(rows.y.tobytes())])
        mine = [each for each in known.looks if (each.what, each.holdout) == (what, holdout)]
        if any((each.model, each.rows) == (model, seen) for each in mine):
            return len(mine)
        look = Look(what=what, holdout=holdout, model=model, rows=seen, at=self._now())
        self._write(path, Looks(looks=(*known.looks, look)).canonical)
        return len(mine) + 1

    def _now(self) -> datetime:
        return self.clock().replace(microsecond=0)

    def _place(self, shared: Digest) -> Path:
        return self.folder / shared[:_SHORT]

    def _folders(self) -> list[Path]:
        return sorted(each for each in self.folder.iterdir() if each.is_dir()) if self.folder.is_dir() else []

    def _write(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{path.parent} cannot be made: {error.strerror}") from error
        replace_file(path, data, mode=_MODE)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _vector(tensors: Mapping[str, npt.NDArray[np.floating]], name: str) -> Vector:
    if name not in tensors:
        raise Refused(f"the model's file has no tensor {name}; make the model again")
    return tensors[name].astype(np.float64)
