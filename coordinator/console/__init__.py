"""The web console: pages for officers and engineers, served by the coordinator that leads."""
