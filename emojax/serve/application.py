"""Routes of the service: `POST /predict`, the WebSocket `/stream`, `/health`, `/metrics`, `/openapi.json`."""

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from emojax.serve.access_log import AccessLog, note
from emojax.serve.metrics import CONTENT_TYPE
from emojax.serve.openapi import openapi_document
from emojax.serve.problems import MEDIA_TYPE, Problem
from emojax.serve.service import Service
from emojax.serve.sessions import run_session
from emojax.serve.uploads import check_content_type, parse_parameters, parse_upload, receive_body


def make_application(service: Service) -> AccessLog:
    """Creates the ASGI application of a service.

    Args:
      service: service; started and stopped by the caller.
    """
    document = openapi_document(service.config, service.model)

    async def predict(request: Request) -> Response:
        with service.admit():
            parameters = parse_parameters(request.query_params.multi_items())
            boundary = check_content_type(request.headers)
            config = service.config
            body = await receive_body(request.stream(), request.headers, config.max_bytes, config.body_seconds)
            note(request.scope, bytes=len(body))
            audio = parse_upload(body, boundary, parameters)
            del body
            prediction, duration = await service.predict(audio)
            note(request.scope, audio_seconds=round(duration, 3))
            tree = {"duration": duration, **prediction.json_tree()}
            if parameters.embedding:
                tree["embedding"] = prediction.embedding.tolist()
            return JSONResponse(tree | {"model": service.model})

    async def stream(websocket: WebSocket) -> None:
        try:
            parameters = parse_parameters(websocket.query_params.multi_items())
            with service.open_session():
                await websocket.accept()
                note(websocket.scope, close_code=await run_session(websocket, service, parameters))
        except Problem as problem:
            note(websocket.scope, error=problem.detail)
            await websocket.send_denial_response(_response(problem))

    async def health(request: Request) -> Response:
        return JSONResponse(
            {"status": service.state, "model": service.model},
            200 if service.state == "ready" else 503,
            {"Cache-Control": "no-store"},
        )

    async def metrics(request: Request) -> Response:
        requests, sessions = service.num_admitted
        service.metrics.admitted.set(requests)
        service.metrics.sessions.set(sessions)
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    async def openapi(request: Request) -> Response:
        return JSONResponse(document)

    routes: list[Any] = [
        Route("/predict", predict, methods=["POST"]),
        WebSocketRoute("/stream", stream),
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/openapi.json", openapi),
    ]
    handlers: dict[Any, Any] = {
        Problem: _answer_problem,
        HTTPException: _answer_http_exception,
        ClientDisconnect: _answer_nobody,
        Exception: _answer_internal_error,
    }
    application = Starlette(routes=routes, exception_handlers=handlers)
    application.router.redirect_slashes = False
    return AccessLog(application, service.metrics, {route.path for route in routes})


def _answer_problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    note(request.scope, error=problem.detail)
    return _response(problem)


def _answer_http_exception(request: Request, error: Exception) -> Response:
    """No such path (404), or another method (405)."""
    assert isinstance(error, HTTPException)
    details = {404: f"{request.url.path[:80]!r} does not exist", 405: f"{request.method} is not a method of this path"}
    problem = Problem(error.status_code, details.get(error.status_code, str(error.detail)))
    return _response(problem, dict(error.headers or {}))


def _answer_nobody(request: Request, error: Exception) -> Response:
    """The client left while it sent its body; the status is that of nginx, for log and metrics."""
    return Response(status_code=499)


def _answer_internal_error(request: Request, error: Exception) -> Response:
    """Any other error; `AccessLog` writes the traceback."""
    return _response(Problem(500, "internal error; the log of the service has the reason", close=True))


def _response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(problem.content, problem.status, problem.headers | (headers or {}), media_type=MEDIA_TYPE)
