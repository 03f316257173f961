"""The files of a model, and the model loaded from them: digest first, then golden parity, then answers.

========================  =====================================================================
``model.skops``           the fitted estimator: the record; serving never opens it
``scorer.json``, ``.bin`` the compiled form; of a candidate without one, why there is none
``encoder.json``          categories, means and scales, as data
``schema.json``           model inputs in order with types; feature service and its digest
``golden.json``           vectors as raw features, with the probabilities that they must give
``requirements.txt``      what loads and scores it, ``name==version``; the Python as a comment
``card.json``             what it was trained on and how
========================  =====================================================================
"""

from __future__ import annotations

import json
import math
import platform
from dataclasses import dataclass
from importlib.metadata import requires, version
from typing import Any

import numpy as np
import pyarrow as pa
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from airworthy.config import get_settings
from airworthy.errors import ReleaseError
from airworthy.records import Record, Release
from airworthy.training.compiling import RecordedScorer, check_parity, compile_scorer, scorer_of
from airworthy.training.encoder import Encoder
from airworthy.training.folders import read_folder, write_folder
from airworthy.training.scorer import NoCompiledFormError, Scorer, scorer_from_files
from airworthy.training.skops_file import dump_estimator, load_estimator_bytes

MODEL_FILES = (
    "model.skops",
    "scorer.json",
    "scorer.bin",
    "encoder.json",
    "schema.json",
    "golden.json",
    "requirements.txt",
    "card.json",
)
# What the code that loads and scores imports; what these need in turn is found.
NEEDED = (
    "deltalake", "fsspec", "numpy", "pyarrow", "pydantic", "pydantic-settings", "pyyaml", "scikit-learn", "scipy", "skops",
    "treelite",
)  # fmt: skip
GOLDEN_PARITY = 1e-6
GOLDEN_ROWS = 18
MADE_UP = 2


class ModelSchema(Record):
    """What goes into a model.

    Attributes:
        columns: Model inputs in order, name to Ibis type.
        feature_digest: Digest of the feature definitions that it was trained on.
        view_digests: The same for each feature view, and for the request features under ``request``.
    """

    use_case: str
    feature_service: str
    feature_digest: str
    view_digests: dict[str, str] = {}  # noqa: RUF012 - a frozen record
    columns: dict[str, str]


@dataclass(frozen=True)
class LoadedModel:
    """A model that may answer: its files were checked and its golden vectors came out.

    Attributes:
        model_digest: Digest over the model's files; what a verdict is about.
        schema: Its inputs.
        encoder, scorer: From named features to probabilities.
        golden: The vectors, ``{"features": {...}, "probability": p}`` each.
        card: What it was trained on and how.
        requirements: ``name==version`` lines.
        release: The release that it was loaded from; None for a candidate.
    """

    model_digest: str
    schema: ModelSchema
    encoder: Encoder
    scorer: Scorer
    golden: tuple[dict[str, Any], ...]
    card: dict[str, Any]
    requirements: tuple[str, ...]
    release: Release | None = None

    @property
    def digest(self) -> str:
        """The release's digest; a candidate's model digest."""
        return self.release.digest if self.release else self.model_digest

    @property
    def version(self) -> int | None:
        """Version of the registered model, if it is released."""
        return self.release.version if self.release else None

    @property
    def columns(self) -> dict[str, str]:
        """Model inputs in order, name to type."""
        return self.schema.columns

    def for_requests(self) -> None:
        """Get ready to answer requests quickly (``Scorer.for_requests``), and see that the golden vectors come out so too.

        Raises:
            ReleaseError: they do not.
        """
        self.scorer.for_requests()
        _check_golden(self, "memory")

    def predict(self, values: list[dict[str, Any]]) -> np.ndarray:
        """Probabilities for features by name.

        Args:
            values: One dict for each prediction, with every column (None where nothing is known).

        Returns:
            float64 [len(values)].

        Raises:
            DataRejectedError: a feature is absent, of another kind, or infinite.
        """
        if not values:
            return np.empty(0)
        return self.scorer.predict(self.encoder.finish(self.encoder.numbers_of(values)))

    def predict_table(self, table: pa.Table) -> np.ndarray:
        """Probabilities for the rows of a table that has every column; float64 [rows]."""
        return self.scorer.predict(self.encoder.transform(table))

    def predict_matrix(self, matrix: np.ndarray) -> np.ndarray:
        """Probabilities for an encoded matrix, float64 [rows, encoder.width]; float64 [rows]."""
        return self.scorer.predict(matrix)


