"""A clinic's network: results that a PACS keeps, and a node that loses nothing.

source    whose film it is, taken over into what answers it
content   what a report says
report    an answer as DICOM objects
outbox    a folder of them
spool     a film is kept on disk from before it is acknowledged, in a folder of its own
journal   what happened to one film, a line each
guard     what a connection may take: bytes, memory, time
node      the network edge: C-ECHO and C-STORE
score     what waits in the spool is scored, and its results are kept
send      results go to their targets, again and again, or are set aside
service   the node as a whole: begun, kept going, drained
watch     a folder whose files are scored as they arrive
"""

from edgecxr.clinic.report import ResultObject, answer, dicom_results

__all__ = ["ResultObject", "answer", "dicom_results"]
