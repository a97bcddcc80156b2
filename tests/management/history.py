"""What a platform does with the history, with Svix's client library, against a running `hooklane serve`: URL, token and the receiver's URL as arguments.
At the receiver /ok answers 200 with a body, /fail 500."""

import datetime
import json
import sys
import time
import urllib.request

from svix.api import (
    ApplicationIn, EndpointIn, EventTypeIn, MessageAttemptListByEndpointOptions, MessageAttemptListByMsgOptions, MessageGetOptions, MessageIn,
    MessageListOptions, Svix, SvixOptions,
)
from svix.exceptions import HTTPValidationError, HttpError
from svix.models import EventExampleIn, MessageStatus, RecoverIn, StatusCodeClass

url, token, receiver = sys.argv[1:]
svix = Svix(token, SvixOptions(server_url=url))


def refused(status, call):
    try:
        call()
    except (HTTPValidationError, HttpError) as error:
        assert error.status_code == status, (status, error.status_code, error)
        return error
    raise AssertionError(f"not refused with {status}")


def until(what, check):
    end = time.monotonic() + 20
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, what
        time.sleep(0.05)


app = svix.application.create(ApplicationIn(name="Acme", uid="acme"))
good = svix.endpoint.create("acme", EndpointIn(url=f"{receiver}/ok", uid="good"))
bad = svix.endpoint.create("acme", EndpointIn(url=f"{receiver}/fail", uid="bad", event_types=["b.b"]))
# Given up after the second attempt: a field that is not Svix's.
request = urllib.request.Request(f"{url}/api/v1/app/acme/endpoint/bad", json.dumps({"hooklane": {"retry": {"delays": [1]}}}).encode(), method="PATCH")
request.add_header("authorization", f"Bearer {token}")
request.add_header("content-type", "application/json")
urllib.request.urlopen(request).read()

# One's own write is there at once.
first = svix.message.create("acme", MessageIn(event_type="a.a", event_id="order-1", channels=["eu"], payload={"n": 1, "f": 1.5}))
shown = MessageGetOptions(with_content=True)
got = svix.message.get("acme", first.id, shown)
assert got.id == first.id and got.payload == {"n": 1, "f": 1.5} and got.event_id == "order-1" and got.channels == ["eu"], got
assert svix.message.get("acme", "order-1").id == first.id
second = svix.message.create("acme", MessageIn(event_type="b.b", payload={"n": 2}))
assert svix.message.get("acme", second.id).timestamp is not None
refused(404, lambda: svix.message.get("acme", "msg_" + "0" * 26))
refused(404, lambda: svix.message.get("nobody", first.id))

# Lists: the newest first, both ways, filtered.
until("both in the list", lambda: [m.id for m in svix.message.list("acme").data] == [second.id, first.id])
page = svix.message.list("acme", MessageListOptions(limit=1))
assert [m.id for m in page.data] == [second.id] and not page.done
rest = svix.message.list("acme", MessageListOptions(limit=1, iterator=page.iterator))
assert [m.id for m in rest.data] == [first.id]
back = svix.message.list("acme", MessageListOptions(limit=1, iterator=rest.prev_iterator))
assert [m.id for m in back.data] == [second.id], back
assert [m.id for m in svix.message.list("acme", MessageListOptions(event_types=["a.a"])).data] == [first.id]
assert [m.id for m in svix.message.list("acme", MessageListOptions(channel="eu")).data] == [first.id]
hour = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
assert svix.message.list("acme", MessageListOptions(after=hour)).data == []

# Attempts, with the answer's body.
attempts = until("the attempt", lambda: svix.message_attempt.list_by_endpoint("acme", "good", MessageAttemptListByEndpointOptions(limit=10)).data)
until("both attempts", lambda: len(svix.message_attempt.list_by_endpoint("acme", "good").data) == 2)
of_first = svix.message_attempt.list_by_msg("acme", first.id, MessageAttemptListByMsgOptions(with_content=True)).data
assert len(of_first) == 1, of_first
attempt = of_first[0]
assert attempt.status == MessageStatus.SUCCESS and attempt.response_status_code == 200 and attempt.response == "thanks", attempt
assert attempt.endpoint_id == good.id and attempt.msg_id == first.id and attempt.url == f"{receiver}/ok" and attempt.trigger_type == 0, attempt
assert svix.message_attempt.get("acme", first.id, attempt.id).id == attempt.id
failed = until("the failed attempt", lambda: svix.message_attempt.list_by_msg("acme", second.id, MessageAttemptListByMsgOptions(endpoint_id="bad")).data)
assert failed[0].status == MessageStatus.FAIL and failed[0].response_status_code == 500, failed
assert svix.message_attempt.list_by_endpoint("acme", "bad", MessageAttemptListByEndpointOptions(status=MessageStatus.SUCCESS)).data == []
only = svix.message_attempt.list_by_endpoint("acme", "bad", MessageAttemptListByEndpointOptions(status_code_class=StatusCodeClass.CODE5XX)).data
assert {a.msg_id for a in only} == {second.id}, only
there = {d.id: d.status for d in svix.message_attempt.list_attempted_destinations("acme", second.id).data}
assert there[good.id] == MessageStatus.SUCCESS and there[bad.id] == MessageStatus.SENDING or there[bad.id] in (MessageStatus.PENDING, MessageStatus.FAIL), there
at = svix.message_attempt.list_attempted_messages("acme", "good").data
assert {m.id for m in at} == {first.id, second.id}, at

# Numbers.
stats = until("the numbers", lambda: (lambda s: s.success == 2 and s)(svix.endpoint.get_stats("acme", "good")))
assert stats.fail == 0 and stats.pending == 0, stats
assert svix.endpoint.get_stats("acme", "bad").success == 0

# Again, by hand.
svix.message_attempt.resend("acme", first.id, "good")
again = until("a second attempt", lambda: (lambda d: len(d) == 2 and d)(svix.message_attempt.list_by_msg("acme", first.id).data))
assert {a.trigger_type for a in again} == {0, 1}, again
refused(404, lambda: svix.message_attempt.resend("acme", first.id, "nobody"))

# What was given up comes again: /fail answers 200 once this event is published.
until("the end", lambda: svix.endpoint.get_stats("acme", "bad").fail == 1)
svix.message.create("acme", MessageIn(event_type="mend", payload={}))
svix.endpoint.recover("acme", "bad", RecoverIn(since=datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)))
until("the recovery", lambda: svix.endpoint.get_stats("acme", "bad").success == 1)

# An example.
svix.event_type.create(EventTypeIn(name="c.c", description="x", schemas={"1": {"type": "object", "examples": [{"sample": True}]}}))
sent = svix.endpoint.send_example("acme", "good", EventExampleIn(event_type="c.c"))
assert sent.payload == {"sample": True}, sent
until("the example", lambda: [a for a in svix.message_attempt.list_by_msg("acme", sent.id).data if a.endpoint_id == good.id])

# Content goes, and what is known stays.
svix.message.expunge_content("acme", first.id)
assert svix.message.get("acme", first.id, shown).payload == {"expired": True}
refused(400, lambda: svix.message_attempt.resend("acme", first.id, "good"))
svix.message_attempt.expunge_content("acme", first.id, attempt.id)
assert svix.message_attempt.get("acme", first.id, attempt.id).response != "thanks"

# What is not there says so in the API's own words.
assert "not_found" in str(refused(404, lambda: svix.message.expunge_all_contents("acme"))), "expunge-all-contents"
print("done")
