"""Errors of a request that the client gets as `application/problem+json` (RFC 9457): status, title and one line."""

from http import HTTPStatus
from typing import Any

MEDIA_TYPE = "application/problem+json"

RETRY_SECONDS = 1
"""`Retry-After` of 503."""


class Problem(Exception):
    """An error that the client gets as an answer."""

    def __init__(self, status: int, detail: str, close: bool = False):
        """Creates the error.

        Args:
          status: HTTP status, 400 to 599.
          detail: what is wrong, and what is allowed; becomes one line.
          close: whether the connection ends with the answer, because the body was not read to its end.
        """
        super().__init__(detail)
        self.status, self.detail, self.close = status, " ".join(detail.split()), close

    @property
    def content(self) -> dict[str, Any]:
        """Tree of the answer."""
        return {"type": "about:blank", "title": _title(self.status), "status": self.status, "detail": self.detail}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        retry = {"Retry-After": str(RETRY_SECONDS)} if self.status == 503 else {}
        return retry | ({"Connection": "close"} if self.close else {})


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
