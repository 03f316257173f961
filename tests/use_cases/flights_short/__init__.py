"""The flights with a shorter history, for the end-to-end test: the same sources, features and suites."""
