"""The doctor: what is right and wrong with the files of a store, and how to put it right."""

from __future__ import annotations

from painters.results.doctor.examining import Diagnosis, DoctorError, Examined, examine
from painters.results.doctor.mending import Mended, mend

__all__ = ["Diagnosis", "DoctorError", "Examined", "Mended", "examine", "mend"]
