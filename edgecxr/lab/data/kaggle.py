"""A data set from Kaggle, through kagglehub (extra: kaggle): its download, cache and credentials, our sentences."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from edgecxr.errors import EdgecxrError, UnavailableError, UsageError

HANDLE = re.compile(r"[A-Za-z0-9][\w-]*/[A-Za-z0-9][\w-]*(/versions/[1-9][0-9]*)?", re.ASCII)
CREDENTIALS = "an API token from your Kaggle settings in KAGGLE_API_TOKEN, or a kaggle.json"


def download(handle: str) -> Path:
    """Download and unpack a data set, or find it in kagglehub's cache; the folder it lies in.

    Raises UsageError where `handle` isn't OWNER/NAME or OWNER/NAME/versions/N, where Kaggle has no such data set, or
    the disk is full; UnavailableError where the extra, the network or the credentials aren't there.
    """
    if not HANDLE.fullmatch(handle):
        raise UsageError(f"a Kaggle data set is named OWNER/NAME or OWNER/NAME/versions/N, got: {handle}")
    with redirect_stdout(sys.stderr):  # kagglehub tells there what it does; stdout is for results
        try:
            kagglehub: Any = import_module("kagglehub")
            exceptions: Any = import_module("kagglehub.exceptions")
            requests: Any = import_module("requests")  # what kagglehub speaks HTTP with
        except ImportError as error:
            raise UnavailableError(
                f"this needs the extra 'kaggle'; run: pip install 'edgecxr[kaggle]' ({error})"
            ) from None
        try:
            return Path(kagglehub.dataset_download(handle))
        except requests.RequestException as error:  # an OSError, so it comes first; kagglehub's HTTP errors are of it
            raise _refused(handle, error) from None
        except (exceptions.UnauthenticatedError, exceptions.CredentialError):
            raise UnavailableError(f"Kaggle wants credentials ({CREDENTIALS}) for {handle}") from None
        except (exceptions.DataCorruptionError, zipfile.BadZipFile, tarfile.TarError) as error:
            raise UnavailableError(
                f"the download is damaged ({type(error).__name__}), remove it from kagglehub's cache: {handle}"
            ) from None
        except OSError as error:
            raise UsageError(
                f"the download can't be stored in kagglehub's cache, which KAGGLEHUB_CACHE moves ({error.strerror}): "
                f"{handle}"
            ) from None
        except (
            exceptions.BackendError,
            exceptions.NotFoundError,
            exceptions.KaggleEnvironmentError,
            exceptions.ColabEnvironmentError,
            ValueError,  # a garbled kaggle.json, an archive of an unknown kind
        ) as error:
            raise UnavailableError(f"kagglehub can't bring {handle} ({type(error).__name__}: {error})") from None


def _refused(handle: str, error: Any) -> EdgecxrError:
    """What an HTTP error, or the lack of an answer, means to who asked for `handle`."""
    status = None if error.response is None else error.response.status_code
    if status is None:
        return UnavailableError(
            f"Kaggle can't be reached, or the connection broke ({type(error).__name__}); is there a network? {handle}"
        )
    if status == 404:
        return UsageError(f"Kaggle has no data set {handle}")
    if status == 401:
        return UnavailableError(f"Kaggle wants credentials, or better ones ({CREDENTIALS}), for {handle}")
    if status == 403:  # Kaggle doesn't tell a stranger which of the two it is
        return UnavailableError(
            f"Kaggle refuses (403): it has no such data set, or wants credentials ({CREDENTIALS}) of an account that "
            f"may see it: {handle}"
        )
    return UnavailableError(f"Kaggle answers with HTTP status {status} for {handle}")