def models_url() -> str:
    """Where the model folders are."""
    return f"{get_settings().release_url}/models"


def write_model(
    root_url: str,
    *,
    estimator: Any,
    encoder: Encoder,
    schema: ModelSchema,
    golden: list[dict[str, Any]],
    card: dict[str, Any],
    requirements: list[str] | None = None,
) -> tuple[str, str]:
    """Write a fitted model as a content-addressed folder.

    Args:
        root_url: Where model folders are, usually :func:`models_url`.
        estimator: A fitted binary classifier; without a compiled form its files can be judged, and never serve.
        encoder: What made its matrix.
        schema: Its inputs.
        golden: Raw features of some vectors; their probabilities are computed here.
        card: JSON values. Nothing of the wall clock belongs here: the same training gives the same digest.
        requirements: ``name==version`` lines; by default of what is installed and needed.

    Returns:
        The model digest and the folder's URL.

    Raises:
        ReleaseError: types outside the trusted list, or the compiled form differs.
    """  # fmt: skip
    scorer = scorer_of(estimator, encoder.width)
    matrix = encoder.finish(encoder.numbers_of(golden))
    probabilities = check_parity(scorer, estimator, matrix)
    about, content = scorer.to_files()
    vectors = [
        {"features": {n: _plain(v[n]) for n in schema.columns}, "probability": float(p)}
        for v, p in zip(golden, probabilities, strict=True)
    ]
    files = {
        "model.skops": dump_estimator(estimator),
        "scorer.json": about,
        "scorer.bin": content,
        "encoder.json": encoder.to_json().encode(),
        "schema.json": _json(schema.to_json()),
        "golden.json": _json(vectors),
        "requirements.txt": "\n".join(
            [f"# Python {platform.python_version()}", *(requirements or installed_requirements()), ""]
        ).encode(),
        # Sorted: the order of its keys may have been through the ledger or XCom, which do not keep it.
        "card.json": json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode(),
    }
    return write_folder(root_url, files)


def installed_requirements() -> list[str]:
    """``name==version`` of what loads and scores a model, and of all that these need in turn, as installed here."""
    found: dict[str, str] = {}
    waiting = [*NEEDED]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found[name] = version(name)
        for line in requires(name) or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                waiting.append(wanted.name)
    return sorted(f"{name}=={installed}" for name, installed in found.items())


def golden_features(table: pa.Table, columns: dict[str, str]) -> list[dict[str, Any]]:
    """About 20 vectors: rows spread over the table, then MADE_UP: with nothing known, with categories never seen."""
    picks = sorted({int(i) for i in np.linspace(0, table.num_rows - 1, GOLDEN_ROWS)}) if table.num_rows else []
    rows: list[dict[str, Any]] = table.select(list(columns)).take(pa.array(picks, pa.int64())).to_pylist()
    nothing: dict[str, Any] = dict.fromkeys(columns)
    strange = {name: "a value never seen" if type_ == "string" else None for name, type_ in columns.items()}
    return [*rows, nothing, strange]


def load(folder: str, digest: str, *, recorded: bool = False) -> LoadedModel:
    """Load a model's folder.

    Args:
        folder, digest: The model.
        recorded: See :func:`from_files`.

    Raises:
        ReleaseError: missing, altered, of another format, without a compiled form, or its golden vectors do not come out.
    """
    _, files = read_folder(folder, digest)
    return from_files(files, digest, folder, recorded=recorded)


