"""The names that a form offers to pick from: a small file, since a form is made each time that its DAG file is parsed.

What parses DAG files then needs neither the ledger nor the libraries of the feature definitions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import fsspec

from airworthy.config import UseCase, get_settings


def offer_inputs(use_case: UseCase, names: Iterable[str]) -> None:
    """Write down the model inputs of the use case's feature service; a later training set's replace them."""
    from airworthy.training.folders import put  # it loads what a reader has no need of

    put(_url(use_case), json.dumps(sorted(names)).encode())


def offered_inputs(use_case: UseCase) -> list[str]:
    """Model inputs of the use case's feature service; none before its first training set.

    Raises:
        OSError: the place of the reports does not answer.
    """
    filesystem, path = fsspec.core.url_to_fs(_url(use_case))
    try:
        return [str(name) for name in json.loads(filesystem.cat_file(path))]
    except FileNotFoundError:
        return []


def _url(use_case: UseCase) -> str:
    return f"{get_settings().docs_url}/forms/{use_case.name}/{use_case.training.feature_service}.json"
