"""The centre: it launches runs, drives their rounds and keeps what comes of them. Never imports `client`."""
