"""Synthetic payments of several banks with fraud that moves between them, and what banks gain by learning from it together."""
