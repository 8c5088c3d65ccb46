"""The service over HTTP and WebSockets on loopback: answers are those of `predict` and `emojax.Stream`."""

import concurrent.futures
import contextlib
import json
import socket
import threading
import time

import numpy as np
import pytest
import soxr

import emojax
from configs import default
from emojax.errors import ConfigError
from emojax.inference.stream import advance_streams, warm_streams
from emojax.parallel.host import COMPILATIONS
from tests.test_inference_stream import small, speech

pytest.importorskip("starlette", reason="the packages of requirements-serve.txt are not installed")

import websockets
from websockets.sync.client import connect

from emojax.serve.command import check_servable, open_socket
from tests.served import Served
from tests.test_serve_uploads import multipart, wav


@pytest.fixture(scope="module")
def model():
    tree = default.get_config()
    tree.model.rating_bins = 7
    return small(tree, gru_layers=1)


@pytest.fixture(scope="module")
def served(model):
    service = Served(model, max_seconds=1.0, max_bytes=200_000, batch=4, queue=32, streams=4, stream_seconds=3.0)
    service.wait_until_ready()
    yield service
    assert service.stop() == 0


OF_THE_SCALE = 6e-6
"""1e-6 of the scale, for the same windows or the same chunks."""

ROUNDING = 2e-4
"""For other chunks of the same samples, as in the tests of `emojax.Stream`."""


def same(tree, prediction, tolerance=OF_THE_SCALE):
    assert tree["attributes"] == pytest.approx(prediction.attributes, abs=tolerance)
    assert tree["emotions"] == pytest.approx(prediction.emotions, abs=tolerance / 6)
    assert tree["emotion"] == prediction.emotion
    for name, ratings in prediction.ratings.items():
        assert tree["ratings"][name]["std"] == pytest.approx(ratings.std, abs=10 * tolerance)
        assert tree["ratings"][name]["probabilities"] == pytest.approx(ratings.probabilities, abs=tolerance / 6)


def clips(count):
    return [speech(2_000 + 1_700 * (number % 8), number) for number in range(count)]


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_file_is_predicted_as_by_predict(served, model):
    samples = speech(15_000)
    prediction = model.predict(samples, 16_000)
    for body, content_type in (
        (wav(samples, 16_000), "audio/wav"),
        (multipart(("file", wav(samples, 16_000))), "multipart/form-data; boundary=abc"),
    ):
        answer = served.predict(body, content_type=content_type)
        assert answer.status == 200, answer.body
        assert answer.headers["Content-Type"] == "application/json"
        same(answer.tree, prediction)
        assert answer.tree["duration"] == 15_000 / 16_000
        assert "embedding" not in answer.tree
        assert answer.tree["model"] == {
            "name": "toy",
            "step": 0,
            "corpus": "toy/1.0.0",
            "scale": [1.0, 7.0],
            "attributes": ["activation", "valence", "dominance"],
            "categories": ["anger", "neutral"],
        }
    answer = served.predict(wav(samples, 16_000), "?embedding=true").tree
    np.testing.assert_allclose(answer["embedding"], prediction.embedding, atol=1e-5)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_samples_without_a_header_are_predicted_as_by_predict(served, model, rate):
    samples = speech(rate // 2)
    integers = (samples * 2**15).astype("<i2")
    for array, encoding in ((integers, "s16le"), (samples, "f32le")):
        answer = served.predict(array.tobytes(), f"?rate={rate}&encoding={encoding}", "application/octet-stream")
        assert answer.status == 200, answer.body
        same(answer.tree, model.predict(array, rate))


def test_concurrent_clients_get_their_own_answers_and_no_shape_is_compiled(served, model):
    items = clips(48)
    expected = model.predict([(item, 16_000) for item in items])
    compiled = COMPILATIONS.programs
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda item: served.predict(wav(item, 16_000)), items))
    for answer, prediction in zip(answers, expected, strict=True):
        assert answer.status == 200, answer.body
        same(answer.tree, prediction)
    assert COMPILATIONS.programs == compiled
    lines = served.request("GET", "/metrics").body.decode().splitlines()
    counts = {name: float(value) for name, value in (line.split() for line in lines if not line.startswith("#"))}
    assert counts['emojax_requests_total{route="/predict",status="200"}'] >= 48
    assert counts["emojax_batch_clips_count"] < counts["emojax_batch_clips_sum"]  # clips were computed together
    assert counts["process_resident_memory_bytes"] > 0


