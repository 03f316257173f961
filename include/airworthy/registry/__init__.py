"""The registry: releases in their store, versions and aliases in MLflow. The promotion log says which one serves."""

from airworthy.registry.registration import reconcile_aliases, register
from airworthy.registry.store import load, load_verdict, release_folder, verify

__all__ = ["load", "load_verdict", "reconcile_aliases", "register", "release_folder", "verify"]
