"""The site's own account of what was released of its populations, and what charges it."""
