"""What a platform asks of its messages with Svix's client library. The receiver's `/flaky` answers its first request with 410."""

import sys
import time
from datetime import datetime, timedelta, timezone

from svix.api import (
    ApplicationIn, EndpointGetStatsOptions, EndpointIn, EndpointPatch, EventExampleIn, EventTypeIn, MessageAttemptListAttemptedMessagesOptions,
    MessageAttemptListByEndpointOptions, MessageAttemptListByMsgOptions, MessageGetOptions, MessageIn, MessageListOptions, RecoverIn, ReplayIn,
    Svix, SvixOptions,
)
from svix.exceptions import HTTPValidationError, HttpError
from svix.models import MessageStatus, StatusCodeClass

url, token, receiver = sys.argv[1:]
svix = Svix(token, SvixOptions(server_url=url))


def refused(status, call):
    try:
        call()
    except (HTTPValidationError, HttpError) as error:
        assert error.status_code == status, (status, error.status_code, error)
        return error
    raise AssertionError(f"not refused with {status}")


def eventually(look, expected):
    end = time.monotonic() + 20
    while (found := look()) != expected:
        assert time.monotonic() < end, (found, expected)
        time.sleep(0.05)


def pages(ask):
    found, iterator = [], None
    while True:
        page = ask(iterator)
        found += [item.id for item in page.data]
        if page.done:
            return found, page
        iterator = page.iterator


app = svix.application.create(ApplicationIn(name="Acme", uid="acme"))
svix.endpoint.create("acme", EndpointIn(url=receiver, uid="good"))
flaky = svix.endpoint.create("acme", EndpointIn(url=receiver.replace("/hook", "/flaky"), uid="flaky", event_types=["user.signup"]))
begun = datetime.now(timezone.utc) - timedelta(seconds=1)
messages = []
for n in range(5):
    message = MessageIn(
        event_type="invoice.paid" if n % 2 else "user.signup", event_id=f"order-{n}", payload={"n": n}, channels=["eu"] if n == 0 else None
    )
    made = svix.message.create("acme", message)
    messages.append(made.id)
    # What was just sent is found at once, by either name.
    for name in (made.id, f"order-{n}"):
        got = svix.message.get("acme", name, MessageGetOptions(with_content=True))
        assert (got.id, got.event_id, got.payload, got.timestamp) == (made.id, f"order-{n}", {"n": n}, made.timestamp), got
assert svix.message.get("acme", messages[0]).payload == {}
refused(404, lambda: svix.message.get("acme", "msg_01arz3ndektsv4rrffq69g5fav"))

# Lists: the newest first, in pages there and back, and what filters leave.
listed, last = pages(lambda iterator: svix.message.list("acme", MessageListOptions(limit=2, iterator=iterator)))
assert listed == messages[::-1], (listed, messages)
back = svix.message.list("acme", MessageListOptions(limit=2, iterator=last.prev_iterator))
assert [item.id for item in back.data] == listed[2:4], back
again = svix.message.list("acme", MessageListOptions(limit=2, iterator=back.iterator))
assert [item.id for item in again.data] == listed[4:], again


def chosen(**options):
    return [item.id for item in svix.message.list("acme", MessageListOptions(**options)).data]


assert chosen(event_types=["invoice.paid"]) == [messages[3], messages[1]]
assert len(chosen(event_types=["invoice.paid", "user.signup"])) == 5
assert chosen(channel="eu") == [messages[0]]
assert chosen(before=begun) == [] and len(chosen(after=begun)) == 5
assert svix.message.list("acme", MessageListOptions(with_content=True)).data[0].payload == {"n": 4}
refused(422, lambda: svix.message.list("acme", MessageListOptions(tag="x")))
refused(422, lambda: svix.message.list("acme", MessageListOptions(iterator="msg_1")))
refused(422, lambda: svix.message.list("acme", MessageListOptions(limit=251)))


def stats():
    found = svix.endpoint.get_stats("acme", "flaky", EndpointGetStatsOptions(since=begun))
    return (found.success, found.pending, found.fail)


# Attempts.
def attempts(endpoint, **options):
    return svix.message_attempt.list_by_endpoint("acme", endpoint, MessageAttemptListByEndpointOptions(**options)).data


