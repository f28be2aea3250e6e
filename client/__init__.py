"""The agent that a subsidiary runs next to its own data. Never imports `coordinator`."""
