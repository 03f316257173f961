"""The registry: releases in their store, versions and aliases in MLflow. The promotion log says which one serves."""

from airworthy.registry.card import card_link
from airworthy.registry.card_page import short_card
from airworthy.registry.copying import export_release, import_release
from airworthy.registry.registration import reconcile_aliases, register
from airworthy.registry.store import load, load_card, load_verdict, release_folder, verify

__all__ = [
    "card_link",
    "export_release",
    "import_release",
    "load",
    "load_card",
    "load_verdict",
    "reconcile_aliases",
    "register",
    "release_folder",
    "short_card",
    "verify",
]
