"""From a checked request to an answer: look the features up, score, write to the prediction log, then answer."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from airworthy import features
from airworthy.config import Settings, UseCase
from airworthy.errors import AirworthyError, DataRejectedError, NoChampionError, ServiceUnavailableError
from airworthy.features import FeatureVector, OnlineFeatures
from airworthy.ledger.clock import wall_now
from airworthy.ledger.tallies import Role
from airworthy.serving.cache import ReleaseCache
from airworthy.serving.champion import ChampionKeeper, warm_up
from airworthy.serving.contract import Prediction, plain, request_model
from airworthy.serving.contract import example as sample
from airworthy.serving.shadow import Shadow
from airworthy.serving.spool import Spool, frame
from airworthy.serving.together import ENOUGH_ROWS, GROUPS, Together
from airworthy.serving.trial import Scored, Serving, score, version_of
from airworthy.training.model_files import LoadedModel

# How old the moment of a prediction may be, in seconds. Looked-up values are held against it; given rows are only dated.
LOOKUP_AGE = 0.02
GIVEN_AGE = 1.0
# So many given rows of a call are scored at once, on the event loop: in about a millisecond.
QUICK_ROWS = 20

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Asked(NamedTuple):
    """One call: requests whose features are looked up, or rows of the model's inputs as they are given.

    Attributes:
        rows: Fields of the requests, or the given rows.
        given: Whether they are rows of the model's inputs.
        pinned: The caller asked for the champion's version: no challenger answers.
        started: When the call came (``perf_counter``).
        moment: Of given rows: the prediction's time, if nobody need be asked for it.
    """

    rows: Sequence[Mapping[str, Any]]
    given: bool
    pinned: bool
    started: float
    moment: datetime | None = None


class Answered(NamedTuple):
    """What one call gets, and what is kept of it before it gets it: a record for each row, and its frame in the log."""

    predictions: list[Prediction]
    models: list[LoadedModel]
    vectors: list[FeatureVector]
    records: list[dict[str, Any]]
    frames: list[bytes]


class Predictor:
    """All that one use case needs to answer; safe under many threads.

    Args:
        use_case: The use case.
        settings: The settings.
        stage: File with the release to serve, whatever the promotion log says (staging check, rollback drill).
    """

    def __init__(self, use_case: UseCase, settings: Settings, *, stage: Path | None = None) -> None:
        self.use_case = use_case
        self.staged = stage is not None
        cache = ReleaseCache(settings.var / "serving_cache", use_case.name)
        self.keeper = ChampionKeeper(use_case, cache, self._warm, self._unfit, stage=stage)
        self.shadow = Shadow(self.keeper.counts)
        self._threads = ThreadPoolExecutor(GROUPS, thread_name_prefix="answers")
        self._together = Together(self._compute_all, self._compute_slow, self._keep)
        self._spool = Spool(settings.spool, use_case.name, settings.service_instance, sync_ms=settings.spool_sync_ms)
        self._patience = settings.online_timeout
        self._threshold = use_case.problem.threshold
        self._definitions = features.feature_digest(use_case)
        self._features: OnlineFeatures | None = None
        self._published: dict[str, str] = {}
        self._features_lock = threading.Lock()

    def start(self) -> None:
        """Begin to follow the champion, and to answer."""
        self.keeper.start()
        self.shadow.start()
        self._together.start()

    async def stop(self) -> None:
        """Answer what is under way, stop following, and close the spool."""
        await self._together.stop()
        await self._in_thread(self._stop)
        self._threads.shutdown(wait=False)

    def _stop(self) -> None:
        self.shadow.stop()
        self.keeper.stop()
        self._spool.close()

    async def predict(self, requests: Sequence[BaseModel], *, pinned: bool = False) -> Answered:
        """Answer requests that fit the use case's request model.

        Args:
            requests: At least one, at most 1,000.
            pinned: Let the champion answer, also when a challenger is on trial.

        Raises:
            NoChampionError: nothing serves yet.
            ServiceUnavailableError: a feature view that declares no prediction without it has no value, the prediction log
                cannot be written, or too many are waiting.
        """
        return await self._ask([vars(request) for request in requests], given=False, pinned=pinned)

    async def score(self, rows: Sequence[Mapping[str, Any]], *, pinned: bool = False) -> Answered:
        """Answer rows of the model's own inputs, as they are given: nothing is looked up.

        Args:
            rows: Every column of the model, None where nothing is known.
            pinned: As for ``predict``.

        Raises:
            DataRejectedError: a feature is absent, of another kind, or infinite; it is named.
            NoChampionError, ServiceUnavailableError: as ``predict``.
        """
        return await self._ask(rows, given=True, pinned=pinned)

    async def _ask(self, rows: Sequence[Mapping[str, Any]], *, given: bool, pinned: bool) -> Answered:
        moment = self.keeper.seen(GIVEN_AGE) if given else None
        asked = Asked(rows, given, pinned, time.perf_counter(), moment)
        return await self._together.ask(asked, len(rows), quick=moment is not None and len(rows) <= QUICK_ROWS)

    def _compute_all(self, group: Sequence[Asked]) -> list[Answered | Exception]:
        """Answer the calls of a group."""
        # Rows that are looked up and rows that are given are computed apart: the former may have to wait.
        by_kind = {kind: iter(self._computed([a for a in group if a.given is kind])) for kind in (False, True)}
        return [next(by_kind[asked.given]) for asked in group]

    def _keep(self, answers: Sequence[Answered | Exception]) -> Sequence[Answered | Exception]:
        """Write answers to the prediction log: nothing is answered that is not in it."""
        frames = [one for answer in answers if isinstance(answer, Answered) for one in answer.frames]
        if frames:
            try:
                self._spool.write(frames)
            except ServiceUnavailableError as error:
                return [error if isinstance(answer, Answered) else answer for answer in answers]
        return answers

    def _computed(self, calls: list[Asked]) -> list[Answered | Exception]:
        """Answers to calls of one kind; when one of them cannot be answered, each is answered by itself."""
        if not calls:
            return []
        try:
            return list(self._compute(calls))
        except Exception as error:
            return self._one_by_one(calls) if len(calls) > 1 else [self._told(error)]

    def _one_by_one(self, calls: Sequence[Asked]) -> list[Answered | Exception]:
        return [answer for one in calls for answer in self._computed([one])]

    def _told(self, error: Exception) -> Exception:
        if not isinstance(error, AirworthyError):
            log.error("a request to %s cannot be answered", self.use_case.name, exc_info=error)
        return error

    async def _compute_slow(self, group: Sequence[Asked]) -> list[Answered | Exception]:
        """Answer calls that wait for something, or have many rows.

        Few rows are computed on the event loop. In a thread are computed calls with many rows, and each call by itself when
        something goes wrong with a group.
        """
        few = sum(len(asked.rows) for asked in group) <= ENOUGH_ROWS
        if not few or self._features is None or len({asked.given for asked in group}) > 1:
            return await self._in_thread(self._compute_all, group)
        try:
            return list(await self._compute_few(group))
        except Exception as error:
            return await self._in_thread(self._one_by_one, group) if len(group) > 1 else [self._told(error)]

    async def _compute_few(self, calls: Sequence[Asked]) -> list[Answered]:
        serving, given = self.serving(), calls[0].given
        moment = await self.keeper.amoment(GIVEN_AGE if given else LOOKUP_AGE)
        rows = [row for asked in calls for row in asked.rows]
        if given:
            vectors = _of_columns(rows, serving.model.columns)
        else:
            with self._looking_up():
                vectors = await self._online().alookup(rows, moment)
        return self._answered(serving, calls, moment, vectors)

    async def _in_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _compute(self, calls: Sequence[Asked]) -> list[Answered]:
        serving, given = self.serving(), calls[0].given
        moment = calls[0].moment or self.keeper.moment(GIVEN_AGE if given else LOOKUP_AGE)
        rows = [row for asked in calls for row in asked.rows]
        vectors = _of_columns(rows, serving.model.columns) if given else self._lookup(rows, moment)
        return self._answered(serving, calls, moment, vectors)

    def _answered(
        self, serving: Serving, calls: Sequence[Asked], moment: datetime, vectors: list[FeatureVector]
    ) -> list[Answered]:
        """Score, and make the answers and their records."""
        rows = [row for asked in calls for row in asked.rows]
        fields = list[Mapping[str, Any]]([{}] * len(rows)) if calls[0].given else rows
        split = serving.trial is not None and serving.trial.share > 0
        keys = [self._key(row) if split and not asked.pinned else None for asked in calls for row in asked.rows]
        scored = score(serving, [v.values for v in vectors], keys, self.keeper.counts, final=len(calls) == 1)
        ids = new_ids(len(rows))
        predictions = [self._prediction(i, serving, v, s) for i, v, s in zip(ids, vectors, scored, strict=True)]
        common: dict[str, Any] = {"at": wall_now().isoformat(), "prediction_time": moment.isoformat()}
        answers, at = [], 0
        for asked in calls:
            part = slice(at, at := at + len(asked.rows))
            common["latency_ms"] = round((time.perf_counter() - asked.started) * 1000, 3)
            records = [
                {**self._record(serving, f, v, p, s), **common}
                for f, v, p, s in zip(fields[part], vectors[part], predictions[part], scored[part], strict=True)
            ]
            models = [s.model for s in scored[part]]
            answers.append(Answered(predictions[part], models, vectors[part], records, list(map(frame, records))))
        self._offer_to_shadow(serving, [v.values for v in vectors], [r for a in answers for r in a.records])
        return answers

    def _key(self, row: Mapping[str, Any]) -> str:
        """By which a request is split between champion and challenger: what is predicted, or else all that is known of it."""
        own = [row.get(name) for name in self.use_case.prediction.id]
        return repr(own if None not in own else sorted(row.items()))

    def _offer_to_shadow(self, serving: Serving, values: list[dict[str, Any]], records: list[dict[str, Any]]) -> None:
        trial = serving.trial
        if trial is None or trial.share > 0:
            return

        def write(probabilities: list[float | None]) -> None:
            unseen = [
                {**record, **self._by("shadow", trial.model, trial.digest), "prediction_id": identity,
                 "probability": probability, "decision": probability >= self._threshold}
                for identity, record, probability in zip(new_ids(len(records)), records, probabilities, strict=True)
                if probability is not None and trial.model is not None
            ]  # fmt: skip
            if unseen:
                self._spool.append(unseen)

        self.shadow.offer(serving, values, write)

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

    def _prediction(self, identity: str, serving: Serving, vector: FeatureVector, scored: Scored) -> Prediction:
        return Prediction(
            prediction_id=identity, probability=scored.probability,
            decision=scored.probability >= self._threshold, threshold=self._threshold, version=version_of(scored.model),
            generation=serving.generation, missing=list(vector.missing), stale=list(vector.stale),
            degraded=vector.degraded,
        )  # fmt: skip

    def _record(
        self, serving: Serving, fields: Mapping[str, Any], vector: FeatureVector, answer: Prediction, scored: Scored
    ) -> dict[str, Any]:
        request = {name: plain(value) for name, value in fields.items()}
        source = "fallback" if vector.degraded else "lookup" if fields else "caller"
        return {
            "prediction_id": answer.prediction_id,
            "use_case": self.use_case.name,
            "id": {name: request.get(name) for name in self.use_case.prediction.id},
            "request": request,
            "features": vector.values,
            "features_from": source,
            "probability": answer.probability,
            "decision": answer.decision,
            "feature_service": self.use_case.training.feature_service,
            "feature_digest": self._definitions,
            **self._by(scored.role, scored.model, scored.model.digest),
            "generation": serving.generation,
            "missing": answer.missing,
            "stale": answer.stale,
        }

    @staticmethod
    def _by(role: Role, model: LoadedModel | None, release: str) -> dict[str, Any]:
        return {"role": role, "release": release, "model_digest": model.model_digest if model else None}

    def _lookup(self, fields: Sequence[Mapping[str, Any]], moment: datetime) -> list[FeatureVector]:
        with self._looking_up():
            return self._online().lookup(fields, moment)

    @contextmanager
    def _looking_up(self) -> Iterator[None]:
        """Whatever goes wrong with features is no fault of who asked."""
        try:
            yield
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
                self._features = OnlineFeatures(self.use_case, self._patience)
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


def _of_columns(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> list[FeatureVector]:
    """The model's columns of given rows.

    One that a row lacks is left out, and named by the encoder: another champion may read others than the row was checked for.
    """
    return [
        FeatureVector(
            row
            if isinstance(row, dict) and row.keys() == columns.keys()
            else {name: row[name] for name in columns if name in row}
        )
        for row in rows
    ]


def new_ids(count: int) -> list[str]:
    """Ids for some predictions, 32 random hexadecimal digits each: the system is asked once for all of them."""
    digits = os.urandom(16 * count).hex()
    return [digits[at : at + 32] for at in range(0, len(digits), 32)]
