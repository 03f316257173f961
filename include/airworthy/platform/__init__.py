"""Starts and drives the embedded services; the demo. Production starts the same programs by other means."""
