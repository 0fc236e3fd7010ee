"""What a clinic's network takes and gives.

source   whose film it is, taken over into what answers it
content  what a report says
report   an answer as DICOM objects
outbox   a folder of them
"""

from edgecxr.clinic.report import ResultObject, answer, dicom_results

__all__ = ["ResultObject", "answer", "dicom_results"]
