"""From the last round of a run to a candidate in the registry: weights, scorable model, metrics, all by content."""

from __future__ import annotations

from dataclasses import asdict

from coordinator.bootstrap import Centre
from coordinator.registry.export import Exportable, onnx_pieces, safetensors_pieces
from coordinator.registry.signatures import sign_files
from coordinator.registry.versions import SCORING_FILE, WEIGHTS_FILE, ModelVersion, register
from coordinator.rounds.driver import Finished
from coordinator.rounds.question import RunDocuments
from protos.log_made import CONTRACT_FILE, PLAN_FILE
from strategies.encoding import vector_digest
from strategies.pieces import Bytes


def publish(centre: Centre, documents: RunDocuments, finished: Finished) -> ModelVersion:
    """Register the model of a finished run as the next candidate version under the plan's name, signed where the coordinator has a key for that."""
    features = documents.features
    source = Exportable(
        features=features,
        scaling=finished.scaling,
        model=documents.plan.dense_model(features.width),
        vector=finished.model,
        plan_digest=documents.plan.digest,
        contract=documents.contract.ref,
    )
    files: dict[str, Bytes] = {
        WEIGHTS_FILE: safetensors_pieces(source),
        SCORING_FILE: onnx_pieces(source),
        PLAN_FILE: documents.plan.canonical,
        CONTRACT_FILE: documents.contract.canonical,
    }
    return register(
        centre.engine,
        centre.artifacts,
        name=documents.plan.name,
        run_id=documents.run,
        files=files,
        signed=sign_files(centre.settings, files),
        weights=vector_digest(finished.model),
        metrics=None if finished.metrics is None else asdict(finished.metrics),
        panels=None if finished.panels is None else asdict(finished.panels),
        clock=centre.clock,
    )
