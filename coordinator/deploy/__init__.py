"""From a registered model to answers about applications."""
