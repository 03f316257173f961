"""A model's files: nothing altered, unknown or untrue gets as far as an answer."""

from __future__ import annotations

import io
import json
import os
import pickle
import platform
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io

from airworthy.errors import ReleaseError
from airworthy.training import model_files, skops_file
from airworthy.training.folders import MANIFEST, read_folder, write_folder
from airworthy.training.model_files import MODEL_FILES, LoadedModel, ModelSchema, load, load_estimator, write_model

from .models import ALGORITHMS, COLUMNS, fitted, rows

SCHEMA = ModelSchema(use_case="flights", feature_service="flights_v1", feature_digest="f" * 64, columns=COLUMNS)
HGB = ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 20})


def written(root: str, algorithm: str = HGB[0], parameters: dict[str, Any] | None = None) -> tuple[str, str]:
    estimator, encoder = fitted(algorithm, HGB[1] if parameters is None else parameters)
    golden = model_files.golden_features(rows(300, seed=4), COLUMNS)
    return write_model(
        root, estimator=estimator, encoder=encoder, schema=SCHEMA, golden=golden, card={"about": "a test"}
    )


@pytest.fixture
def store(tmp_path: Path) -> tuple[str, str]:
    return written(str(tmp_path / "models"))


@pytest.mark.parametrize(("algorithm", "parameters"), ALGORITHMS)
def test_a_written_model_answers_as_the_fitted_one(tmp_path: Path, algorithm: str, parameters: dict[str, Any]) -> None:
    digest, folder = written(str(tmp_path), algorithm, parameters)
    estimator, encoder = fitted(algorithm, parameters)
    others = rows(200, seed=8, strange=True)

    model = load(folder, digest)

    expected = estimator.predict_proba(encoder.transform(others))[:, 1]
    np.testing.assert_allclose(model.predict(others.to_pylist()), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(model.predict_table(others), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(model.predict_matrix(encoder.transform(others)), expected, rtol=0, atol=1e-9)
    record = load_estimator(folder, digest)
    np.testing.assert_allclose(record.predict_proba(encoder.transform(others))[:, 1], expected, rtol=0, atol=1e-12)


def test_what_is_written(store: tuple[str, str]) -> None:
    digest, folder = store

    model = load(folder, digest)

    assert {p.name for p in Path(folder).iterdir()} == {*MODEL_FILES, MANIFEST}
    assert (model.digest, model.model_digest, model.version, model.release) == (digest, digest, None, None)
    assert model.columns == COLUMNS
    assert list(model.columns) == list(COLUMNS)
    assert len(model.golden) == 20
    assert {r.partition("==")[0] for r in model.requirements} >= {"scikit-learn", "treelite", "skops", "numpy"}
    assert model.predict([]).shape == (0,)


def test_the_same_training_gives_the_same_digest(tmp_path: Path) -> None:
    for algorithm, parameters in ALGORITHMS:
        assert (
            written(str(tmp_path / "a"), algorithm, parameters)[0]
            == written(str(tmp_path / "b"), algorithm, parameters)[0]
        )


def test_a_memory_url_works_too() -> None:
    digest, folder = written("memory://models")

    assert folder == f"memory://models/{digest}"
    assert isinstance(load(folder, digest), LoadedModel)


@pytest.mark.parametrize("name", [*MODEL_FILES, MANIFEST])
def test_one_altered_byte_is_refused_before_anything_is_parsed(
    store: tuple[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a byte that someone changed, and parsers that must not be reached.
    digest, folder = store
    file = Path(folder) / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)

    def parsed(*_: object, **__: object) -> None:
        raise AssertionError("an altered release was parsed")

    monkeypatch.setattr(model_files.Encoder, "from_json", parsed)
    monkeypatch.setattr(model_files, "scorer_from_files", parsed)
    monkeypatch.setattr(model_files, "load_estimator_bytes", parsed)

    # When it is loaded, for serving or for an explanation; then it is refused by name.
    for loader in (load, load_estimator):
        with pytest.raises(ReleaseError, match=f"{name} of {digest[:12]} .* was altered"):
            loader(folder, digest)


@pytest.mark.parametrize("name", [*MODEL_FILES, MANIFEST])
def test_a_missing_file_is_refused(store: tuple[str, str], name: str) -> None:
    digest, folder = store
    (Path(folder) / name).unlink()

    with pytest.raises(ReleaseError, match=f"{name} of {digest[:12]} is missing"):
        load(folder, digest)


def test_a_folder_of_another_digest_is_refused(store: tuple[str, str]) -> None:
    _, folder = store

    with pytest.raises(ReleaseError, match=r"manifest\.json of 000000000000"):
        load(folder, "0" * 64)


class Bomb:
    """What a pickle runs when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def hostile_skops(path: Path) -> bytes:
    # operator.call(os.mkdir, path), in skops' own words: runs as soon as somebody trusts what the file asks for.
    def node(loader: str, module: str, name: str, **more: Any) -> dict[str, Any]:
        return {"__class__": name, "__module__": module, "__loader__": loader, **more}

    text = node("JsonNode", "builtins", "str", content=json.dumps(str(path)), is_json=True)
    arguments = node("TupleNode", "builtins", "tuple", content=[node("FunctionNode", "posix", "mkdir"), text])
    state = node("OperatorFuncNode", "operator", "call", attrs=arguments, protocol=2, _skops_version="0.13")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", json.dumps(state))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["pickle", "skops"])
@pytest.mark.parametrize("name", MODEL_FILES)
def test_planted_code_never_runs(store: tuple[str, str], tmp_path: Path, kind: str, name: str) -> None:
    # Given a file with code in it, in a folder whose digests all fit (someone who can write the store and the log).
    digest, folder = store
    trace = tmp_path / "it ran"
    _, files = read_folder(folder, digest)
    files[name] = pickle.dumps(Bomb(trace)) if kind == "pickle" else hostile_skops(trace)
    hostile_digest, hostile = write_folder(str(tmp_path / "hostile"), files)

    # When it is loaded in every way; then it is refused, or was never opened, and nothing ran.
    if name == "model.skops":
        assert isinstance(load(hostile, hostile_digest), LoadedModel)
        with pytest.raises(ReleaseError, match=r"model\.skops"):
            load_estimator(hostile, hostile_digest)
    elif name == "requirements.txt" and kind == "pickle":
        with pytest.raises(ReleaseError, match="cannot be read"):
            load(hostile, hostile_digest)
    elif name != "requirements.txt":
        with pytest.raises(ReleaseError):
            load(hostile, hostile_digest)
    assert not trace.exists()


def test_the_bombs_would_go_off(tmp_path: Path) -> None:
    content = hostile_skops(tmp_path / "skops ran")

    pickle.loads(pickle.dumps(Bomb(tmp_path / "pickle ran")))
    skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))

    assert (tmp_path / "pickle ran").exists()
    assert (tmp_path / "skops ran").exists()


def test_a_type_outside_the_list_is_refused_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, _ = fitted(*HGB)
    content = skops_file.dump_estimator(estimator)
    monkeypatch.setattr(skops_file, "TRUSTED", ())

    with pytest.raises(ReleaseError, match=r"outside the trusted list: .*TreePredictor"):
        skops_file.load_estimator_bytes(content)
    with pytest.raises(ReleaseError, match=r"outside the trusted list: .*TreePredictor"):
        skops_file.dump_estimator(estimator)


def altered(store: tuple[str, str], root: Path, **content: Any) -> tuple[str, str]:
    """A folder with other contents and digests that fit: not altered, but untrue."""
    digest, folder = store
    _, files = read_folder(folder, digest)
    for name, value in content.items():
        file = name.replace("_", ".", 1)
        files[file] = json.dumps(value(json.loads(files[file]))).encode()
    digest, folder = write_folder(str(root), files)
    return folder, digest


@pytest.mark.parametrize("by", [2e-6, -0.5, float("nan")])
def test_a_golden_vector_that_does_not_come_out_is_refused(store: tuple[str, str], tmp_path: Path, by: float) -> None:
    def untrue(golden: list[dict[str, Any]]) -> list[dict[str, Any]]:
        golden[7]["probability"] += by
        return golden

    with pytest.raises(ReleaseError, match=r"golden\.json of .*: 1 of 20 vectors differ"):
        load(*altered(store, tmp_path / "untrue", golden_json=untrue))


def test_no_golden_vectors_are_no_evidence(store: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="has no vectors"):
        load(*altered(store, tmp_path / "empty", golden_json=lambda _: []))


def test_columns_in_another_order_are_refused(store: tuple[str, str], tmp_path: Path) -> None:
    def reordered(schema: dict[str, Any]) -> dict[str, Any]:
        schema["columns"] = dict(reversed(schema["columns"].items()))
        return schema

    with pytest.raises(ReleaseError, match="do not fit together"):
        load(*altered(store, tmp_path / "order", schema_json=reordered))


def test_a_binary_of_another_treelite_is_made_again_from_the_record(store: tuple[str, str], tmp_path: Path) -> None:
    # Given a scorer that says another version wrote it, with bytes that this version must not parse.
    digest, folder = store
    _, files = read_folder(folder, digest)
    files["scorer.json"] = json.dumps({**json.loads(files["scorer.json"]), "treelite": "3.0.0"}).encode()
    files["scorer.bin"] = b"another format"
    other_digest, other = write_folder(str(tmp_path / "other"), files)

    # When it is loaded; then it answers from the recompiled record.
    others = rows(50, seed=12, strange=True)
    np.testing.assert_allclose(
        load(other, other_digest).predict_table(others), load(folder, digest).predict_table(others), atol=1e-12
    )


def test_writing_again_mends_a_damaged_folder_and_leaves_no_temporary_files(
    store: tuple[str, str], tmp_path: Path
) -> None:
    digest, folder = store
    (Path(folder) / "scorer.bin").write_bytes(b"torn")

    again = written(str(tmp_path / "models"))

    assert again == (digest, folder)
    assert isinstance(load(folder, digest), LoadedModel)
    assert not [p for p in Path(folder).iterdir() if p.name.startswith(".")]


LOADS = """
import json, sys
from importlib.metadata import packages_distributions
allowed, owners = set(json.loads(sys.argv[3])), packages_distributions()
canonical = lambda name: name.lower().replace("_", "-").replace(".", "-")
class Absent:
    def find_spec(self, name, path=None, target=None):
        of = {canonical(owner) for owner in owners.get(name.partition(".")[0], ())}
        if of and not of & allowed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from airworthy.training import model_files
model = model_files.load(sys.argv[1], sys.argv[2])
print(model.predict([g["features"] for g in model.golden]).tolist())
model_files.load_estimator(sys.argv[1], sys.argv[2])
"""


def test_with_nothing_but_the_requirements_it_loads_and_scores(store: tuple[str, str]) -> None:
    from importlib.metadata import version

    # Given a process in which no other package can be imported (libraries look for some, and do without),
    digest, folder = store
    model = load(folder, digest)
    lines = dict(line.split("==") for line in model.requirements)

    def answer(names: set[str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", LOADS, folder, digest, json.dumps(sorted(names | {"airworthy"}))]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    # when it loads the model; then it answers as this one does.
    found = answer(set(lines))
    assert found.returncode == 0, found.stderr[-2000:]
    expected = model.predict([g["features"] for g in model.golden])
    np.testing.assert_allclose(json.loads(found.stdout), expected, atol=1e-12)
    # And the requirements are needed: without one of them it does not.
    assert "treelite" in answer(set(lines) - {"treelite"}).stderr
    assert all(version(name) == pinned for name, pinned in lines.items())
    first = (Path(folder) / "requirements.txt").read_text().splitlines()[0]
    assert first == f"# Python {platform.python_version()}"
