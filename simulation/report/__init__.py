"""What a simulated run is worth, from its `SimulationResult` alone: gates, JUnit XML, Markdown and one HTML page."""
