"""A second, tiny use case: will this order come back? One source, one entity, no pushes, a linear model."""
