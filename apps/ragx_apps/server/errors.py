"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from ragx.errors import ConfigError, RagxError
from ragx.util.text import without_surrogates
from ragx_apps.queue import QueueFullError
from ragx_apps.server.logs import logger

TYPES = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}


class ApiError(Exception):
    """An error response."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, headers

    def body(self) -> dict[str, Any]:
        """The JSON object."""
        kind = TYPES.get(self.status, "invalid_request_error")
        param = None if self.param is None else without_surrogates(self.param)
        return {"error": {"message": without_surrogates(str(self)), "type": kind, "param": param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The HTTP response."""
        return JSONResponse(self.body(), self.status, self.headers)


class ErrorDetail(BaseModel):
    """What is wrong, in the OpenAPI document."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An error response."""

    error: ErrorDetail


def as_api_error(error: Exception) -> ApiError:
    """The response to an exception; a bug in ragx is logged, and its details are not sent."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFullError):
        return ApiError(429, str(error), headers={"Retry-After": str(math.ceil(error.retry_after))})
    if isinstance(error, ConfigError):
        return ApiError(400, str(error))
    if isinstance(error, RagxError):  # out of memory, an index damaged since it was opened, a failing API
        return ApiError(503, str(error))
    logger.error("a request failed", exc_info=error)
    return ApiError(500, "internal error; see the server log")


def invalid_request(error: RequestValidationError) -> ApiError:
    """The error that says most, by the client's own fields.

    A field of several types has errors for each type, and their locations name the type, as in
    `("body", "input", "list[constrained-str]", 1)`: the type that fits best was meant.
    """
    found = [(_path(each, error.body), each) for each in error.errors()]
    path, best = max(found, key=lambda each: (each[1]["type"] not in WRONG_TYPE, len(each[0])))
    reason, where = _reason(best), ".".join(map(str, path))
    if not path:
        param = best.get("ctx", {}).get("param")
        return ApiError(400, reason, param=param)
    return ApiError(400, f"{where}: {reason}", param=where)


WRONG_TYPE = ("string_type", "list_type", "int_type", "dict_type", "model_type")


def _path(error: Any, body: Any) -> list[str | int]:
    """The location of an error in the client's request."""
    if error["type"] == "json_invalid":
        return []
    path: list[str | int] = []
    parts = error["loc"][1:]
    for number, part in enumerate(parts, start=1):
        try:
            body = body[part]
        except (LookupError, TypeError):  # the name of a type, or of a field that is missing
            if error["type"] != "missing" or number < len(parts):
                continue
        path.append(part)
    return path


def _reason(error: Any) -> str:
    context, value, message = error.get("ctx", {}), error["input"], str(error["msg"]).removeprefix("Value error, ")
    match error["type"]:
        case "json_invalid":
            return f"the request is not JSON: {context['error']} at character {error['loc'][-1]}"
        case "model_attributes_type":
            return "send a JSON object, with the header Content-Type: application/json"
        case "too_long":
            return f"at most {context['max_length']} allowed, got {context['actual_length']}"
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is not a known field"
    if not message.startswith("Input should be"):
        return message
    shown = _JSON.get(type(value)) or repr(value)
    return f"{message.replace('Input should be', 'must be')}, got {shown if len(shown) <= 60 else shown[:60] + '…'}"


_JSON: dict[type, str] = {list: "a list", dict: "an object"}


def add_handlers(app: FastAPI) -> None:
    """Give every error this shape, the framework's own included."""

    @app.exception_handler(ApiError)
    @app.exception_handler(RagxError)
    @app.exception_handler(Exception)
    async def _failed(_: Request, error: Exception) -> JSONResponse:
        return as_api_error(error).response()

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return invalid_request(error).response()

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers) if error.headers else None
        return ApiError(error.status_code, str(error.detail), headers=headers).response()
