import os
import signal
import threading

import pytest

from frostline.stopping import StopRule


def rule(elapsed=0.0, **values):
    made = StopRule(**values)
    made.elapsed = lambda: elapsed
    return made


def test_without_a_wish_nothing_ends():
    made = rule(1e9)
    assert not made.check()
    assert not made.check(1.0)
    assert made.reason == ""


@pytest.mark.parametrize(("accuracy", "ends"), [(None, False), (0.0, False), (0.8999, False), (0.9, True), (1.0, True)])
def test_an_accuracy(accuracy, ends):
    made = rule(stop_at=0.9)
    assert made.check(accuracy) is ends
    assert made.reason == (f"validation accuracy {accuracy:.4f} reached --stop-at 0.9" if ends else "")


@pytest.mark.parametrize(("elapsed", "ends"), [(0.0, False), (59.9, False), (60.0, True), (61.0, True)])
def test_a_budget(elapsed, ends):
    made = rule(elapsed, budget_s=60)
    assert made.check() is ends
    assert made.reason == ("the budget of 60 s was spent" if ends else "")


def test_the_share_of_a_budget_that_is_gone():
    assert rule(30.0, budget_s=60).spent(0) == 0.5
    assert rule(30.0, budget_s=60).spent(20) == 0.25
    assert rule(90.0, budget_s=60).spent(0) == 1
    assert rule(90.0, budget_s=60).spent(70) == 1  # what came before has used it up
    assert rule(90.0).spent(0) == 0


def test_once_ended_it_stays_ended():
    made = rule(stop_at=0.5)
    assert made.check(0.6)
    assert made.check(0.1)
    assert made.check()


def test_time_runs_from_the_start():
    made = StopRule()
    assert 0 <= made.elapsed() < 60
    assert StopRule(started=made.started - 100).elapsed() >= 100


def test_one_ctrl_c_asks_and_a_second_aborts():
    made, before = StopRule(), signal.getsignal(signal.SIGINT)
    with made.listen() as listening:
        assert listening is made
        os.kill(os.getpid(), signal.SIGINT)
        assert made.interrupted
        assert made.check()
        assert made.reason == "interrupted by Ctrl-C"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_handler_is_put_back_after_an_error():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="inside"), StopRule().listen():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGINT) is before


def test_elsewhere_than_in_the_main_thread_nothing_is_listened_to():
    seen = []

    def work():
        with StopRule().listen() as made:
            seen.append((made.check(), signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


def test_ctrl_c_is_named_before_a_budget_and_that_before_an_accuracy():
    made = rule(100, budget_s=1, stop_at=0.5, interrupted=True)
    made.check(0.9)
    assert "Ctrl-C" in made.reason
    made = rule(100, budget_s=1, stop_at=0.5)
    made.check(0.9)
    assert "budget" in made.reason
