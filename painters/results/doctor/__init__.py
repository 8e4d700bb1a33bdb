"""The doctor: find what is wrong with the files of a store, and repair them without losing anything."""

from __future__ import annotations

from painters.results.doctor.examining import Diagnosis, DoctorError, Examined, examine
from painters.results.doctor.mending import Mended, mend

__all__ = ["Diagnosis", "DoctorError", "Examined", "Mended", "examine", "mend"]
