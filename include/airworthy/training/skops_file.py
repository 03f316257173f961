"""The record of a model: its estimator in skops' format. Our own fixed list of trusted types; no pickle anywhere."""

from __future__ import annotations

import io
import json
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from airworthy.errors import ReleaseError

# Beyond what skops trusts by itself. A type is added here by a person who has read what its state can do, never by
# asking a file which types it would like.
TRUSTED = (
    "functools.partial",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils.validation.check_array",
)
SCHEMA = "schema.json"


def dump_estimator(estimator: Any) -> bytes:
    """A fitted estimator as skops bytes, the same bytes for the same estimator.

    Raises:
        ReleaseError: it holds types that we do not trust, so that nobody could load it.
    """
    import skops.io

    content = skops.io.dumps(estimator)
    unknown = sorted(set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED))
    if unknown:
        raise ReleaseError(
            f"{type(estimator).__name__} holds types outside the trusted list: {', '.join(unknown[:5])}",
            next_step="use an algorithm of the reference documentation; new types are added to TRUSTED after a review",
        )
    return _canonical(content)


def load_estimator_bytes(content: bytes) -> Any:
    """The estimator of skops bytes, whose digest the caller has checked.

    Raises:
        ReleaseError: no skops file, or a type outside the trusted list; nothing of it was run.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.loads(content, trusted=list(TRUSTED))
    except UntrustedTypesFoundException as error:
        raise ReleaseError(
            f"model.skops holds types outside the trusted list: {str(error)[:300]}",
            next_step="do not use this file; find out who wrote it",
        ) from error
    except (BadZipFile, KeyError, ValueError, TypeError) as error:
        raise ReleaseError(
            f"model.skops cannot be read: {error}", next_step="train and release again with the locked versions"
        ) from error


def _canonical(content: bytes) -> bytes:
    # skops names objects by their address in memory and zip entries by the time of writing. Numbered in the order of
    # appearance and dated alike, two fits of the same data are the same file, and `reproduce` can compare digests.
    with ZipFile(io.BytesIO(content)) as source:
        schema = json.loads(source.read(SCHEMA))
        files: dict[str, str] = {}
        _renumber(schema, {}, files)
        entries = {files[n]: source.read(n) for n in source.namelist() if n != SCHEMA}
    entries[SCHEMA] = json.dumps(schema, separators=(",", ":")).encode()
    target = io.BytesIO()
    with ZipFile(target, "w", ZIP_STORED) as out:
        for name in sorted(entries):
            out.writestr(ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), entries[name])
    return target.getvalue()


def _renumber(node: Any, ids: dict[int, int], files: dict[str, str]) -> None:
    if isinstance(node, list):
        for item in node:
            _renumber(item, ids, files)
    if not isinstance(node, dict):
        return
    if "__loader__" in node:
        if node["__loader__"] == "JsonNode":
            # Whether two equal constants are one object is an accident of the interpreter.
            node.pop("__id__", None)
        elif "__id__" in node:
            node["__id__"] = ids.setdefault(node["__id__"], len(ids) + 1)
        if isinstance(node.get("file"), str):
            suffix = node["file"].rpartition(".")[2]
            node["file"] = files.setdefault(node["file"], f"{len(files) + 1:06d}.{suffix}")
    for item in node.values():
        _renumber(item, ids, files)
