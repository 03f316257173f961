"""Validation: Great Expectations at every stage, the same rules for single rows, Data Docs, masks of tagged columns."""

from airworthy.validation.data_docs import write_data_docs
from airworthy.validation.expectations import failures_of, validate
from airworthy.validation.row_rules import row_rule
from airworthy.validation.stages import StageChecks, validate_stage, validation_rows
from airworthy.validation.tags import inherited

__all__ = [
    "StageChecks",
    "failures_of",
    "inherited",
    "row_rule",
    "validate",
    "validate_stage",
    "validation_rows",
    "write_data_docs",
]
