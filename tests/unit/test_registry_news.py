# SPDX-License-Identifier: Apache-2.0
"""What every registry promises to those who follow it: everything first, then each change once."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from dni_driver.registry import News
from tests.removing import remove
from tests.unit.every_registry import ME, OpenRegistry, again, host, overlay, peer, url

__all__ = ["again", "url"]


def test_that_it_is_leaving_or_stays_is_news(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.define(overlay())
    two.news(5)
    one.begin_removal("dcos", ME)
    assert two.news(5) == News(overlays=True)
    one.keep("dcos")
    assert two.news(5) == News(overlays=True)


def test_the_first_news_are_everything(again: OpenRegistry) -> None:
    one, two = again(), again()
    assert one.news(5) == News(whole=True, overlays=True)
    one.define(overlay())
    one.register(host())
    mine = one.lease("dcos", 4, ME)
    assert two.news(5) == News(peers=(peer(ME, "44.128.0.1", mine),), whole=True, overlays=True)


def test_what_changes_is_news_once(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.define(overlay())
    two.news(5)
    one.register(host())
    assert two.news(5) == News(peers=(peer(ME, "44.128.0.1"),))
    mine = one.lease("dcos", 4, ME)
    assert two.news(5) == News(peers=(peer(ME, "44.128.0.1", mine),))
    assert not two.news(0)
    one.define(overlay("dev", "10.0.0.0/16"))
    assert two.news(5) == News(overlays=True)
    one.set_backend("dev", "auto")
    assert two.news(5) == News(overlays=True)
    one.close()
    two.forget(ME)
    assert two.news(5) == News(gone=frozenset({ME}))
    assert not two.news(0)


def test_agents_that_lose_a_removed_overlays_subnets_are_news(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.define(overlay())
    one.register(host())
    one.lease("dcos", 4, ME)
    two.news(5)
    remove(one, "dcos")
    assert two.news(5) == News(peers=(peer(ME, "44.128.0.1"),), overlays=True)


def test_who_waits_for_news_hears_them_at_once_and_is_let_go_when_the_registry_is_closed(again: OpenRegistry) -> None:
    one, two = again(), again()
    two.news(5)
    heard: SimpleQueue[News] = SimpleQueue()

    def listen() -> None:
        for _ in range(2):
            heard.put(two.news(60))

    thread = threading.Thread(target=listen)
    thread.start()
    one.register(host())
    assert heard.get(timeout=60) == News(peers=(peer(ME, "44.128.0.1"),))
    two.close()
    assert heard.get(timeout=60) == News()
    thread.join()
