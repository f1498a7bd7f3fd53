"""A kill between any two steps, with and without loss of power: the log opens with what it promised."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from quorumlog.storage.errors import NoSpace
from tests.storage.model import Model, contents, fill, open_log, same
from tests.support.simulated_disk import PowerCut, SimulatedDisk

Script = Callable[[Model, SimulatedDisk], None]


def create(model: Model, disk: SimulatedDisk) -> None:
    """Nothing: opening is what the kill falls into."""


def roll(model: Model, disk: SimulatedDisk) -> None:
    for size in (100, 3000, 9000, 5000, 300):
        model.append(size)
    model.sync()
    model.append(4000, 8000, 100)
    model.append(9000, rolls=True)
    model.append(50)
    model.sync()


def roll_prepared(model: Model, disk: SimulatedDisk) -> None:
    model.append(9000)
    model.log.prepare_next()
    model.append(9000)
    model.append(9000)
    model.log.prepare_next()
    model.sync()
    model.append(9000)


def seal(model: Model, disk: SimulatedDisk) -> None:
    for _ in range(3):
        model.append(9000)
        model.append(300)
    model.seal()
    model.append(9000)
    model.append(9000)
    model.sync()
    model.seal()


def truncate(model: Model, disk: SimulatedDisk) -> None:
    model.append(1000, 5000, 300)
    model.sync()
    model.append(2000, 100)
    model.truncate(5)
    model.append(400, term=2)
    model.sync()
    model.truncate(3)
    model.append(9000, 30, term=3)
    model.sync()


def truncate_segments(model: Model, disk: SimulatedDisk) -> None:
    for _ in range(4):
        model.append(9000)
        model.append(4000)
    model.sync()
    model.append(200)
    model.truncate(4)
    model.append(9000, term=2)
    model.append(9000, term=2)
    model.sync()
    model.truncate(model.log.bases[-1])
    model.append(100, term=3, rolls=False)
    model.sync()
    model.append(9000, term=4, rolls=True)
    model.truncate(model.log.bases[-1])
    model.append(300, term=5, rolls=True)
    model.sync()


def retention(model: Model, disk: SimulatedDisk) -> None:
    for _ in range(5):
        model.append(9000)
        model.append(4000)
    model.sync()
    model.seal()
    model.drop(2)
    model.append(9000)
    model.append(9000)
    model.sync()
    model.seal()
    model.drop(1)


def install(model: Model, disk: SimulatedDisk) -> None:
    for _ in range(4):
        model.append(9000)
        model.append(4000)
    model.sync()
    model.seal()
    model.append(9000)
    # Segment 9, which is not committed here, gives way to another one of the same name.
    model.install(9, ordinal=7)
    model.append(9000, term=9, rolls=True)
    model.append(9000, term=9)
    model.sync()
    model.seal()
    model.install(30, ordinal=12, term=10)
    model.install(40, ordinal=13, term=10)
    model.append(100, term=10, rolls=True)
    model.sync()


def install_into_an_empty_log(model: Model, disk: SimulatedDisk) -> None:
    model.log.prepare_next()
    model.install(1000, ordinal=50)
    model.append(9000, term=9, rolls=True)
    model.append(9000, term=9)
    model.sync()
    model.seal()
    model.drop(1)


def close(model: Model, disk: SimulatedDisk) -> None:
    model.append(9000)
    model.append(9000)
    model.reopen(disk)
    model.append(500)
    model.sync()
    model.truncate(3)
    model.reopen(disk)
    model.append(9000)
    model.sync()
    model.reopen(disk)


SCRIPTS = [
    create,
    roll,
    roll_prepared,
    seal,
    truncate,
    truncate_segments,
    retention,
    install,
    install_into_an_empty_log,
    close,
]


def run(script: Script, kill_at: int | None, seed: int) -> tuple[Model | None, SimulatedDisk, bool]:
    """Run a script; return its model and disk, and whether it was killed."""
    disk = SimulatedDisk()
    rng = random.Random(seed)
    if kill_at is not None:
        disk.kill_at(kill_at, rng)
    model = None
    try:
        model = Model(disk)
        script(model, disk)
    except PowerCut:
        return model, disk, True
    return model, disk, False


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_script_that_is_not_killed_leaves_what_its_model_says(script: Script) -> None:
    model, _, killed = run(script, None, 0)
    assert model is not None
    assert not killed
    model.check()


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_kill_at_every_step_recovers(script: Script, seed: int | None) -> None:
    """Rows 2, 3, 4 and 17, at every call of the file system.

    Seed None: the process alone is killed. Otherwise the power goes, and the seed says what is lost.
    """
    step = 0
    killed = True
    while killed:
        step += 1
        model, disk, killed = run(script, step, seed or 0)
        history = disk.history[-8:]
        rng = random.Random(f"{script.__name__} {seed} {step}")
        if seed is not None and rng.random() < 0.5:
            disk.write_back(rng)
        after = disk.after_kill() if seed is None else disk.after_power_loss(rng)
        try:
            (model or _unborn()).check_recovered(after)
        except BaseException:
            print(f"script {script.__name__}, seed {seed}, killed at step {step}: {history}")
            raise
    assert step > 5


def _unborn() -> Model:
    """A model of a log that was killed while it was made."""
    return Model(SimulatedDisk())


@pytest.mark.parametrize("seed", range(40))
def test_random_work_with_crashes_never_loses_what_was_synced(seed: int) -> None:
    """Rows 2 and 17."""
    rng = random.Random(seed)
    print("seed", seed)
    disk = SimulatedDisk()
    model = Model(disk)
    for _ in range(6):
        disk.kill_at(rng.randint(1, 120), rng)
        with suppress(PowerCut):
            work(model, disk, rng)
        if rng.random() < 0.3:
            disk = disk.after_kill()
        else:
            disk.write_back(rng)
            disk = disk.after_power_loss(rng)
        log = open_log(disk, model.options)
        assert not log.recovery.fenced, log.recovery
        assert log.first_index in model.firsts
        assert model.floor <= log.last_index <= len(model.maybe)
        assert same(contents(log)) == same(model.maybe[log.first_index - 1 : log.last_index])
        base, _ = log.load_state()
        model.log = log
        model.maybe = model.maybe[: log.last_index]
        model.floor = log.last_index
        model.firsts = {log.first_index}
        model.sealed_up_to = base


def work(model: Model, disk: SimulatedDisk, rng: random.Random) -> None:
    """Do what a log does, at random, until the process is killed."""
    term = model.log.last_term
    while True:
        choice = rng.random()
        if choice < 0.5:
            model.append(*(rng.choice([0, 10, 3000, 9000]) for _ in range(rng.randint(1, 4))), term=term)
        elif choice < 0.7:
            model.sync()
        elif choice < 0.8:
            # What is sealed or before is committed, and an empty log has nothing to take back.
            lowest = max(model.sealed_up_to, model.log.first_index)
            if lowest <= model.log.last_index:
                model.truncate(rng.randint(max(lowest, model.log.last_index - 9), model.log.last_index))
                term += 1
        elif choice < 0.88:
            model.seal()
        elif choice < 0.94:
            droppable = [n for n, base in enumerate(model.log.bases) if n and base <= model.sealed_up_to]
            if droppable:
                model.drop(rng.choice(droppable))
        elif choice < 0.97:
            model.log.prepare_next()
        else:
            disk.write_back(rng)


@pytest.mark.parametrize("seed", range(200))
def test_any_combination_of_lost_pages_leaves_what_was_synced(seed: int) -> None:
    """Rows 6 and 17: bad frames with good ones behind them included: that is what a power loss looks like."""
    rng = random.Random(seed)
    print("seed", seed)
    disk = SimulatedDisk()
    model = Model(disk)
    model.append(*(rng.randrange(1500) for _ in range(rng.randint(1, 4))))
    model.sync()
    model.append(*(rng.randrange(5000) for _ in range(rng.randint(1, 12))), rolls=False)
    if rng.random() < 0.5:
        ticket = model.log.begin_sync()
        ticket.segment.watermark.record()  # the slot is written; the power goes before fdatasync
    model.check_recovered(disk.after_power_loss(rng))


def test_what_a_failed_append_left_never_comes_back() -> None:
    """NoSpace says 'surely not appended': neither a kill nor a power loss may show it after all."""
    for seed in range(30):
        rng = random.Random(seed)
        disk = SimulatedDisk()
        model = Model(disk)
        model.append(100)
        model.sync()
        disk.short_writes = rng
        disk.fail("pwritev", errno.ENOSPC, after=rng.randint(1, 3))
        with pytest.raises(NoSpace):
            fill(model.log, 3, 4000)
        disk.short_writes = None
        model.maybe = contents(model.log)
        model.check_recovered(disk.after_power_loss(rng) if seed % 2 else disk.after_kill())
