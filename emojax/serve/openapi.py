"""Description of the service in OpenAPI 3.1, with its limits and the outputs of its model."""

from typing import Any

import emojax
from emojax.audio.files import MAX_RATE, MIN_RATE
from emojax.serve.decoding import DTYPES
from emojax.serve.problems import MEDIA_TYPE
from emojax.serve.settings import ServeConfig

Tree = dict[str, Any]

_NUMBER: Tree = {"type": "number"}

_PROBLEMS = {
    400: "Malformed: parameters, multipart body, or no audio",
    408: "The body was not received in time",
    413: "The body is too large",
    415: "Unsupported content type, or a format that needs a package",
    422: "Audio that is too long, too short, empty, or has samples that are not finite",
    500: "Internal error",
    503: "The queue is full, or the service starts or stops; `Retry-After` in seconds",
}


def openapi_document(config: ServeConfig, model: Tree) -> Tree:
    """The document.

    Args:
      config: settings of the service.
      model: description of the model (`describe_model`).
    """
    audio = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
    form: Tree = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": audio["schema"]},
        "additionalProperties": False,
    }
    content = {"audio/*": audio, "application/octet-stream": audio, "multipart/form-data": {"schema": form}}
    answers: Tree = {"200": _answer("Prediction", "application/json", _reference("Prediction"))}
    answers |= {str(status): _answer(text, MEDIA_TYPE, _reference("Problem")) for status, text in _PROBLEMS.items()}
    answers["503"]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    predict = {
        "operationId": "predict",
        "summary": "Predict one clip",
        "description": f"At most {config.max_seconds:g} s and {config.max_bytes} bytes; any sample rate. Also the "
        "WebSocket `/stream`: binary messages of samples are answered by running predictions, the text "
        '`{"end": true}` by the last one.',
        "parameters": _parameters(),
        "requestBody": {"required": True, "content": content},
        "responses": answers,
    }
    state = _answer("Accepts requests", "application/json", _reference("Health"))
    health = {"200": state, "503": state | {"description": "Starts or stops"}}
    text = {"200": {"description": "Prometheus text format", "content": {"text/plain": {"schema": {"type": "string"}}}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"emojax: {model['name']}", "version": emojax.__version__},
        "paths": {
            "/predict": {"post": predict},
            "/health": {"get": {"operationId": "health", "summary": "State of the service", "responses": health}},
            "/metrics": {"get": {"operationId": "metrics", "summary": "Metrics", "responses": text}},
        },
        "components": {"schemas": _schemas(model)},
    }


def _parameters() -> list[Tree]:
    schemas = {
        "rate": (
            {"type": "number", "minimum": MIN_RATE, "maximum": MAX_RATE},
            "Sample rate (Hz) of mono samples without a header",
        ),
        "encoding": ({"enum": list(DTYPES), "default": "s16le"}, "Encoding of samples without a header"),
        "embedding": ({"type": "boolean", "default": False}, "Whether the answer has the utterance embedding"),
    }
    return [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": text}
        for name, (schema, text) in schemas.items()
    ]


def _schemas(model: Tree) -> Tree:
    low, high = model["scale"]
    attribute = {"type": "number", "description": f"In the scale of the training corpus, {low:g} to {high:g}"}
    category = {"type": "number", "minimum": 0, "maximum": 1}
    distribution = _object(
        {
            "values": {"type": "array", "items": _NUMBER},
            "probabilities": {"type": "array", "items": _NUMBER},
            "std": _NUMBER,
            "quantiles": {"type": "object", "additionalProperties": _NUMBER},
        }
    )
    prediction = _object(
        {
            "duration": {"type": "number", "description": "Seconds"},
            "attributes": _object(dict.fromkeys(model["attributes"], attribute)),
            "emotion": {"enum": [*model["categories"], None], "description": "Most probable category"},
            "emotions": _object(dict.fromkeys(model["categories"], category)),
            "model": _reference("Model"),
        },
        ratings={"type": "object", "additionalProperties": distribution},
        embedding={"type": "array", "items": _NUMBER},
    )
    names = {"type": "array", "items": {"type": "string"}}
    described = _object(
        {
            "name": {"type": "string"},
            "step": {"type": "integer"},
            "corpus": {"type": "string"},
            "scale": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2},
            "attributes": names,
            "categories": names,
        }
    )
    problem = _object(
        {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        }
    )
    health = _object({"status": {"enum": ["starting", "ready", "stopping"]}, "model": _reference("Model")})
    return {"Prediction": prediction, "Model": described, "Problem": problem, "Health": health}


def _object(required: Tree, **optional: Any) -> Tree:
    return {
        "type": "object",
        "required": list(required),
        "properties": required | optional,
        "additionalProperties": False,
    }


def _answer(text: str, media_type: str, schema: Tree) -> Tree:
    return {"description": text, "content": {media_type: {"schema": schema}}}


def _reference(name: str) -> Tree:
    return {"$ref": f"#/components/schemas/{name}"}
