"""The site as a witness of the transparency log: what it signs, remembers, copies, and asks of others."""
