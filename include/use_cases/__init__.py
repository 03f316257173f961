"""Use cases: what a user of the platform writes for one prediction problem, one package each."""
