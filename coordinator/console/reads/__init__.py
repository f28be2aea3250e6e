"""What pages read: queries with bounds, paged by key, that parse no document which a list does not show."""
