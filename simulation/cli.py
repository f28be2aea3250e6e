"""Commands of the simulation floor."""
import typer
def register(app: typer.Typer) -> None:
    """Add."""