@pytest.mark.parametrize(
    ("method", "path", "body", "content_type", "status"),
    [
        ("POST", "/predict", b"no audio", "audio/wav", 400),
        ("POST", "/predict", b"", "audio/wav", 422),
        ("POST", "/predict", b"12", "application/json", 415),
        ("POST", "/predict", b"12", "multipart/form-data; boundary=a", 400),
        ("POST", "/predict?url=http://localhost/", b"12", "audio/wav", 400),
        ("POST", "/predict?rate=16000", b"123", "audio/wav", 400),
        ("POST", "/predict?rate=16000", bytes(40_000), "audio/wav", 422),
        ("POST", "/predict", bytes(200_001), "audio/wav", 413),
        ("GET", "/predict", None, "audio/wav", 405),
        ("GET", "/stream", None, "audio/wav", 404),
        ("GET", "/../etc/passwd", None, "audio/wav", 404),
        ("GET", "/health/", None, "audio/wav", 404),
    ],
)
def test_errors_are_one_line_of_json(served, method, path, body, content_type, status):
    answer = served.request(method, path, body, {"Content-Type": content_type})
    assert answer.status == answer.tree["status"] == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.tree["detail"]
    assert "\n" not in answer.tree["detail"]
    assert "Traceback" not in answer.body.decode()


def test_a_clip_shorter_than_a_frame_cannot_be_processed(served, monkeypatch):
    monkeypatch.setattr(served.service.predictor, "min_samples", 400)
    answer = served.predict(bytes(798), "?rate=16000")
    assert (answer.status, answer.tree["detail"]) == (422, "audio must have at least 0.025 s, got 0.0249375 s")
    assert served.predict(bytes(800), "?rate=16000").status == 200


def test_bytes_that_are_no_http_get_an_answer_without_a_traceback(served):
    for sent in (b"\0\1\2\r\n\r\n", b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 4") or answer == b""
        assert b"Traceback" not in answer
    assert served.request("GET", "/health").status == 200


def test_a_client_that_leaves_frees_its_place(served, capsys):
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: audio/wav\r\nContent-Length: 9\r\n\r\nab"
        )
        wait_for(lambda: served.service.num_admitted[0] == 1)
    wait_for(lambda: served.service.num_admitted[0] == 0)
    logged = ""
    while '"status": 499' not in logged:
        logged += capsys.readouterr().out


def test_an_internal_error_shows_no_traceback(served, monkeypatch, capsys):
    monkeypatch.setattr(served.service.predictor, "named", lambda *arguments: 1 / 0)
    answer = served.predict(wav(speech(4_000), 16_000))
    assert answer.status == 500
    assert answer.tree["title"] == "Internal Server Error"
    assert "ZeroDivisionError" not in answer.body.decode()
    monkeypatch.undo()
    assert served.predict(wav(speech(4_000), 16_000)).status == 200
    out, err = capsys.readouterr()
    assert any("ZeroDivisionError" in json.loads(line)["traceback"] for line in err.splitlines())
    line = next(line for line in map(json.loads, out.splitlines()) if line["status"] == 500)
    assert (line["method"], line["path"], line["client"]) == ("POST", "/predict", "127.0.0.1")


def test_the_document_is_valid_and_describes_the_answers(served):
    document = served.request("GET", "/openapi.json").tree
    assert set(document["paths"]) == {"/predict", "/health", "/metrics"}
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(document)
    import jsonschema

    def check(name, tree):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.validate(tree, schema)

    check("Prediction", served.predict(wav(speech(4_000), 16_000), "?embedding=true").tree)
    check("Problem", served.predict(b"").tree)
    check("Health", served.request("GET", "/health").tree)


def converse(served, query, messages):
    """Answers to messages and to the end of a session, in order."""
    with connect(served.url(query)) as client:
        found = []
        for message in messages:
            client.send(message)
            found.append(json.loads(client.recv(timeout=60)))
        client.send(json.dumps({"end": True}))
        found.append(json.loads(client.recv(timeout=60)))
        assert last_messages(client) == []
        assert client.close_code == 1000
        return found


def test_each_message_of_a_session_gets_the_prediction_of_a_stream(served, model):
    samples, stream = (speech(20_000) * 2**15).astype("<i2"), emojax.Stream(model)
    chunks = np.split(samples, [100, 1_700, 8_000, 8_000, 19_999])
    *updates, final = converse(served, "", [chunk.tobytes() for chunk in chunks])
    seconds = 0
    for chunk, update in zip(chunks, updates, strict=True):
        estimate = stream(chunk)
        seconds += len(chunk) / 16_000
        assert update["seconds"] == pytest.approx(seconds)
        assert update["final"] is False
        if estimate is None:
            assert update["attributes"] is update["emotions"] is None
        else:
            same(update, estimate)
    assert final["final"] is True
    assert final["model"]["name"] == "toy"
    same(final, estimate)


def test_a_session_of_another_rate_ends_with_the_prediction_of_the_resampled_whole(served, model):
    samples = speech(60_000)
    chunks = [chunk.astype("<f4").tobytes() for chunk in np.split(samples, [1_000, 1_001, 30_000])]
    final = converse(served, "?rate=44100&encoding=f32le&embedding=true", chunks)[-1]
    whole = emojax.Stream(model)(soxr.resample(samples, 44_100, 16_000, quality="HQ"))
    assert final["seconds"] == pytest.approx(60_000 / 44_100)
    same(final, whole, ROUNDING)
    np.testing.assert_allclose(final["embedding"], whole.embedding, atol=1e-4)


