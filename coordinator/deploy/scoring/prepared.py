"""A model ready to run: what its approved file computes, with less work, held against that file before it is used.

1. The file is what was approved and what its digest names; nothing of it is changed. At load its graph is cut into parts (`stacking`): numbers run
   through one stacked chain for each form of chain, words through the file's own operators, everything through the file's own layers.
2. The encoded rows of the words that the file knows are made once, at load. Any other word goes through the file's operators with its batch, once.
3. At load both forms score the same probes: each number at, beside, between and beyond all constants of its chain and NaN, and each word known,
   unknown and empty. Where an encoded column differs by more than one float32 step or a score by more than 1e-6, or where the graph has
   another form than exports have, the file's own graph runs as it is, and the log says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import structlog

from coordinator.deploy.scoring.columns import Batch, Rules
from coordinator.deploy.scoring.model import CHUNK, OUTPUT, RUN_ERRORS, ScoringModel, in_chunks, session_of
from coordinator.deploy.scoring.stacking import NUMBERS, STACKED, Parts, TextPart, Unlike, parts_of
from coordinator.deploy.scoring.words import Words
from strategies.errors import Refused

MOST_KEPT: Final = 1 << 22
"""Values in all encoded rows of known words: 16 MiB."""
SCORES_WITHIN: Final = 1e-6
_BETWEEN: Final = 64
_FAR: Final = 1e300
_log = structlog.get_logger(__name__)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operators:
    """The file's own operators on words: one session for all text inputs."""

    session: Any
    texts: tuple[TextPart, ...]

    def encode(self, columns: Sequence[Sequence[str]]) -> list[Floats]:
        """The encoded rows of each input's words, (V, width); inputs may have other numbers of words."""
        most = max(map(len, columns))
        feed = {
            text.name: Words.of([*words, *[""] * (most - len(words))]).objects()
            for text, words in zip(self.texts, columns, strict=True)
        }
        outputs = [name for each in self.texts for name in each.blocks]
        made = dict(zip(outputs, in_chunks(self.session, outputs, feed), strict=True))
        return [
            np.concatenate([made[name] for name in text.blocks], axis=1)[: len(words)]
            for text, words in zip(self.texts, columns, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """A text input whose encoded columns are `at`. `rows`, (V, width), are those of V words, at the places that `known` tells."""

    at: slice
    known: Mapping[str, int]
    rows: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A model's parts; threads may share it. `numeric` are the encoded columns that the stacked part makes, in its order."""

    stacked: Any | None
    operators: _Operators | None
    dense: Any
    encoded: str
    width: int
    numeric: npt.NDArray[np.intp]
    texts: tuple[_Text, ...]

    def score(self, batch: Batch) -> tuple[Floats, Floats]:
        """Probabilities, (N, 1), and what the first layer takes, (N, width), both float32."""
        encoded = np.empty((batch.rows, self.width), dtype=np.float32)
        if self.stacked is not None:
            for first in range(0, batch.rows, CHUNK):
                rows = slice(first, first + CHUNK)
                (made,) = self.stacked.run([STACKED], {NUMBERS: batch.numbers[:, rows]})
                encoded[rows, self.numeric] = made.T
        if self.operators is not None:
            self._encode_words(self.operators, batch.words, encoded)
        (scores,) = in_chunks(self.dense, [OUTPUT], {self.encoded: encoded})
        return scores, encoded

    def _encode_words(self, operators: _Operators, columns: Sequence[Words], encoded: Floats) -> None:
        """Fill in the encoded columns of the text inputs."""
        strangers = []
        for text, column in zip(self.texts, columns, strict=True):
            known = text.known
            places = np.array([known.get(word, -1) for word in column.table], dtype=np.intp)
            encoded[:, text.at] = text.rows[places[column.places]]
            strangers.append(np.flatnonzero(places < 0))
        if not any(map(len, strangers)):
            return
        words = [[column.table[at] for at in each] for column, each in zip(columns, strangers, strict=True)]
        for text, column, each, made in zip(
            self.texts, columns, strangers, operators.encode(words), strict=True
        ):
            place = np.full(len(column.table), -1, dtype=np.intp)
            place[each] = np.arange(len(each))
            places = place[column.places]
            rows = np.flatnonzero(places >= 0)
            encoded[rows, text.at] = made[places[rows]]


def prepare(model: ScoringModel, rules: Rules, source: str) -> Prepared | None:
    """The prepared form of a model; None, and a warning in the log, if it has none that scores as the file does."""
    try:
        parts = parts_of(model.judged)
        prepared = _assembled(parts)
        _require_same(prepared, model, rules, probes_of(parts))
    except (Unlike, Refused, ValueError, *RUN_ERRORS) as error:
        _log.warning("a model runs as its file is, without preparation", model=source, why=str(error)[:300])
        return None
    return prepared


def _assembled(parts: Parts) -> Prepared:
    """Sessions of the parts, and the encoded rows of known words. Raises Unlike when they are too many, Refused for a part that the runtime does not take."""
    known = [(*each.vocabulary, "") for each in parts.texts]
    kept = sum(
        len(words) * (each.at.stop - each.at.start) for words, each in zip(known, parts.texts, strict=True)
    )
    if kept > MOST_KEPT:
        raise Unlike(f"the encoded rows of its words have {kept} values; at most {MOST_KEPT} are kept")
    operators, rows = None, []
    if parts.words is not None:
        operators = _Operators(session=session_of(parts.words, "the part for words"), texts=parts.texts)
        rows = operators.encode(known)
    return Prepared(
        stacked=None if parts.stacked is None else session_of(parts.stacked, "the part for numbers"),
        operators=operators,
        dense=session_of(parts.dense, "the part for layers"),
        encoded=parts.dense.graph.input[0].name,
        width=parts.width,
        numeric=np.array(parts.numeric, dtype=np.intp),
        texts=tuple(
            _Text(at=text.at, known={word: place for place, word in enumerate(words)}, rows=made)
            for text, words, made in zip(parts.texts, known, rows, strict=True)
        ),
    )


def probes_of(parts: Parts) -> Batch:
    """Rows that meet every bound and every word of a file."""
    numbers = [_probes(each) for each in parts.constants]
    words = [(*each.vocabulary, "", max(each.vocabulary, key=len, default="") + "?") for each in parts.texts]
    rows = max([*map(len, numbers), *map(len, words)])
    return Batch(
        numbers=np.array([np.resize(each, rows) for each in numbers]).reshape(len(numbers), rows),
        words=tuple(Words.of(each[row % len(each)] for row in range(rows)) for each in words),
    )


def _probes(constants: Sequence[float]) -> npt.NDArray[np.float64]:
    """Numbers at, beside, between and beyond the constants of a chain, and NaN."""
    edges = np.unique([-1.0, 0.0, 1.0, *filter(np.isfinite, constants)])
    low, high = float(edges[0]), float(edges[-1])
    return np.concatenate(
        (
            edges,
            np.nextafter(edges, -np.inf),
            np.nextafter(edges, np.inf),
            (edges[1:] + edges[:-1]) / 2.0,
            low + (high - low) * np.linspace(0.0, 1.0, _BETWEEN),
            [low - 1.0, high + 1.0, -_FAR, _FAR, -0.0, np.nan],
        )
    )


def _require_same(prepared: Prepared, model: ScoringModel, rules: Rules, probes: Batch) -> None:
    """Raise Unlike unless both forms score the probes alike."""
    scores, encoded = prepared.score(probes)
    of_file, encoded_of_file = model.score_and_encode(rules.feed(probes))
    if not near(encoded, encoded_of_file):
        raise Unlike("its prepared form encodes otherwise than its file")
    if not np.allclose(scores, of_file, rtol=0.0, atol=SCORES_WITHIN, equal_nan=True):
        raise Unlike("its prepared form scores otherwise than its file")


def near(found: Floats, expected: Floats) -> bool:
    """Whether all values are the same, or neighbours in float32, or both NaN."""
    if found.shape != expected.shape:
        return False
    with np.errstate(invalid="ignore"):
        step = np.spacing(np.maximum(np.abs(found), np.abs(expected)))
        same = (
            (found == expected) | (np.abs(found - expected) <= step) | (np.isnan(found) & np.isnan(expected))
        )
    return bool(same.all())
