"""Whether an answer is right: find the answer that a text states, and compare it with the reference."""

from .grade import By, Grade, grade
from .stated import stated_in
from .verifier import MathVerifier, Verifier

__all__ = ["grade", "Grade", "By", "stated_in", "MathVerifier", "Verifier"]
