"""From an alarm to a drafted plan: what the history of runs advises, what the accounts bear, what is to be gained, and what became of each draft."""
