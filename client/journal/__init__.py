"""What a site must never forget, on its own disk before a word of it leaves."""
