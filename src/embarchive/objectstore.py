"""A store in a bucket, `s3://bucket/prefix`.

obstore carries the bytes; what it lets pass is refused here. It takes a 206 with a short,
long or shifted body as an answer: every body's length is checked, and `VerifiedObject`
checks what is in it. Its own retries turn a conditional write whose answer was lost into a
false refusal: they are off, and retried here is only what is safe to repeat. Its errors
can hold signed URLs and credentials: no word of them is handed on but the HTTP status and
S3's name of the error, where it is a known one.
"""

from __future__ import annotations

import gzip
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from embarchive.errors import BadInput, CommitUnknown, Conflict, Damaged, StoreUnreachable
from embarchive.headers import headers_of, is_compressed
from embarchive.remote import CHUNK, NO_RANGES, Fault, RemoteStore, plain_url
from embarchive.storage import MAX_POINTER, POINTER, Entry, check_path

# Larger objects go up in parts of this size, some at once; they are seen when all are there.
PART, PARTS_AT_ONCE = 8 << 20, 4
# S3 answers these when it did nothing; any other failure of a write may have landed.
DEFINITE = (301, 400, 401, 403, 404, 405, 411, 413, 501)
# What S3 calls its refusals, in our words.
_REFUSALS = {
    "AccessDenied": "{} refused",
    "InvalidAccessKeyId": "{} refused: the store does not know this AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "{} refused: AWS_SECRET_ACCESS_KEY does not fit AWS_ACCESS_KEY_ID",
    "ExpiredToken": "{} refused: AWS_SESSION_TOKEN has expired",
    "InvalidToken": "{} refused: AWS_SESSION_TOKEN is not valid",
    "RequestTimeTooSkewed": "{} refused: the clocks of store and machine differ",
    "AuthorizationHeaderMalformed": "{} refused: AWS_REGION is not that of the bucket",
    "NoSuchBucket": "no such bucket",
}
_CODE = re.compile(rf"<Code>({'|'.join(_REFUSALS)})</Code>")
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


