"""Why a run went as it did: causes, with their evidence and what to do next, from the database and the server process's log."""
