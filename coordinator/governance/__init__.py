"""Who decided what, and the log that lets others check it."""
