"""Documents that people write and both sides exchange: closed, frozen, and refused with the line at fault.

1. A document is YAML 1.2 as `protos.yaml12` reads it; an unknown key is an error that names the nearest known one.
2. Values are not coerced: `"20"` is not 20, and `1` is not `"1"`.
3. A document's digest is over the canonical JSON of what was read: comments, key order, quoting, the unit of a duration
   and whether a default was written out do not change it. An optional key without a value is left out, so a later
   version can add one and leave the digests of documents that do not use it as they were.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    WrapSerializer,
)
from pydantic_core import ErrorDetails

from protos import yaml12
from strategies.encoding import canonical_json, sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

_MOST_DEFECTS: Final = 10
_LONGEST_VALUE: Final = 60
_PEM: Final = "is a key or a certificate (PEM) and no document; name another file"


class DocumentError(UsageError):
    """A document that cannot be read: one sentence a defect, each with file, line, key, value and remedy."""


class FieldError(ValueError):
    """Raised by a check across fields; `field` is the one whose line the reader should look at."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field


class Part(BaseModel):
    """A closed, frozen piece of a document."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Document(Part):
    """A whole document: it has canonical bytes and a digest."""

    # A slot and no field: what compares, dumps or copies a document, perhaps with other values, does not see it.
    __slots__ = ("_made",)
    most_bytes: ClassVar[int] = yaml12.MAX_BYTES
    """Of its canonical form, as another party sends it."""

    @property
    def canonical(self) -> bytes:
        """Canonical JSON (RFC 8785) of the parsed document, made once."""
        try:
            made: bytes = object.__getattribute__(self, "_made")
        except AttributeError:
            made = canonical_json(self.model_dump(mode="json", exclude_none=True))
            object.__setattr__(self, "_made", made)
        return made

    @property
    def digest(self) -> Digest:
        """SHA-256 of `canonical`."""
        return sha256_hex(self.canonical)

    @classmethod
    def from_canonical(cls, data: bytes) -> Self:
        """Read `canonical` as another party sent it; Refused unless it is exactly that of a valid document.

        Exactly, so that a digest of the bytes and a digest of the document never part ways.
        """
        source = f"the {cls.__name__} received"
        if len(data) > cls.most_bytes:
            raise Refused(f"{source} has {len(data)} bytes; at most {cls.most_bytes} are accepted")
        if _is_pem(data.decode(errors="replace")):
            raise Refused(f"{source} {_PEM}")
        try:
            document = cls.model_validate_json(data, strict=True)
            canonical = document.canonical
        except ValidationError as error:
            raise Refused(_explain(error, cls, source, None)) from error
        except UsageError as error:
            raise Refused(f"{source} is not in canonical form (RFC 8785): {error}") from error
        if canonical != data:
            raise Refused(f"{source} is not in canonical form (RFC 8785); send `canonical` unchanged")
        return document


T = TypeVar("T", bound=BaseModel)
K = TypeVar("K")
V = TypeVar("V")


def read_document(text: str, model: type[T], source: str) -> T:
    """Read `text` as a `model`; `source` names it in errors. Paths in it stay as written. Raises DocumentError."""
    return _read(text, model, source, folder=None)


def load_document(path: Path, model: type[T]) -> T:
    """Read the file `path` as a `model`; relative paths in it are resolved against its folder. Raises DocumentError."""
    try:
        with path.open("rb") as file:
            data = file.read(yaml12.MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise DocumentError(f"{path} does not exist; check the path, or create the file") from error
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > yaml12.MAX_BYTES:
        raise DocumentError(f"{path} is larger than {yaml12.MAX_BYTES} bytes, the most a document may have")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DocumentError(f"{path} line {line}: not UTF-8 text; save the file as UTF-8") from error
    return _read(text, model, str(path), folder=path.absolute().parent)


def make_document(model: type[T], source: str, /, **fields: object) -> T:
    """A `model` of `fields` that people gave in another way than a file; `source` names it. Raises DocumentError."""
    try:
        return model(**fields)
    except ValidationError as error:
        raise DocumentError(_explain(error, model, source, None)) from error


def _read(text: str, model: type[T], source: str, folder: Path | None) -> T:
    if _is_pem(text):
        raise DocumentError(f"{source} {_PEM}")
    try:
        tree = yaml12.parse(text)
    except yaml12.StrictYamlError as error:
        raise DocumentError(f"{source} line {error.line}: {error}") from error
    try:
        # Through JSON, because only there does pydantic's strict mode take a list for a tuple.
        return model.model_validate_json(json.dumps(tree.value), strict=True, context={"folder": folder})
    except ValidationError as error:
        raise DocumentError(_explain(error, model, source, tree)) from error


def _is_pem(text: str) -> bool:
    """Whether somebody named a key file where a document belongs: no error may repeat what is in it."""
    return text.lstrip().startswith("-----BEGIN ")


# --- types that documents share ---------------------------------------------------------------------------------------


def _resolve(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    return folder / path if folder else path


def _freeze(mapping: Mapping[K, V]) -> Mapping[K, V]:
    return MappingProxyType(dict(mapping))


def _thaw(mapping: Mapping[Any, Any], handler: SerializerFunctionWrapHandler) -> Any:  # noqa: ANN401
    return handler(dict(mapping))


# `Annotated[Mapping[K, V], *FROZEN]`: a mapping that stays as it was read, or as its default has it.
FROZEN: Final = (AfterValidator(_freeze), WrapSerializer(_thaw), Field(validate_default=True))

# `Annotated[Mapping[K, V] | None, *FROZEN_OR_NONE]`: the same where the key may be left out, which leaves digests as they were.
FROZEN_OR_NONE: Final = (
    AfterValidator(lambda mapping: None if mapping is None else _freeze(mapping)),
    WrapSerializer(lambda mapping, handler: handler(None if mapping is None else dict(mapping))),
)

# A path; relative ones belong to the folder of the document they stand in.
FilePath = Annotated[Path, AfterValidator(_resolve)]


# --- explaining what is wrong -----------------------------------------------------------------------------------------


def _explain(error: ValidationError, model: type[BaseModel], source: str, tree: yaml12.Tree | None) -> str:
    """All defects in the order of their lines, one sentence each."""
    found = sorted(_defect(detail, model, tree) for detail in error.errors(include_url=False))
    sentences = [f"{source} line {line}: {text}" if tree else f"{source}: {text}" for line, text in found]
    if len(sentences) > _MOST_DEFECTS:
        sentences[_MOST_DEFECTS:] = [f"{source}: and {len(sentences) - _MOST_DEFECTS} more defects"]
    return "\n".join(sentences)


def _defect(detail: ErrorDetails, model: type[BaseModel], tree: yaml12.Tree | None) -> tuple[int, str]:
    path = _path_in(detail, tree)
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        path = (*path, cause.field)
    line = tree.line(path) if tree else 0
    name = _dotted(path)
    if detail["type"] == "extra_forbidden":
        return line, f"unknown key `{name}`; {_known_keys(detail['loc'], model)}"
    if detail["type"] == "missing":
        return line, f"`{name}` is missing; add it"
    if isinstance(cause, FieldError):
        return line, f"`{name}`: {cause}"
    value = _shown(detail["input"])
    if cause is not None:
        return line, f"`{name}` is {value}: {cause}"
    if detail["type"] == "union_tag_invalid" and (tag := _tag_named(detail)) in detail["input"]:
        path = (*path, tag)
        expected = str(detail["ctx"]["expected_tags"])
        return (
            tree.line(path) if tree else 0,
            f"`{_dotted(path)}` is {_shown(detail['input'][tag])}, but it should be {_or(expected)}",
        )
    rule = detail["msg"].replace("Input should", "it should").replace("String should", "it should")
    return line, f"`{name}` is {value}, but {rule[:1].lower()}{rule[1:]}{_advice(detail)}"


def _tag_named(detail: ErrorDetails) -> str:
    """The key that says which member of a union is meant."""
    return str(detail["ctx"]["discriminator"]).strip("'")


def _or(listed: str) -> str:
    """`'a', 'b', 'c'` as `'a', 'b' or 'c'`, as pydantic itself words a choice."""
    first, comma, last = listed.rpartition(", ")
    return f"{first} or {last}" if comma else last


def _advice(detail: ErrorDetails) -> str:
    if detail["type"] == "string_type" and isinstance(detail["input"], int | float):
        return "; put it in quotes"
    return ""


def _shown(value: object) -> str:
    if value is None:
        return "empty"
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):  # more digits than Python writes, or deeper than it goes
        return f"no {type(value).__name__} that can be shown"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _dotted(path: yaml12.Path) -> str:
    """`training.rounds`, `features[2]`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.lstrip(".") or "the document"


