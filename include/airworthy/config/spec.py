"""What every section of ``use_case.yaml`` is made of: frozen models, unknown keys refused."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ColumnType = Literal["string", "int64", "float64", "timestamp", "bool"]
Tag = Literal["personal", "secret"]
Name = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)


class Spec(BaseModel):
    """Base of the specification: frozen, strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
