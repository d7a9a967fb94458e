"""Why an object store refused, in one line: its own code and words, and nothing that is secret."""

from __future__ import annotations

import re

from expertbank.errors import ExpertBankError

_CODE = re.compile(r"<Code>([A-Za-z0-9.]+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_ADVICE = {
    "NoSuchBucket": "there is no such bucket; make it, or check its name, region and endpoint",
    "AccessDenied": "these credentials may not do that; they need GetObject, PutObject, "
    "DeleteObject and ListBucket",
    "AllAccessDisabled": "the bucket is closed",
    "ExpiredToken": "the credentials have expired; get new ones and run the command again",
    "TokenRefreshRequired": "the credentials have expired; get new ones and run it again",
    "InvalidToken": "the session token is not valid; get new credentials",
    "InvalidAccessKeyId": "there is no such access key; check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "PermanentRedirect": "the bucket is in another region; name it: AWS_REGION, or &region=",
    "SlowDown": "it asks for fewer requests; run the command again later",
}
_BY_STATUS = {
    "401": "no valid credentials were sent; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "403": "these credentials may not do that, or there are none; they need GetObject, PutObject, "
    "DeleteObject and ListBucket",
    "301": _ADVICE["PermanentRedirect"],
    "404": "there is no such bucket, or no such object",
}


class BrokenOffError(ExpertBankError):
    """The connection broke while an answer came."""


def REFUSED() -> tuple[type[BaseException], ...]:  # noqa: N802 - read as a constant
    """What obstore raises; nothing where it is not installed."""
    try:
        from obstore.exceptions import BaseError
    except ImportError:
        return ()
    # A wrong setting is a ValueError, a bucket that is not there a FileNotFoundError.
    return (BaseError, OSError, ValueError)


def reason(error: BaseException) -> str:
    """What to say of an error of obstore's.

    Its text holds requests and answers as they were, in which a session token may stand: only
    what is known to be harmless is taken from it.
    """
    text = str(error)
    code, status = _CODE.search(text), _STATUS.search(text)
    if code is not None:
        return f"{code[1]}: {_ADVICE.get(code[1], 'the server refused')}"
    if status is not None:
        words = _BY_STATUS.get(status[1], "the server has a fault; run the command again later")
        return f"status {status[1]}: {words}"
    low = text.lower().replace("retry_timeout", "")
    if "credential" in low or "169.254.169.254" in low:
        return "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if "allow_http" in low or "builder error" in low or "url scheme is not allowed" in low:
        return "its endpoint is not https; that must be allowed by name: AWS_ALLOW_HTTP=true"
    if "timed out" in low or "kind: timeout" in low:
        return "it does not answer in time; look at the network, then run the command again"
    if "error sending request" in low or "connect" in low:
        return "it cannot be reached; look at endpoint and network, then run the command again"
    return "the connection broke, or what came back makes no sense; run the command again"


def broke_off(error: BaseException) -> bool:
    """Whether an answer began well and stopped half-way."""
    return _STATUS.search(str(error)) is None and "error sending request" not in str(error).lower()
