"""What a scoring service tells of its decisions: counts of calendar windows, released once, with noise of the place's own (docs/adr/0036)."""
