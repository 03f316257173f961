"""The one place that runs Great Expectations: a suite over rows, in an ephemeral context of its own."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa

from airworthy.errors import ConfigurationError
from airworthy.validation.suites import Expectation, Suite


def run(suite: Suite, rows: pa.Table) -> list[dict[str, Any]]:
    """GX's results in the order of the suite's expectations: ``success`` and ``result``, as GX gives them.

    Raises:
        ConfigurationError: the suite is none of GX, or one of its expectations cannot be evaluated.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    configured = [
        {"type": e.type, "kwargs": e.kwargs, "severity": e.severity, "meta": {**e.meta, "position": number}}
        for number, e in enumerate(suite.expectations)
    ]
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            progress_bars=ProgressBarsConfig(globally=False), analytics_enabled=False,
        ),
    )  # fmt: skip
    try:
        expectations = gx.ExpectationSuite(name=suite.name, expectations=configured)
    except Exception as error:  # GX raises its own and pydantic's errors here, with no common base
        raise ConfigurationError(
            f"the suite {suite.path} is not one of GX: {str(error)[:300]}", next_step="correct the suite"
        ) from error
    source = context.data_sources.add_pandas("pandas").add_dataframe_asset("rows")
    # Integers beside an empty cell become floats: pandas' other forms of them cannot be compared with a column.
    batch = source.add_batch_definition_whole_dataframe("interval").get_batch({"dataframe": rows.to_pandas()})
    answer = batch.validate(expectations, result_format={"result_format": "COMPLETE"})
    found: dict[int, dict[str, Any]] = {}
    for result in answer.results:
        position = int(result.expectation_config.meta["position"])
        _check_evaluated(suite, suite.expectations[position], result.exception_info)
        found[position] = {"success": bool(result.success), "result": dict(result.result)}
    silent = [e.words for number, e in enumerate(suite.expectations) if number not in found]
    if silent:
        raise ConfigurationError(
            f"GX gave no answer to {silent[0]} of {suite.path}", next_step="name each expectation once"
        )
    return [found[number] for number in range(len(suite.expectations))]


def _check_evaluated(suite: Suite, expectation: Expectation, info: dict[str, Any]) -> None:
    messages = [
        str(i.get("exception_message"))
        for i in [info, *info.values()]
        if isinstance(i, dict) and i.get("raised_exception")
    ]
    if messages:
        raise ConfigurationError(
            f"{expectation.words} of {suite.path} cannot be evaluated: {messages[0][:300]}",
            next_step="correct the suite",
        )
