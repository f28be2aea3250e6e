"""What is wrong with a site's machine, found before a run finds it: each check says what it saw, the evidence, and the next command."""
