"""The scoring service: models behind the Open Inference Protocol v2, with reasons, canaries and a log of decisions."""
