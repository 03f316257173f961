"""A use case whose rows are in a database: will this ticket be escalated?"""