def _path_in(detail: ErrorDetails, tree: yaml12.Tree | None) -> yaml12.Path:
    """Where the defect stands in the text: pydantic's path has more steps, such as the tag of a union's chosen member."""
    loc = detail["loc"]
    if tree is None:
        return loc
    absent = loc[-1:] if detail["type"] == "missing" else ()
    path: yaml12.Path = ()
    for step in loc[: len(loc) - len(absent)]:
        if (*path, step) in tree.lines:
            path = (*path, step)
    return (*path, *absent)


def _known_keys(loc: yaml12.Path, model: type[BaseModel]) -> str:
    """The nearest key to the unknown one at the end of `loc`, or all keys that could stand there."""
    *parents, unknown = loc
    models = [model]
    for step in parents:
        models = _models_at(models, step)
    known = sorted({each.alias or name for one in models for name, each in one.model_fields.items()})
    near = difflib.get_close_matches(str(unknown), known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"


def _models_at(models: list[type[BaseModel]], step: str | int) -> list[type[BaseModel]]:
    """The models found one `step` further: a field's, a chosen union member, or (an index, a name) the same ones."""
    fields = [one.model_fields[str(step)].annotation for one in models if str(step) in one.model_fields]
    if fields:
        return [found for annotation in fields for found in _models_of(annotation)]
    tagged = [one for one in models if any(step in tags for tags in _tags(one))]
    return tagged or models


def _models_of(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_of(argument)


def _tags(model: type[BaseModel]) -> Iterator[tuple[object, ...]]:
    for field in model.model_fields.values():
        if get_origin(field.annotation) is Literal:
            yield get_args(field.annotation)
