"""Monitoring at the centre: windows from where models run, what they say beside the reference, alarms with a cause, and the alerts that tell people."""
