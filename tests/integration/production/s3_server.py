"""An S3 API for tests: moto's server, with conditional writes as S3 has them.

Moto looks whether an object is there and writes it in two steps, and two requests may come between; S3 does it at
once. A lock makes them one step here. ``python s3_server.py PORT``
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_one_at_a_time = threading.Lock()


def main() -> None:
    """Serve on loopback until stopped."""
    backend = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if "HTTP_IF_NONE_MATCH" in environ:
            with _one_at_a_time:
                return list(backend(environ, start_response))
        return backend(environ, start_response)  # type: ignore[no-any-return]

    run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True)


if __name__ == "__main__":
    main()
