"""How the log of a federation is called."""


def origin_of(federation: str) -> str:
    """Its name in the notes of its heads."""
    return f"{federation}/log"
