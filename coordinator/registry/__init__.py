"""Finished models: their bytes by content, their exports and their versions."""
