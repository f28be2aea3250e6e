"""The rounds of a run: how they are driven, and how their state is kept."""
