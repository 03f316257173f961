"""The same platform and training sets as the tests of training."""

from ..training.conftest import shop, tiny, training_set  # noqa: TID252

__all__ = ["shop", "tiny", "training_set"]
