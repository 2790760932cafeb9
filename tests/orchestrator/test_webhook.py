"""News to a URL, against a real HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from feature_store.errors import UserError
from orchestrator.events import Event, TrialEnded, TrialFailed, WebhookLost
from orchestrator.tracking.webhook import Webhook


class Receiver(ThreadingHTTPServer):
    news: list[dict[str, Any]]
    answers: list[int]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code = server.answers.pop(0) if server.answers else 200
            if code == 200:
                server.news.append(content)
            self.send_response(code)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Nothing on stderr."""

    server = Receiver(("127.0.0.1", 0), Handler)
    server.news, server.answers = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def trial(number: int, value: float, state: str = "COMPLETE") -> TrialEnded:
    return TrialEnded(number, "mn", state, value, {})


@pytest.mark.slow
def test_a_new_best_a_failure_and_the_end_are_sent_in_order_and_nothing_else(receiver: Receiver) -> None:
    seen: list[Event] = []
    hook = Webhook(seen.append, f"http://127.0.0.1:{receiver.server_port}/secret")
    receiver.answers = [200, 503, 503]  # the second piece of news is taken at its third attempt
    events = [trial(0, 50.0), trial(1, 40.0), trial(2, 60.0), trial(3, 70.0, "PRUNED")]
    failed = TrialFailed("study", 4, "mn", "out of memory", {})
    for event in (*events, failed):
        hook(event)
    hook.post("finished", "sweep done")
    hook.close()
    assert [(one["event"], one.get("trial")) for one in receiver.news] == [
        ("best", 0), ("best", 2), ("failed", 4), ("finished", None)
    ]  # fmt: skip
    assert "60.00" in receiver.news[1]["text"]
    lost = [event for event in seen if isinstance(event, WebhookLost)]
    assert lost == [WebhookLost("HTTP 503")], "an outage is reported once, and never the URL"
    assert [event for event in seen if event not in lost] == [*events, failed]


def test_news_that_is_refused_is_dropped(receiver: Receiver) -> None:
    seen: list[Event] = []
    hook = Webhook(seen.append, f"http://127.0.0.1:{receiver.server_port}/secret")
    receiver.answers = [404]
    hook.post("finished", "one")
    hook.post("finished", "two")
    hook.close()
    assert [one["text"] for one in receiver.news] == ["lungtune: two"]
    assert seen == [WebhookLost("HTTP 404")]


def test_only_a_url_of_the_web_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNGTUNE_WEBHOOK", "file:///etc/passwd")
    with pytest.raises(UserError, match="http"):
        Webhook.around(lambda progress: None)
    monkeypatch.delenv("LUNGTUNE_WEBHOOK")
    assert Webhook.around(lambda progress: None) is None
