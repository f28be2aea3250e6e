"""Sites that lie, played against a plan: what they can do, and what each defence costs and saves. Nothing here is part of a product that runs."""
