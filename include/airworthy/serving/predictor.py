"""From a checked request to an answer: look the features up, score, write to the prediction log, then answer."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from airworthy import features
from airworthy.config import Settings, UseCase
from airworthy.errors import AirworthyError, DataRejectedError, NoChampionError, ServiceUnavailableError
from airworthy.features import FeatureVector, OnlineFeatures
from airworthy.ledger.clock import wall_now
from airworthy.serving.cache import ReleaseCache
from airworthy.serving.champion import ChampionKeeper, Serving, warm_up
from airworthy.serving.contract import Prediction, plain, request_model
from airworthy.serving.contract import example as sample
from airworthy.serving.spool import Spool
from airworthy.training.model_files import LoadedModel

log = logging.getLogger(__name__)


class Predictor:
    """All that one use case needs to answer; safe under many threads.

    Args:
        use_case: The use case.
        settings: The settings.
        stage: Serve this release whatever the promotion log says (staging check).
    """

    def __init__(self, use_case: UseCase, settings: Settings, *, stage: str | None = None) -> None:
        self.use_case = use_case
        self.staged = stage is not None
        cache = ReleaseCache(settings.var / "serving_cache", use_case.name)
        self.keeper = ChampionKeeper(use_case, cache, self._warm, self._unfit, stage=stage)
        self._spool = Spool(settings.spool, use_case.name, settings.service_instance)
        self._threshold = use_case.problem.threshold
        self._definitions = features.feature_digest(use_case)
        self._features: OnlineFeatures | None = None
        self._published: dict[str, str] = {}
        self._features_lock = threading.Lock()

    def start(self) -> None:
        """Begin to follow the champion."""
        self.keeper.start()

    def stop(self) -> None:
        """Stop following and close the spool."""
        self.keeper.stop()
        self._spool.close()

    def predict(self, requests: Sequence[BaseModel]) -> list[Prediction]:
        """Answer requests that fit the use case's request model.

        Raises:
            NoChampionError: nothing serves yet.
            ServiceUnavailableError: the online store does not answer, or the prediction log cannot be written.
        """
        started = time.perf_counter()
        serving = self.serving()
        moment = self.keeper.moment()
        fields = [request.model_dump() for request in requests]
        vectors = self._lookup(fields, moment)
        return self._answered(serving, fields, vectors, moment, started)

    def score(self, rows: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Answer rows of the model's own inputs, as they are given: nothing is looked up.

        Args:
            rows: Every column of the model, None where nothing is known.

        Raises:
            DataRejectedError: a feature is absent, of another kind, or infinite; it is named.
            NoChampionError, ServiceUnavailableError: as ``predict``.
        """
        started = time.perf_counter()
        serving = self.serving()
        vectors = [FeatureVector({name: row[name] for name in serving.model.columns}) for row in rows]
        nothing: list[dict[str, Any]] = [{}] * len(rows)
        return self._answered(serving, nothing, vectors, self.keeper.moment(), started, given=True)

    def _answered(
        self,
        serving: Serving,
        fields: Sequence[dict[str, Any]],
        vectors: Sequence[FeatureVector],
        moment: datetime,
        started: float,
        *,
        given: bool = False,
    ) -> list[Prediction]:
        """Score, keep, answer: nothing is answered that is not in the prediction log."""
        probabilities = [float(p) for p in serving.model.predict([v.values for v in vectors])]
        answers = [self._answer(serving, v, p) for v, p in zip(vectors, probabilities, strict=True)]
        elapsed = round((time.perf_counter() - started) * 1000, 3)
        common = {
            "at": wall_now().isoformat(), "prediction_time": moment.isoformat(), "latency_ms": elapsed,
            "features_from": "caller" if given else "lookup",
        }  # fmt: skip
        records = [
            {**self._record(serving, f, v, a), **common} for f, v, a in zip(fields, vectors, answers, strict=True)
        ]
        self._spool.append(records)
        return answers

    def serving(self) -> Serving:
        """What answers now.

        Raises:
            NoChampionError: nothing does; the reason is in it.
            ServiceUnavailableError: the champion was trained on other feature definitions than those deployed.
        """
        serving, unfit = self.keeper.serving, self.keeper.unfit
        if serving is not None and unfit:
            raise ServiceUnavailableError(unfit, next_step=self._next_step())
        if serving is None:
            what = f"{self.use_case.name} has no champion: {self.why_not()}"
            raise NoChampionError(what, next_step=self._next_step())
        return serving

    def why_not(self) -> str:
        """Why nothing answers, in words."""
        if self.keeper.error:
            return self.keeper.error
        if self.keeper.ledger_away:
            return "the ledger does not answer and no release is kept on this disk"
        return "no release was ever promoted, or the first one is still being loaded"

    def _next_step(self) -> str:
        if self.keeper.ledger_away:
            return "bring the database of AIRWORTHY_LEDGER_DSN back; the service goes on by itself"
        name = self.use_case.name
        return f"run {name}.train and let {name}.deliver promote what it makes; then ask again"

    def _answer(self, serving: Serving, vector: FeatureVector, probability: float) -> Prediction:
        return Prediction(
            prediction_id=uuid.uuid4().hex, probability=probability, decision=probability >= self._threshold,
            threshold=self._threshold, version=serving.version, generation=serving.generation,
            missing=list(vector.missing), stale=list(vector.stale),
        )  # fmt: skip

    def _record(
        self, serving: Serving, fields: dict[str, Any], vector: FeatureVector, answer: Prediction
    ) -> dict[str, Any]:
        request = {name: plain(value) for name, value in fields.items()}
        return {
            "prediction_id": answer.prediction_id,
            "use_case": self.use_case.name,
            "id": {name: request.get(name) for name in self.use_case.prediction.id},
            "request": request,
            "features": {name: plain(value) for name, value in vector.values.items()},
            "probability": answer.probability,
            "decision": answer.decision,
            "feature_service": self.use_case.training.feature_service,
            "feature_digest": self._definitions,
            "model_digest": serving.model.model_digest,
            "release": serving.digest,
            "generation": serving.generation,
            "missing": answer.missing,
            "stale": answer.stale,
        }

    def _lookup(self, fields: list[dict[str, Any]], moment: datetime) -> list[FeatureVector]:
        try:
            return self._online().lookup(fields, moment)
        except (DataRejectedError, ServiceUnavailableError):
            raise
        except AirworthyError as error:
            raise ServiceUnavailableError(error.what, next_step=error.next_step) from error
        except Exception as error:
            log.exception("features of %s cannot be looked up", self.use_case.name)
            raise ServiceUnavailableError(
                f"the features of {self.use_case.name} cannot be looked up: {type(error).__name__}",
                next_step="see the service's log; check the online store",
            ) from error

    def _online(self) -> OnlineFeatures:
        # Made at the first use and not at the start: the service must start while the database is away.
        with self._features_lock:
            if self._features is None:
                self._features = OnlineFeatures(self.use_case)
            return self._features

    def _unfit(self, model: LoadedModel) -> str | None:
        """Why a model must not be fed with the features that are deployed; None when it may be."""
        try:
            self._published = features.published_definitions(self.use_case)
        except SQLAlchemyError:  # what was seen last counts while the ledger is away
            log.debug("the ledger does not tell the definitions of the online values of %s", self.use_case.name)
        schema = model.schema
        words = features.unlike(self.use_case, schema.feature_digest, schema.view_digests, self._published)
        if not words:
            return None
        return (
            f"release {model.digest[:12]} of {self.use_case.name} was trained by {schema.feature_service} on other feature "
            f"definitions than those that are deployed: {', '.join(words[:5])}"
        )

    def _warm(self, model: LoadedModel) -> None:
        example = request_model(self.use_case).model_validate(sample(self.use_case))
        try:
            vectors = self._lookup([example.model_dump()], self.keeper.moment())
        except AirworthyError as error:
            # An online store that is away is no fault of this release, and refusing it would not bring it back.
            log.warning("release %s is not warmed with real features: %s", model.digest[:12], error.what)
            return
        warm_up(model, [v.values for v in vectors])
