"""The scoring service: one model behind the Open Inference Protocol v2."""

from coordinator.deploy.scoring.app import create_app, serve

__all__ = ["create_app", "serve"]
