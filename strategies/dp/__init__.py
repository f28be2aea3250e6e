"""Differential privacy: what is protected, what a release costs, and the noise that makes it so (docs/privacy-model.md)."""
