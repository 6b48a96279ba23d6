# SPDX-License-Identifier: Apache-2.0
"""Whatever happens, in whatever order: no address is lost, leaked, or given to two.

A failure is printed as the shortest sequence of events that leads to it, with the seed; repeat it by
`pytest tests/simulation --hypothesis-seed=SEED`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from random import SystemRandom

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.simulation.conftest import REPORT
from tests.simulation.events import AllIsQuiet, Event, events
from tests.simulation.model import Plan
from tests.simulation.user_events import CreateNetwork, Run
from tests.simulation.world import World

STEPS = 10_000
"""How many steps are to be taken at the least."""

SETTINGS = settings(max_examples=400, stateful_step_count=30, suppress_health_check=list(HealthCheck))


class Host(RuleBasedStateMachine):
    """One host, and everything that users, time and accidents can do to it."""

    steps = 0

    @initialize(engine=st.sampled_from([20, 26, 28, 29]), furnished=st.booleans())
    def begin(self, engine: int, furnished: bool) -> None:  # noqa: FBT001
        """Bring up a host with an engine of some version, perhaps with a network and a container."""
        self.world = World(engine)
        if furnished:
            CreateNetwork(Plan()).befall(self.world)
            Run(restarts=True).befall(self.world)

    @rule(event=events)
    def befalls(self, event: Event) -> None:
        """Let something happen."""
        type(self).steps += 1
        self.world.tick()
        event.befall(self.world)

    @invariant()
    def nothing_is_lost_and_nothing_given_twice(self) -> None:
        """After each step."""
        if hasattr(self, "world"):
            self.world.witness.check_step()

    def teardown(self) -> None:
        """When all is quiet in the end, nothing has leaked."""
        if hasattr(self, "world"):
            try:
                AllIsQuiet().befall(self.world)
            finally:
                self.world.close()


def _seed() -> int:
    """Choose another way through at each run; where CI judges a change, always the same one."""
    return 1 if os.environ.get("CI") else SystemRandom().getrandbits(32)


@pytest.mark.timeout(1200)
def test_no_address_is_lost_leaked_or_given_to_two(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    """After a failure, Hypothesis takes some minutes to find the shortest way to it."""
    chosen = str(request.config.getoption("--hypothesis-seed"))
    seed = int(chosen) if chosen.isdecimal() else _seed()
    Host.steps = 0
    try:
        run_state_machine_as_test(hypothesis.seed(seed)(Host), settings=SETTINGS)
    finally:
        record_property(REPORT, f"simulation: {Host.steps} steps, --hypothesis-seed={seed}")
    assert Host.steps >= STEPS
