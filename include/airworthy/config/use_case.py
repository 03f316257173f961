"""A use case: one prediction problem as its ``use_case.yaml``, read and checked."""

from __future__ import annotations

import importlib
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import yaml
from pydantic import ValidationError, model_validator

from airworthy.config.data_spec import DataRange, Prediction, Problem, Source
from airworthy.config.gate_spec import Gate
from airworthy.config.operations_spec import Delivery, Monitoring
from airworthy.config.settings import get_settings
from airworthy.config.spec import Name, Spec
from airworthy.config.training_spec import Training
from airworthy.errors import ConfigurationError

WEEKLY = "0 3 * * 1"


class UseCase(Spec):
    """One prediction problem.

    Attributes:
        name: ``flight_delays``; prefix of its DAGs, tables, feature views and models.
        package: Import path of the package that holds the YAML, ``source.py`` and ``features.py``.
    """

    name: str = Name
    title: str
    owner: str
    problem: Problem
    data: DataRange
    sources: dict[str, Source]
    prediction: Prediction
    training: Training
    gate: Gate = Gate()
    monitoring: Monitoring = Monitoring()
    delivery: Delivery = Delivery()
    package: str = ""

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        if self.prediction.source not in self.sources:
            raise ValueError(
                f"prediction.source {self.prediction.source!r} is not one of the sources {sorted(self.sources)}"
            )
        if not self.training.feature_service.startswith(f"{self.name}_v"):
            raise ValueError(f"training.feature_service must be named {self.name}_v<N>")
        shown = sorted(set(self.gate.shown_columns) & set(self.sources[self.prediction.source].masks))
        if shown:
            raise ValueError(f"gate.slices or gate.groups names {shown}, which is tagged: a verdict shows the values")
        missing = set(self.prediction.request) - set(self.prediction.optional) - set(self.prediction.example)
        if missing:
            raise ValueError(f"prediction.example lacks {sorted(missing)}")
        return self

    @property
    def training_schedule(self) -> str | None:
        """Cron of the trainings that nothing else asks for; None for a replayed use case that names none."""
        return self.training.schedule or (None if self.data.live_from else WEEKLY)

    def source_module(self) -> ModuleType:
        """``source.py``: one function ``clean_<source>(raw: ibis.Table) -> ibis.Table`` for each source."""
        return importlib.import_module(f"{self.package}.source")

    def features_module(self) -> ModuleType:
        """``features.py``: ``VIEWS``, a list of FeatureView, and ``request_features(request) -> ibis.Table``."""
        return importlib.import_module(f"{self.package}.features")

    def suite_path(self, table: str) -> Path:
        """The GX suite of a table: beside the package in ``expectations/`` or in the project's suites folder."""
        package_file = importlib.import_module(self.package).__file__
        own = Path(str(package_file)).parent / "expectations" / f"{table}.json"
        return own if own.exists() else get_settings().expectations / self.name / f"{table}.json"

    def table(self, layer: str, name: str) -> str:
        """A table's name, ``<use_case>/<layer>/<name>``."""
        return f"{self.name}/{layer}/{name}"


def load_use_case(package: str) -> UseCase:
    """Read the ``use_case.yaml`` of a package, and the overlay beside it that the settings name.

    Raises:
        ConfigurationError: no such package or file, or a key or value that the schema refuses; the message names it.
    """
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise ConfigurationError(
            f"use case package {package!r} cannot be imported: {error}", next_step="correct AIRWORTHY_USE_CASES"
        ) from error
    path = Path(str(module.__file__)).parent / "use_case.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        overlay = path.with_name(f"{get_settings().overlay}.yaml")
        if overlay != path and overlay.exists():
            content = _laid_over(content, yaml.safe_load(overlay.read_text(encoding="utf-8")))
        return UseCase.model_validate({**content, "package": package})
    except (OSError, TypeError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}", next_step="write a use_case.yaml; `airworthy schema` prints its schema"
        ) from error
    except ValidationError as error:
        lines = [f"- {'.'.join(str(p) for p in e['loc']) or 'use case'}: {e['msg']}" for e in error.errors()[:10]]
        raise ConfigurationError(
            f"{path} does not fit the schema:\n" + "\n".join(lines),
            next_step="correct the keys; `airworthy schema` prints the schema",
        ) from error


def _laid_over(content: Any, overlay: Any) -> Any:
    """The content with what an overlay says otherwise, key by key."""
    if not (isinstance(content, dict) and isinstance(overlay, dict)):
        return overlay
    return content | {key: _laid_over(content.get(key), value) for key, value in overlay.items()}


@lru_cache(maxsize=1)
def use_cases() -> dict[str, UseCase]:
    """All configured use cases by name. Raises ConfigurationError for the first that cannot be read."""
    packages = [p.strip() for p in get_settings().use_cases.split(",") if p.strip()]
    return {case.name: case for case in map(load_use_case, packages)}


def get_use_case(name: str) -> UseCase:
    """A use case by name. Raises ConfigurationError, with the names there are."""
    try:
        return use_cases()[name]
    except KeyError:
        raise ConfigurationError(
            f"there is no use case {name!r}",
            next_step=f"choose one of {', '.join(sorted(use_cases()))}, or add its package to AIRWORTHY_USE_CASES",
        ) from None
