"""Alerts: messages to people and their systems, by webhook and e-mail, written in the transaction of what they are about."""
