"""The commands of ``airworthy``, by what they are about."""
