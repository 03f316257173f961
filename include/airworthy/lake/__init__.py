"""Delta tables by interval, the landing zone and quarantine."""