class ObjectStore(RemoteStore):
    """Objects below a bucket's prefix; see `open_object_store`."""

    def __init__(
        self,
        carrier: Any,
        root: str,
        *,
        deadline: float,
        single_writer: bool = False,
        unsigned: str = "",
    ) -> None:
        super().__init__(root, deadline)
        self._carrier, self._unsigned = carrier, unsigned
        self._single_writer, self._probed = single_writer, single_writer

    def _read(
        self, path: str, span: tuple[int, int] | None, length: int | None, limit: int | None
    ) -> tuple[bytes, str]:
        options: Any = {"range": span} if span else {}
        with self._in_our_words("reading"):
            result = obstore.get(self._carrier, path, options=options)
            if span and tuple(result.range) != span:
                raise Damaged(f"{path}: expected bytes {span}, found {tuple(result.range)}")
            size = length if span else self._checked_size(path, result.meta["size"], length, limit)
            body = self._collect(path, (bytes(chunk) for chunk in result.stream(CHUNK)), size)
        return body, result.meta.get("e_tag") or ""

    def _measure(self, path: str) -> tuple[int, str]:
        with self._in_our_words("reading"):
            found = obstore.head(self._carrier, path)
        return int(found["size"]), found.get("e_tag") or ""

    def list(self, prefix: str) -> list[Entry]:
        folder = "/".join(check_path(prefix)) if prefix else None

        def read() -> list[Entry]:
            with self._in_our_words("listing"):
                return [
                    Entry(item["path"], item["size"], item["last_modified"])
                    for batch in obstore.list(self._carrier, folder)
                    for item in batch
                ]

        return sorted(self._retrying(prefix, read), key=lambda entry: entry.path)

    # ------------------------------------------------------------ writing

    def put_new(self, path: str, data: bytes) -> None:
        check_path(path)
        self._retrying(path, lambda: self._put(path, data, "overwrite"))

    def put_file(self, path: str, data: bytes) -> None:
        self.put_new(path, data)  # which replaces other bytes

    def swap_pointer(self, data: bytes, token: str | None) -> None:
        if len(data) > MAX_POINTER:
            raise BadInput(f"{POINTER}: expected at most {MAX_POINTER} bytes, found {len(data)}")
        self.check_writable()
        mode: Any = "create" if token is None else {"e_tag": token}
        self._counters.add(1)
        try:
            self._put(POINTER, data, "overwrite" if self._single_writer else mode)
        except (AlreadyExistsError, PreconditionError):
            raise Conflict(f"{POINTER}: expected {token}, found another committer's") from None
        except Fault as fault:
            if fault.status == 409:
                raise Conflict(f"{POINTER}: expected no other writer, found HTTP 409") from None
            if fault.status in DEFINITE:
                self._fail(POINTER, fault)
            raise CommitUnknown(
                f"{self._root}/{POINTER}: expected an answer to the swap, found {fault.reason}"
            ) from None

    def check_writable(self) -> None:
        """Once: whether the store honours If-None-Match and If-Match. A store that ignores
        them would lose commits, so it is refused unless it was opened for a single writer."""
        if self._probed:
            return
        probe = f"staging/probe-{secrets.token_hex(8)}"
        self.put_new(probe, b"probe")
        modes: tuple[Any, ...] = ("create", {"e_tag": '"00000000000000000000000000000000"'})
        try:
            refused = [self._retrying(probe, partial(self._refuses, probe, m)) for m in modes]
        finally:
            with suppress(StoreUnreachable):  # who may not delete leaves a probe for gc
                self.delete(probe)
        if not all(refused):
            raise BadInput(
                f"{self._root}: expected a store with conditional writes (If-None-Match and "
                "If-Match), found one that ignores them; build in a local folder and copy it there"
            )
        self._probed = True

    def delete(self, path: str) -> None:
        check_path(path)

        def remove() -> None:
            with self._in_our_words("deleting"), suppress(FileNotFoundError):
                obstore.delete(self._carrier, path)

        self._retrying(path, remove)

    def delete_older(self, path: str, than: datetime) -> bool:
        check_path(path)

        def remove() -> bool:
            with self._in_our_words("deleting"):
                try:
                    written = obstore.head(self._carrier, path)["last_modified"]
                except FileNotFoundError:
                    return True
                # S3 cannot delete on a condition of time: between these two requests a writer
                # could write the same object again.
                if written >= than:
                    return False
                with suppress(FileNotFoundError):
                    obstore.delete(self._carrier, path)
            return True

        return self._retrying(path, remove)

    def _put(self, path: str, data: bytes, mode: Any) -> None:
        said: Any = headers_of(path)
        if is_compressed(path):
            data, said["content-encoding"] = gzip.compress(data, mtime=0), "gzip"
        with self._in_our_words("writing"):
            obstore.put(
                self._carrier, path, data, attributes=said, mode=mode,
                use_multipart=len(data) > PART, chunk_size=PART, max_concurrency=PARTS_AT_ONCE,
            )  # fmt: skip

    @contextmanager
    def _in_our_words(self, doing: str) -> Iterator[None]:
        """Turns what obstore raises into a Fault; FileNotFoundError and the two refusals of
        conditional writes stay what they are."""
        try:
            yield
        except (AlreadyExistsError, PreconditionError):
            raise
        except FileNotFoundError as error:
            if "<Code>NoSuchBucket</Code>" in str(error):
                raise _fault(error, doing, self._unsigned) from None
            raise
        except NotSupportedError:
            raise Fault(NO_RANGES, 501) from None
        except (BaseError, OSError, ValueError) as error:
            raise _fault(error, doing, self._unsigned) from None

    def _refuses(self, path: str, mode: Any) -> bool:
        try:
            self._put(path, b"again", mode)
        except (AlreadyExistsError, PreconditionError):
            return True
        return False


