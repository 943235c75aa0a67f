"""What requests may hold of the server, and until when: places, memory, uploads, each shared out fairly."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from serve.limits.fairness import Allowance, Holding, Share
from serve.limits.refusal import Refusal
from serve.service.delivery import Delivery
from serve.service.models import ServedModel
from serve.settings import Settings


def full(retry_after_s: float) -> Refusal:
    """Return the refusal of a request that finds no room."""
    return _later("too many requests are waiting", retry_after_s)


def _later(detail: str, retry_after_s: float) -> Refusal:
    return Refusal(429, detail, {"retry-after": str(max(1, math.ceil(retry_after_s)))})


class Shares:
    """What one server process shares out among its clients.

    Args:
        settings: how much there is of each, and how much a client may have.
    """

    def __init__(self, settings: Settings) -> None:
        self.max_audio_seconds = settings.max_audio_seconds
        self.places = Share(settings.max_queue, settings.client_requests)
        self.memory = Share(settings.max_held_frames)
        self.uploads = Share(settings.max_uploads, settings.client_requests)
        self.bodies = Share(max(settings.max_held_bytes, 2 * settings.max_body_bytes))
        requests_per_s, audio_s = settings.client_requests_per_s, settings.client_audio_s_per_min
        self.requests = Allowance(requests_per_s, max(0.0, requests_per_s - 1))
        self.audio_seconds = Allowance(audio_s / 60, audio_s)
        self.deliveries: set[Delivery] = set()

    def count_request(self, client: str) -> None:
        """Count a request of ``client``.

        Raises:
            Refusal: 429 ``client`` has asked for more, in requests or seconds of audio, than it may.
        """
        for allowance, of_what in ((self.requests, "requests"), (self.audio_seconds, "audio")):
            wait_s = allowance.wait_s(client)
            if wait_s > 0:
                raise _later(f"this client has asked for more {of_what} than it may in the time", wait_s)
        self.requests.take(client, 1)

    def make_room(self, share: Share, client: str, amount: int) -> None:
        """Make room for ``amount`` of ``client``, by giving up slow deliveries if need be.

        Those are given up first whose client holds most, and none of a client that holds less than this one.

        Raises:
            Refusal: 429 it cannot.
        """
        if share.fits(client, amount):
            return
        slow = [one for one in self.deliveries if one.is_slow]
        for delivery in sorted(slow, key=lambda one: -share.held_by(one.client)):
            if share.held_by(delivery.client) >= share.held_by(client):
                delivery.give_up()
                if share.fits(client, amount):
                    return
        raise full(share.fits_in_s(client, amount))

    @contextmanager
    def upload(self, client: str, num_bytes: int) -> Iterator[None]:
        """Hold one of the places for bodies that are being received, and the memory for one.

        Raises:
            Refusal: 429 there is none for this client.
        """
        hold = Hold(self, client)
        try:
            hold.take(self.uploads, 1)
            hold.take(self.bodies, num_bytes)
            yield
        finally:
            hold.release()


class Hold:
    """What a client holds of several shares."""

    def __init__(self, shares: Shares, client: str) -> None:
        self.shares, self.client = shares, client
        self._held: list[tuple[Share, Holding]] = []

    def take(self, share: Share, amount: int) -> None:
        """Hold ``amount`` more.

        Raises:
            Refusal: 429 there is no room for it now.
        """
        self.shares.make_room(share, self.client, amount)
        self._held.append((share, share.take(self.client, amount)))

    def release(self) -> None:
        """Release everything held."""
        while self._held:
            share, holding = self._held.pop()
            share.release(holding)


class Admission(Hold):
    """What an accepted request holds, until its answer has been sent or its client has been given up."""

    def take_batch(self, model: ServedModel, num_utterances: int, num_frames: int) -> None:
        """Hold a place for each utterance, and the memory that the scores of ``num_frames`` need.

        Raises:
            Refusal: 413 more than a request can ever have, 429 more than there is room for now.
        """
        shares = self.shares
        shift_ms = model.metadata.fbank.frame_shift_ms
        most = min(int(1000 * shares.max_audio_seconds / shift_ms), shares.memory.largest)
        if num_frames > most:
            raise Refusal(413, f"{num_frames} frames, this server takes up to {most}")
        if num_utterances > shares.places.largest:
            most = shares.places.largest
            raise Refusal(413, f"{num_utterances} utterances, this server takes up to {most} at a time")
        if num_utterances > 1:
            self.take(shares.places, num_utterances - 1)
        self.take(shares.memory, num_frames)
        shares.audio_seconds.take(self.client, num_frames * shift_ms / 1000)