eventually(lambda: len(attempts("good")), 5)
# What comes behind the 410 is given up without an attempt.
eventually(lambda: stats(), (0, 0, 3))
gone = len(attempts("flaky"))
assert gone >= 1, gone
found, _ = pages(
    lambda iterator: svix.message_attempt.list_by_endpoint("acme", "good", MessageAttemptListByEndpointOptions(limit=2, iterator=iterator))
)
assert found == [item.id for item in attempts("good")] and len(set(found)) == 5, found
attempt = attempts("good", with_msg=True)[0]
assert attempt.msg.id == attempt.msg_id and attempt.msg.payload == {}, attempt
assert (attempt.status, attempt.response_status_code, attempt.trigger_type) == (0, 200, 0) and attempt.url == receiver, attempt
assert attempts("good", status=MessageStatus.FAIL) == [] and len(attempts("flaky", status=MessageStatus.FAIL)) == gone
assert len(attempts("flaky", status_code_class=StatusCodeClass.CODE4XX)) == gone
assert attempts("flaky", status_code_class=StatusCodeClass.CODE5XX) == [] and attempts("flaky", status=MessageStatus.SENDING) == []
assert len(attempts("good", event_types=["invoice.paid"])) == 2 and len(attempts("good", channel="eu")) == 1
of_good = MessageAttemptListByMsgOptions(endpoint_id="good")
assert [item.msg_id for item in svix.message_attempt.list_by_msg("acme", "order-0", of_good).data] == [messages[0]]
at_flaky = attempts("flaky")[0]
of_message = svix.message_attempt.list_by_msg("acme", at_flaky.msg_id).data
assert sorted(item.endpoint_id == flaky.id for item in of_message) == [False, True], of_message
assert svix.message_attempt.get("acme", attempt.msg_id, attempt.id).id == attempt.id
refused(404, lambda: svix.message_attempt.get("acme", messages[0], "atmpt_1"))
svix.message_attempt.expunge_content("acme", attempt.msg_id, attempt.id)
assert svix.message_attempt.get("acme", attempt.msg_id, attempt.id).response == "EXPUNGED"


# How messages stand at an endpoint, and endpoints at a message.
def standing(status):
    options = MessageAttemptListAttemptedMessagesOptions(status=status)
    return [item.id for item in svix.message_attempt.list_attempted_messages("acme", "flaky", options).data]


assert standing(MessageStatus.FAIL) == [messages[4], messages[2], messages[0]] and standing(MessageStatus.SUCCESS) == []
assert stats() == (0, 0, 3)
destinations = svix.message_attempt.list_attempted_destinations("acme", messages[0]).data
assert {item.uid: int(item.status) for item in destinations} == {"good": 0, "flaky": 2}, destinations

# Once more, by hand: the endpoint is changed, so that it is tried again.
svix.endpoint.patch("acme", "flaky", EndpointPatch(description="mended"))
svix.message_attempt.resend("acme", "order-0", "flaky")
eventually(lambda: standing(MessageStatus.SUCCESS), [messages[0]])
resent = svix.message_attempt.list_by_msg("acme", messages[0], MessageAttemptListByMsgOptions(endpoint_id="flaky")).data
assert (int(resent[0].trigger_type), int(resent[0].status)) == (1, 0), resent

# A payload that is gone is gone, and cannot be sent again.
svix.message.expunge_content("acme", messages[4])
assert svix.message.get("acme", messages[4], MessageGetOptions(with_content=True)).payload == {"expired": True}
assert "missing_payload" in str(refused(400, lambda: svix.message_attempt.resend("acme", messages[4], "flaky")))

# All that failed, but what has no payload.
task = svix.endpoint.recover("acme", "flaky", RecoverIn(since=begun))
assert str(task.task) == "endpoint.recover" and str(task.status) == "running", task
eventually(stats, (2, 0, 1))
assert standing(MessageStatus.FAIL) == [messages[4]]
refused(422, lambda: svix.endpoint.recover("acme", "flaky", RecoverIn(since=begun, until=begun)))

# Examples.
svix.event_type.create(EventTypeIn(name="user.signup", description="x", schemas={"1": {"examples": [{"a": 1}]}, "10": {"examples": [{"b": 2}, {"c": 3}]}}))
example = svix.endpoint.send_example("acme", "flaky", EventExampleIn(event_type="user.signup", example_index=1))
assert example.payload == {"c": 3} and example.event_type == "user.signup", example
eventually(lambda: [int(item.status) for item in svix.message_attempt.list_by_msg("acme", example.id).data], [0])
assert svix.message.get("acme", example.id, MessageGetOptions(with_content=True)).payload == {"c": 3}
refused(400, lambda: svix.endpoint.send_example("acme", "flaky", EventExampleIn(event_type="user.signup", example_index=2)))
refused(404, lambda: svix.endpoint.send_example("acme", "flaky", EventExampleIn(event_type="unknown")))

# What is not there says so in the API's own words.
refused(404, lambda: svix.message.expunge_all_contents("acme"))
refused(404, lambda: svix.endpoint.replay_missing("acme", "flaky", ReplayIn(since=begun)))
for call in (svix.message.get, svix.message_attempt.list_by_msg, svix.message_attempt.list_by_endpoint):
    refused(404, lambda: call("nobody", "nothing"))
