"""Where the embedded platform keeps its own files, all under ``settings.var``, and the ports it listens on."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from airworthy.config import Settings

# The system's limit is 107 bytes with the final zero left out; a few are kept back for lock and temporary names.
SOCKET_LIMIT = 100


def port_of(url: str) -> int:
    """The TCP port of an http(s) URL."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


@dataclass(frozen=True)
class Layout:
    """Files and folders of the platform under one ``var`` folder."""

    settings: Settings

    @property
    def var(self) -> Path:
        """The folder of everything that running makes."""
        return self.settings.var

    @property
    def run(self) -> Path:
        """Control files: the supervisor's configuration and pid, locks."""
        return self.var / "run"

    @property
    def logs(self) -> Path:
        """A log file for each program; Airflow's task logs in ``airflow/``."""
        return self.var / "logs"

    @property
    def secrets(self) -> Path:
        """Generated secrets, readable by the owner only."""
        return self.var / "secrets"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data folder."""
        return self.var / "pg"

    @property
    def postgres_pointer(self) -> Path:
        """Says where PostgreSQL's socket is when that is not the data folder (``Settings.socket_dir`` reads it)."""
        return self.var / "postgres.socket"

    @property
    def airflow_home(self) -> Path:
        """``AIRFLOW_HOME``."""
        return self.var / "airflow"

    @property
    def passwords(self) -> Path:
        """Airflow's users and passwords, as JSON."""
        return self.secrets / "airflow_passwords.json"

    @property
    def supervisor_config(self) -> Path:
        """The generated configuration of the supervisor."""
        return self.run / "supervisord.conf"

    @property
    def supervisor_pid(self) -> Path:
        """Pid file of the supervisor."""
        return self.run / "supervisord.pid"

    @property
    def supervisor_socket(self) -> Path:
        """Control socket of the supervisor: in ``run``, or in a short private folder when that path is too long."""
        plain = self.run / "supervisor.sock"
        if len(str(plain).encode()) <= SOCKET_LIMIT:
            return plain
        name = hashlib.sha256(str(self.var).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"airworthy-{name}" / "supervisor.sock"

    def log_file(self, program: str) -> Path:
        """Log of one program."""
        return self.logs / f"{program}.log"

    def create(self) -> None:
        """Make the folders; private where secrets or control sockets are."""
        for folder in (self.var, self.run, self.logs, self.airflow_home, self.settings.spool):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.secrets, self.supervisor_socket.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
