"""``python -m airworthy.serving``: the prediction service on its address, with its number of workers."""

from __future__ import annotations

import logging
import os
import shutil
import sys

# Before numeric libraries are imported: many small predictions in threads are slower with a pool of threads each.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import uvicorn  # noqa: E402

from airworthy.config import Settings, get_settings, use_cases  # noqa: E402
from airworthy.errors import AirworthyError  # noqa: E402
from airworthy.serving.guards import check_binding  # noqa: E402
from airworthy.serving.patience import PatientProtocol  # noqa: E402

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(process)d %(name)s %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["out"], "level": "WARNING"},
    "loggers": {"airworthy": {"level": "INFO"}, "uvicorn": {"level": "INFO"}, "uvicorn.access": {"level": "WARNING"}},
}


def _share_metrics(settings: Settings) -> None:
    """Let this process and its children count in one folder, which begins empty (see ``metrics``).

    It must be known before prometheus_client is imported.
    """
    folder = settings.var / "serving_metrics" / str(settings.service_port)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR"):  # the latter is Feast's
        os.environ[name] = str(folder)


def main() -> int:
    """Run until stopped. Returns the exit status: 2 when the settings cannot be used."""
    try:
        settings = get_settings()
        check_binding(settings)
        use_cases()
        _share_metrics(settings)
    except AirworthyError as error:
        logging.basicConfig()
        logging.getLogger(__name__).error("%s", error)
        return 2
    uvicorn.run(
        "airworthy.serving.app:create_app", factory=True, host=settings.service_host, port=settings.service_port,
        workers=settings.service_workers, log_config=LOGGING, access_log=False, timeout_keep_alive=75,
        timeout_graceful_shutdown=10, server_header=False, http=PatientProtocol,
        proxy_headers=False, ws="none",  # an upgraded connection would escape the bounds of ``PatientProtocol``
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
