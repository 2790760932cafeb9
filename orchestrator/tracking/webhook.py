"""A sweep's news as JSON to a URL: a new best trial, a failed one, the end. The URL is a secret and never shown."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any

from feature_store.errors import UserError
from feature_store.redaction import masked
from orchestrator.events import Event, TrialEnded, TrialFailed, Watch, WebhookLost
from orchestrator.tracking.background_writer import Outbox

VARIABLE = "LUNGTUNE_WEBHOOK"
PATIENCE = 10.0  # seconds that the end of a sweep waits for news not yet taken


class Webhook:
    """Passes every event on, and posts those that somebody far away wants to know.

    A post is ``{"text": ..., "event": "best" | "failed" | "finished" | "stopped", ...}``; chat services show `text`.

    Args:
        watch: who sees every event.
        url: to post to.

    Raises:
        UserError: the URL is none.
    """

    def __init__(self, watch: Watch, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise UserError("is no http or https URL", where=VARIABLE)
        self.watch, self.url = watch, url
        self.best = float("-inf")
        self.outbox = Outbox(_is_lost, self._tell)

    @classmethod
    def around(cls, watch: Watch) -> Webhook | None:
        """A webhook where the environment names a URL."""
        url = os.environ.get(VARIABLE)
        return cls(watch, url) if url else None

    def __call__(self, event: Event) -> None:
        self.watch(event)
        match event:
            case TrialFailed():
                self.post("failed", f"trial {event.trial} failed: {event.error}", trial=event.trial)
            case TrialEnded(state="COMPLETE", value=float(value)) if value > self.best:
                self.best = value
                text = f"new best: trial {event.trial} ({event.family}) at {value:.2f}"
                self.post("best", text, trial=event.trial, value=value, params=event.params)

    def post(self, event: str, text: str, **facts: Any) -> None:
        """Send one piece of news."""
        body = json.dumps(masked({"text": f"lungtune: {text}", "event": event, **facts})).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        self.outbox.put(lambda: urllib.request.urlopen(request, timeout=10).close())

    def close(self) -> None:
        """Wait a little for what has not been taken yet."""
        self.outbox.close(PATIENCE)

    def _tell(self, error: Exception) -> None:
        reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
        self.watch(WebhookLost(reason))  # without the URL


def _is_lost(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code == 429
    return isinstance(error, OSError)
