"""The schema's history, packaged with the code that needs it."""
