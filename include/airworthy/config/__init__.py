"""Settings (the environment) and use cases (YAML): frozen, checked when read."""

from airworthy.config.data_spec import Source
from airworthy.config.settings import Settings, get_settings
from airworthy.config.use_case import UseCase, get_use_case, load_use_case, use_cases

__all__ = ["Settings", "Source", "UseCase", "get_settings", "get_use_case", "load_use_case", "use_cases"]
