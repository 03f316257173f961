"""A use case for the tests of features: pushed readings with a ttl, a snapshot, a rolling window, an integer key."""
