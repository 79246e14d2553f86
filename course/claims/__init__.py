"""What each paper claims, as a rule fixed before measuring, and what was found here."""

from course.claims.claim import Claim, ClaimContradicted, Record
from course.claims.registry import CLAIMS, record

__all__ = ["CLAIMS", "Claim", "ClaimContradicted", "Record", "record"]
