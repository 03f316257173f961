"""Airworthy: the platform between landed data and a monitored model, in plain Python.

Nothing here imports Airflow: the files under ``dags/`` wire these functions into DAGs.
"""
