"""The study: what notebooks, results and book are made of, on top of the library."""

from .studies import STUDIES, load

__all__ = ["STUDIES", "load"]
