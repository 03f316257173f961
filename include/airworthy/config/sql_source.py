"""How ``use_case.yaml`` describes a source that is a database."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SqlSource(BaseModel):
    """Rows of a database, extracted one interval at a time: those with ``start <= watermark < end``.

    Attributes:
        url_env: Environment variable with the SQLAlchemy URL. The URL itself never stands in the YAML.
        table: Table or view, such as ``shop.orders``; or
        query: A SELECT, which must return the declared columns and the watermark.
        watermark: Timestamp column that says to which interval a row belongs. It must not change later.
        complete: When an interval is complete: ``watermark`` when the newest one has passed its end by ``lag``;
            ``clock`` when data time has (for a source that may be quiet for a day).
        lag: How late a row may be committed after its watermark.
        recheck_days: So many of the newest complete days are extracted again, every hour, to find late changes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url_env: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    table: str | None = Field(default=None, pattern=r"^[^.]+(\.[^.]+)?$")
    query: str | None = None
    watermark: str
    complete: Literal["watermark", "clock"] = "watermark"
    lag: timedelta = Field(default=timedelta(0), ge=timedelta(0))
    recheck_days: int = Field(default=3, ge=0)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("give either table or query")
        return self
