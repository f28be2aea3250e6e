"""Which model a plan is about: its kind and widths, over inputs that the features decide."""

from __future__ import annotations

from typing import Annotated, Literal, assert_never

from pydantic import Field

from protos.documents import Part
from strategies.models import DenseModel


class LogisticModel(Part):
    """Logistic regression."""

    kind: Literal["logistic"]


class MlpModel(Part):
    """A multi-layer perceptron; `hidden` holds the widths of its ReLU layers, inputs first."""

    kind: Literal["mlp"]
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=8)]


AnyModel = Annotated[LogisticModel | MlpModel, Field(discriminator="kind")]


def dense(model: LogisticModel | MlpModel, inputs: int) -> DenseModel:
    """The model over `inputs` encoded features (`FeatureSpec.width`)."""
    match model:
        case LogisticModel():
            return DenseModel(inputs=inputs, hidden=())
        case MlpModel(hidden=hidden):
            return DenseModel(inputs=inputs, hidden=hidden)
        case unreachable:
            assert_never(unreachable)
