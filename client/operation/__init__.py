"""What an operator sees of an agent, and how it is stopped: state, metrics, history, draining."""
