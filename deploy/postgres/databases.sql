-- Run once, when PostgreSQL's volume is new: a database for each part beside Airflow's.
CREATE DATABASE mlflow;
CREATE DATABASE feast;
CREATE DATABASE ledger;
CREATE DATABASE online;
