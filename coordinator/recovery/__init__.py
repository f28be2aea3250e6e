"""Backup and restore of the coordinator's database, its artifacts and its log."""
