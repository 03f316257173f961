# One image for every service of the platform: Airflow, MLflow, the prediction service, the reports.
FROM python:3.12-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 \
    UV_NO_CACHE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/airworthy/.venv \
    UV_PYTHON_DOWNLOADS=never \
    PATH=/opt/airworthy/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AIRFLOW_HOME=/var/lib/airworthy/airflow \
    AIRWORTHY_PROJECT_ROOT=/opt/airworthy \
    AIRWORTHY_VAR=/var/lib/airworthy

# A new volume takes the owner of the folder that it is mounted on: each of them must be there.
RUN groupadd --gid 50000 airworthy && useradd --uid 50000 --gid 50000 --create-home airworthy \
    && mkdir -p /var/lib/airworthy/airflow /var/lib/airworthy/logs /var/lib/airworthy/reports \
                /var/lib/airworthy/serving_cache /var/lib/airworthy/spool \
    && chown -R airworthy:airworthy /var/lib/airworthy

WORKDIR /opt/airworthy
COPY pyproject.toml uv.lock README.md ./
RUN pip install uv==0.13.8 && uv sync --locked --no-dev --no-install-project --compile-bytecode
COPY include ./include
COPY airflow ./airflow
COPY dags ./dags
COPY plugins ./plugins
COPY feature_repo ./feature_repo
COPY great_expectations ./great_expectations
# The code belongs to root and cannot be changed at run time: it is compiled here, or every start would do it again.
RUN uv sync --locked --no-dev --compile-bytecode && python -m compileall -q include airflow dags plugins

# What `airworthy reproduce` checks out: the image has no history, so whoever builds it says which revision this is.
ARG REVISION=""
RUN if [ -n "$REVISION" ]; then \
      echo "$REVISION" | grep -Eqx '[0-9a-f]{40}(-dirty)?' || { echo "REVISION is no whole commit id: $REVISION" >&2; exit 1; }; \
      echo "{\"revision\": \"$REVISION\"}" > manifest.json; \
    fi

# airflow_local_settings.py, which imports heavy libraries before tasks fork, is found here.
ENV PYTHONPATH=/opt/airworthy/airflow
USER 50000:50000
CMD ["airworthy", "--help"]