def test_concurrent_sessions_are_independent(served, model):
    def session(number):
        samples = speech(16_000, number)
        return converse(served, "?encoding=f32le", [chunk.tobytes() for chunk in np.split(samples, 8)])[-1]

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        finals = list(threads.map(session, range(4)))
    for number, final in enumerate(finals):
        same(final, emojax.Stream(model)(speech(16_000, number)), ROUNDING)


def last_messages(client):
    """Keys of the messages up to the end of a session."""
    found = []
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            found.append(list(json.loads(client.recv(timeout=60))))
    return found


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{}", 1003),
        ("no json", 1003),
        (b"123", 1007),
        (bytes(4 * 16_000 * 2), 1008),
        (bytes((1 << 20) + 2), 1009),
    ],
)
def test_invalid_messages_end_a_session(served, message, code):
    with connect(served.url()) as client:
        client.send(message)
        assert last_messages(client) == ([] if code == 1009 else [["error"]])
        assert client.close_code == code


@pytest.mark.parametrize(("query", "status"), [("?rate=x", 400), ("?x=1", 400)])
def test_a_session_with_invalid_parameters_is_refused(served, query, status):
    with pytest.raises(websockets.InvalidStatus) as caught, connect(served.url(query)):
        pass
    assert caught.value.response.status_code == status
    assert json.loads(caught.value.response.body)["status"] == status


def test_sessions_are_bounded_and_end_with_their_clients(served):
    clients = [connect(served.url()) for _ in range(4)]
    with pytest.raises(websockets.InvalidStatus) as caught, connect(served.url()):
        pass
    assert caught.value.response.status_code == 503
    assert caught.value.response.headers["Retry-After"] == "1"
    for number, client in enumerate(clients):
        client.close() if number else client.socket.close()
    wait_for(lambda: served.service.num_admitted[1] == 0)


def test_a_full_queue_refuses_and_a_stop_answers_what_was_admitted(model):
    service = Served(model, max_seconds=1.0, batch=1, queue=2, streams=1, idle_seconds=0.2, stop_seconds=30.0)
    starting = service.predict(wav(speech(4_000), 16_000))
    assert starting.status in (503, 200)
    service.wait_until_ready()
    with connect(service.url()) as client:
        assert last_messages(client) == [["error"]]
        assert client.close_code == 1008
    gate, compute = threading.Event(), service.service._clips._compute
    service.service._clips._compute = lambda items: gate.wait(60) and compute(items)
    body = wav(speech(4_000), 16_000)
    with concurrent.futures.ThreadPoolExecutor(2) as threads, connect(service.url()) as client:
        admitted = [threads.submit(service.predict, body) for _ in range(2)]
        wait_for(lambda: service.service.num_admitted[0] == 2)
        refused = service.predict(body)
        assert refused.status == 503
        assert refused.headers["Retry-After"] == "1"
        assert refused.tree["detail"] == "the queue of 2 requests is full"
        service.ask_to_stop()
        assert last_messages(client) == []
        assert client.close_code == 1001
        health = service.request("GET", "/health")
        assert (health.status, health.tree["status"]) == (503, "stopping")
        assert service.predict(body).tree["detail"] == "the service is stopping"
        gate.set()
        for answer in admitted:
            same(answer.result().tree, model.predict(speech(4_000), 16_000))
    assert service.stop() == 0


def test_streams_advanced_together_have_the_predictions_of_each(model):
    warm_streams(model, 8)
    compiled = COMPILATIONS.programs
    lengths = [400, 1_600, 1_600, 1_900, 5_000, 0, 30_000, 2_500]
    together, alone = ([emojax.Stream(model) for _ in lengths] for _ in range(2))
    for turn in range(3):
        chunks = [speech(length + 160 * turn, number) for number, length in enumerate(lengths)]
        found = advance_streams(together, chunks)
        for estimate, stream, chunk in zip(found, alone, chunks, strict=True):
            expected = stream(chunk)
            assert (estimate is None) == (expected is None)
            if expected is not None:
                assert estimate.attributes == pytest.approx(expected.attributes, abs=ROUNDING)
                np.testing.assert_allclose(estimate.embedding, expected.embedding, atol=1e-4)
    assert COMPILATIONS.programs == compiled


def test_a_model_that_needs_words_is_refused(tmp_path):
    class Lexical:
        takes_transcripts = True

    with pytest.raises(ConfigError, match="has a lexical modality, and requests have no transcripts"):
        check_servable(Lexical(), tmp_path)


def test_a_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^--host and --port: 127\.0\.0\.1:{port} cannot be used \("):
            open_socket("127.0.0.1", port)


def test_answers_do_not_wait_for_acknowledgements():
    with open_socket("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