def from_files(files: dict[str, bytes], model_digest: str, where: str, *, recorded: bool = False) -> LoadedModel:
    """The model of files whose digests were checked; holds it against its golden vectors.

    Args:
        files: By name.
        model_digest: Digest over them.
        where: For people.
        recorded: Take the recorded estimator where there is no compiled form: to measure a candidate, never to serve.

    Raises:
        ReleaseError: a file is missing or of another format, there is no compiled form, or a golden vector does not come
            out.
    """
    absent = sorted(set(MODEL_FILES) - set(files))
    if absent:
        raise ReleaseError(
            f"{where} has no {', '.join(absent)}: it is no model folder", next_step="give the folder of a model"
        )
    try:
        model = LoadedModel(
            model_digest=model_digest,
            schema=ModelSchema.model_validate_json(files["schema.json"]),
            encoder=Encoder.from_json(files["encoder.json"].decode()),
            scorer=_scorer(files, recorded=recorded),
            golden=tuple(json.loads(files["golden.json"])),
            card=json.loads(files["card.json"]),
            requirements=tuple(
                line for line in files["requirements.txt"].decode().split("\n") if line and not line.startswith("#")
            ),
        )
    except ValueError as error:
        raise ReleaseError(
            f"a file of {model_digest[:12]} in {where} cannot be read: {error}", next_step="train and release again"
        ) from error
    _check_shape(model, where)
    _check_golden(model, where)
    return model


def _scorer(files: dict[str, bytes], *, recorded: bool) -> Scorer:
    try:
        # A binary of another treelite is not parsed: the record is compiled again, and the golden vectors decide.
        return scorer_from_files(files["scorer.json"], files["scorer.bin"]) or compile_scorer(
            load_estimator_bytes(files["model.skops"])
        )
    except NoCompiledFormError as error:
        if not recorded:
            raise
        width = int(json.loads(files["scorer.json"])["width"])
        return RecordedScorer(load_estimator_bytes(files["model.skops"]), width, error)


def load_estimator(folder: str, digest: str) -> Any:
    """The scikit-learn estimator of a model or release folder, for explanations; serving never needs it.

    Raises:
        ReleaseError: missing, altered, or with types outside the trusted list.
    """
    return load_estimator_bytes(read_folder(folder, digest)[1]["model.skops"])


def _check_shape(model: LoadedModel, where: str) -> None:
    if [c.name for c in model.encoder.columns] != list(model.columns) or model.encoder.width != model.scorer.width:
        raise ReleaseError(
            f"schema, encoder and scorer of {model.model_digest[:12]} in {where} do not fit together",
            next_step="train and release again",
        )


def _check_golden(model: LoadedModel, where: str) -> None:
    if not model.golden:
        raise ReleaseError(
            f"golden.json of {model.model_digest[:12]} in {where} has no vectors", next_step="train and release again"
        )
    expected = np.array([float(g["probability"]) for g in model.golden])
    difference = np.abs(model.predict([g["features"] for g in model.golden]) - expected)
    # Written so that NaN, which compares false, is refused.
    wrong = int((~(difference <= GOLDEN_PARITY)).sum())
    if wrong:
        raise ReleaseError(
            f"golden.json of {model.model_digest[:12]} in {where}: {wrong} of {len(expected)} vectors "
            f"differ from the recorded answers, by up to {np.nan_to_num(difference, nan=np.inf).max():.3g}",
            next_step=f"install the release's requirements.txt ({', '.join(model.requirements[:6])}), or train again",
        )


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _json(content: Any) -> bytes:
    return json.dumps(
        content, indent=1, sort_keys=isinstance(content, list), ensure_ascii=False, allow_nan=False
    ).encode()
