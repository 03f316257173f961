"""Validation: Great Expectations on raw rows, the same rules for single rows, Data Docs."""

from airworthy.validation.data_docs import write_data_docs
from airworthy.validation.expectations import failures_of, validate
from airworthy.validation.row_rules import row_rule

__all__ = ["failures_of", "row_rule", "validate", "write_data_docs"]
