"""`python -m client.cli` is `covenant-agent`."""

from client.cli import main

main()