def open_object_store(
    url: str, env: Mapping[str, str], deadline: float, single_writer: bool = False
) -> ObjectStore:
    """A store for `s3://bucket/prefix`.

    env: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    AWS_SESSION_TOKEN, AWS_ALLOW_HTTP; without credentials requests are not signed.
    deadline: seconds for one operation, retries included. Raises BadInput.
    """
    root, parts = plain_url(url)
    half = timedelta(seconds=deadline / 2)
    config, allow_http = _s3_config(root, env)
    try:
        carrier = S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            config=config,
            client_options={
                "timeout": half,
                "connect_timeout": min(timedelta(seconds=5), half),
                "allow_http": allow_http,
            },
            retry_config={"max_retries": 0, "retry_timeout": half},
        )
    except (BaseError, ValueError, TypeError):
        raise BadInput(f"{root}: expected a usable URL and AWS_* settings, found others") from None
    why = _why_unsigned(env) if config["skip_signature"] else ""
    return ObjectStore(carrier, root, deadline=deadline, single_writer=single_writer, unsigned=why)


def _why_unsigned(env: Mapping[str, str]) -> str:
    if any(env.get(name) for name in _CREDENTIALS):
        return "requests are not signed: AWS_SKIP_SIGNATURE is set"
    profile = "; AWS_PROFILE is not read" if env.get("AWS_PROFILE") else ""
    return f"requests are not signed: there is no AWS_ACCESS_KEY_ID{profile}"


def _s3_config(root: str, env: Mapping[str, str]) -> tuple[Any, bool]:
    """obstore's configuration and whether plain http is allowed."""
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    allow_http = env.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes")
    if endpoint and endpoint.startswith("http://") and not allow_http:
        raise BadInput(f"{root}: AWS_ENDPOINT_URL is http://, expected AWS_ALLOW_HTTP=true with it")
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"
    # One DELETE an object: not every S3 has the bulk form.
    config: dict[str, Any] = {"region": region, "disable_bulk_delete": True}
    if endpoint:
        config["endpoint"] = endpoint
    for name, key in (
        ("AWS_ACCESS_KEY_ID", "access_key_id"),
        ("AWS_SECRET_ACCESS_KEY", "secret_access_key"),
        ("AWS_SESSION_TOKEN", "session_token"),
    ):
        if env.get(name):
            config[key] = env[name]
    said = env.get("AWS_SKIP_SIGNATURE", "").lower()
    anonymous = not any(env.get(name) for name in _CREDENTIALS) and said != "false"
    config["skip_signature"] = anonymous or said == "true"
    return config, allow_http


def _fault(error: Exception, doing: str, unsigned: str) -> Fault:
    """What S3 answered, or why it did not; unsigned: why requests are not signed."""
    text = str(error)
    status, code = re.search(r"non-2xx status code: (\d{3})", text), _CODE.search(text)
    if code and code[1] == "NoSuchBucket":
        return Fault(_REFUSALS[code[1]], 404)
    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    if code or refused or (status and status[1] in ("401", "403")):
        said = _REFUSALS[code[1] if code else "AccessDenied"].format(doing)
        return Fault(f"{said} ({unsigned})" if unsigned else said, 403)
    if "incorrectly configured region" in text:
        return Fault("a redirect: AWS_REGION is not that of the bucket", 301)
    if not status:
        return Fault(_reason(text))
    # SeaweedFS says no more than this when it is full.
    full = doing == "writing" and status[1] in ("500", "507")
    return Fault(f"HTTP {status[1]}{', perhaps a full store' if full else ''}", int(status[1]))


def _reason(text: str) -> str:
    """Why there was no answer."""
    for words, reason in (
        (("Timeout", "timed out"), "a time-out"),
        (("dns error", "failed to lookup"), "no such host"),
        (("Connect", "onnection refused"), "no connection"),
        (("Interrupted", "body error"), "a body cut short"),
    ):
        if any(word in text for word in words):
            return reason
    return "a connection that was lost"
