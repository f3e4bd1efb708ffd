"""What an attempt that the deadline cuts off says of the attempts before it."""

import pytest

from aws_vpc_net import messages
from aws_vpc_net.causes import Causes
from aws_vpc_net.ec2 import CallContext
from aws_vpc_net.errors import ApiError, Category

WHAT = CallContext("read instance i-1", Category.RETRIEVAL)
CALL, EC2, IMDS = "DescribeInstances", "", "the instance metadata service"
BUSY = messages.transient_error(WHAT, CALL, "Unavailable", "Busy.", outcome_unknown=True)
DENIED = messages.not_permitted(WHAT, CALL, "UnauthorizedOperation", "No.")
NO_KEYS = messages.credentials_unavailable(WHAT, IMDS, "HTTP 503")


def text(causes: Causes, *asked: str, seconds: float = 0.5) -> str:
    error = causes.of_abandoned(WHAT, CALL, list(asked), seconds)
    assert (error.transient, error.outcome_unknown) == (True, True)
    return error.text


@pytest.mark.parametrize("error,asked", [(BUSY, [EC2]), (BUSY, []), (NO_KEYS, [IMDS]), (NO_KEYS, [])])
def test_the_error_before_is_named_first(error: ApiError, asked):
    causes = Causes(11.0)
    causes.note(WHAT, CALL, error)
    for seconds in (0.5, 9.0):
        assert text(causes, *asked, seconds=seconds) == f"{error.text}; then no complete reply in {seconds} s"


@pytest.mark.parametrize("later", [None, DENIED])
def test_another_answer_ends_it(later):
    causes = Causes(11.0)
    causes.note(WHAT, CALL, BUSY)
    causes.note(WHAT, CALL, later)
    assert text(causes, EC2) == "cannot read instance i-1: DescribeInstances: no complete reply in 0.5 s"


def test_credentials_are_not_blamed_once_they_are_there():
    causes = Causes(11.0)
    causes.note(WHAT, CALL, NO_KEYS)
    assert text(causes, IMDS, EC2) == "cannot read instance i-1: DescribeInstances: no complete reply in 0.5 s"


def test_another_purpose_has_causes_of_its_own():
    causes = Causes(11.0)
    causes.note(CallContext("read instance i-2", Category.RETRIEVAL), CALL, BUSY)
    assert "Busy" not in text(causes, EC2)


def test_an_attempt_that_had_its_whole_time_says_enough():
    causes = Causes(11.0)
    causes.note(WHAT, CALL, BUSY)
    whole = text(causes, EC2, seconds=11.0)
    assert whole.endswith("DescribeInstances: no complete reply in 11.0 s")
    assert text(causes, EC2) == f"{whole}; then no complete reply in 0.5 s"


def test_an_attempt_that_waits_for_the_credentials_of_another_names_their_source():
    causes = Causes(11.0)
    assert IMDS in text(causes, IMDS)
    assert IMDS in text(causes)
    assert IMDS not in text(causes, EC2)
