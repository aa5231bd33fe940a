"""The parameters that the card stage reads: those of the page, all of them checked as their stages check them."""

from stages.report.schema import Params

__all__ = ["Params"]
