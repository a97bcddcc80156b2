"""What a platform does with Svix's client library, against a running `hooklane serve`: URL, token and the receiver's URL as arguments."""

import sys

from svix.api import (
    ApplicationIn, ApplicationListOptions, ApplicationPatch, EndpointHeadersIn, EndpointHeadersPatchIn, EndpointIn, EndpointListOptions,
    EndpointPatch, EndpointSecretRotateIn, EndpointUpsertIn, EventTypeDeleteOptions, EventTypeIn, EventTypeListOptions, EventTypePatch,
    EventTypeUpsertIn, MessageIn, Svix, SvixOptions,
)
from svix.exceptions import HTTPValidationError, HttpError
from svix.models import Ordering

url, token, receiver = sys.argv[1:]
svix = Svix(token, SvixOptions(server_url=url))


def refused(status, call):
    try:
        call()
    except (HTTPValidationError, HttpError) as error:
        assert error.status_code == status, (status, error.status_code, error)
        return error
    raise AssertionError(f"not refused with {status}")


def invalid(field, call):
    error = refused(422, call)
    found = [problem.loc for problem in error.detail] if hasattr(error, "detail") and isinstance(error.detail, list) else str(error)
    assert field in str(found), (field, found)


# Applications.
app = svix.application.create(ApplicationIn(name="Acme", uid="acme", metadata={"plan": "gold"}))
assert app.id.startswith("app_") and app.uid == "acme" and app.metadata == {"plan": "gold"}, app
assert svix.application.get("acme") == svix.application.get(app.id) == app
assert svix.application.get_or_create(ApplicationIn(name="Other", uid="acme")) == app
refused(409, lambda: svix.application.create(ApplicationIn(name="Other", uid="acme")))
patched = svix.application.patch("acme", ApplicationPatch(name="Acme Ltd"))
assert patched.name == "Acme Ltd" and patched.metadata == {"plan": "gold"} and patched.uid == "acme", patched
replaced = svix.application.upsert(app.id, ApplicationIn(name="Acme", uid="acme"))
assert replaced.metadata == {} and replaced.created_at == app.created_at and replaced.updated_at > app.updated_at, replaced
made = svix.application.upsert("unknown", ApplicationIn(name="New", uid="new"))
assert made.uid == "new" and svix.application.get("new") == made
svix.application.delete("new")
refused(404, lambda: svix.application.get("new"))
refused(404, lambda: svix.application.delete("new"))
invalid("uid", lambda: svix.application.create(ApplicationIn(name="a", uid="with space")))
invalid("name", lambda: svix.application.create(ApplicationIn(name="")))
limited = svix.application.create(ApplicationIn(name="a", uid="limited", throttle_rate=5))
assert limited.throttle_rate == 5 and svix.application.get("limited").throttle_rate == 5, limited
assert svix.application.patch("limited", ApplicationPatch(name="b")).throttle_rate == 5
assert svix.application.patch("limited", ApplicationPatch(throttle_rate=65535)).throttle_rate == 65535
assert svix.application.patch("limited", ApplicationPatch(throttle_rate=None)).throttle_rate is None
svix.application.delete("limited")
for wrong in (0, 65536, -1):
    invalid("throttleRate", lambda: svix.application.create(ApplicationIn(name="a", throttle_rate=wrong)))
refused(401, lambda: Svix("wrong", SvixOptions(server_url=url)).application.list())

# Pages, there and back.
names = [svix.application.create(ApplicationIn(name=f"app {n}")).id for n in range(7)]
assert names == sorted(names)
for order, expected in ((Ordering.ASCENDING, [app.id, *names]), (Ordering.DESCENDING, [*reversed(names), app.id])):
    found, iterator = [], None
    while True:
        page = svix.application.list(ApplicationListOptions(limit=3, iterator=iterator, order=order))
        found += [item.id for item in page.data]
        iterator = page.iterator
        if page.done:
            break
    assert found == expected, (found, expected)
    back = svix.application.list(ApplicationListOptions(limit=3, iterator=page.prev_iterator, order=order))
    assert [item.id for item in back.data] == expected[3:6], back
for name in names:
    svix.application.delete(name)

# Endpoints.
endpoint = svix.endpoint.create(app.id, EndpointIn(url=receiver, uid="orders", description="Orders", event_types=["invoice.paid"], metadata={"a": "b"}))
assert endpoint.id.startswith("ep_") and endpoint.url == receiver and endpoint.event_types == ["invoice.paid"] and not endpoint.disabled, endpoint
assert svix.endpoint.get("acme", "orders") == svix.endpoint.get(app.id, endpoint.id) == endpoint
assert [item.id for item in svix.endpoint.list("acme").data] == [endpoint.id]
assert svix.endpoint.list("acme", EndpointListOptions(limit=1)).done
patched = svix.endpoint.patch("acme", "orders", EndpointPatch(disabled=True, channels=["eu"]))
assert patched.disabled and patched.channels == ["eu"] and patched.event_types == ["invoice.paid"], patched
replaced = svix.endpoint.upsert("acme", "orders", EndpointUpsertIn(url=receiver, uid="orders"))
assert not replaced.disabled and replaced.channels is None and replaced.event_types is None, replaced
assert svix.endpoint.upsert("acme", "second", EndpointUpsertIn(url=receiver, uid="second", disabled=True)).uid == "second"
limited = svix.endpoint.upsert("acme", "second", EndpointUpsertIn(url=receiver, uid="second", disabled=True, throttle_rate=7))
assert limited.throttle_rate == 7 and svix.endpoint.get("acme", "second").throttle_rate == 7, limited
assert svix.endpoint.patch("acme", "second", EndpointPatch(description="x")).throttle_rate == 7
assert svix.endpoint.patch("acme", "second", EndpointPatch(throttle_rate=8)).throttle_rate == 8
invalid("throttleRate", lambda: svix.endpoint.patch("acme", "second", EndpointPatch(throttle_rate=0)))
assert svix.endpoint.upsert("acme", "second", EndpointUpsertIn(url=receiver, uid="second", disabled=True)).throttle_rate is None
svix.endpoint.delete("acme", "second")
refused(404, lambda: svix.endpoint.get("acme", "second"))
for wrong in ("ftp://example.com", "https://user@example.com/", "example.com"):
    invalid("url", lambda: svix.endpoint.create("acme", EndpointIn(url=wrong)))
invalid("eventTypes", lambda: svix.endpoint.create("acme", EndpointIn(url=receiver, event_types=[])))
invalid("secret", lambda: svix.endpoint.create("acme", EndpointIn(url=receiver, secret="whsec_short")))
refused(404, lambda: svix.endpoint.list("nobody"))

# Headers: those that carry credentials are not shown again.
svix.endpoint.set_headers("acme", "orders", EndpointHeadersIn(headers={"X-Tenant": "7", "Authorization": "Bearer s3cret"}))
shown = svix.endpoint.get_headers("acme", "orders")
assert shown.headers == {"x-tenant": "7"} and shown.sensitive == ["authorization"], shown
svix.endpoint.patch_headers("acme", "orders", EndpointHeadersPatchIn(headers={"x-shop": "b"}))
assert svix.endpoint.get_headers("acme", "orders").headers == {"x-tenant": "7", "x-shop": "b"}
invalid("webhook-id", lambda: svix.endpoint.set_headers("acme", "orders", EndpointHeadersIn(headers={"webhook-id": "x"})))

# Secrets.
first = svix.endpoint.get_secret("acme", "orders").key
svix.endpoint.rotate_secret("acme", "orders", EndpointSecretRotateIn())
second = svix.endpoint.get_secret("acme", "orders").key
assert first != second and second.startswith("whsec_")
svix.endpoint.rotate_secret("acme", "orders", EndpointSecretRotateIn(key="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
assert svix.endpoint.get_secret("acme", "orders").key == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

# Event types.
schema = {"1": {"type": "object", "properties": {"amount": {"type": "number"}}}}
kind = svix.event_type.create(EventTypeIn(name="invoice.paid", description="An invoice was paid", schemas=schema))
assert kind.name == "invoice.paid" and kind.schemas == schema, kind
refused(409, lambda: svix.event_type.create(EventTypeIn(name="invoice.paid", description="x")))
assert svix.event_type.list().data[0].schemas is None
assert svix.event_type.list(EventTypeListOptions(with_content=True)).data[0].schemas == schema
assert svix.event_type.patch("invoice.paid", EventTypePatch(deprecated=True)).deprecated
assert not svix.event_type.upsert("invoice.paid", EventTypeUpsertIn(description="y")).deprecated
svix.event_type.delete("invoice.paid")
assert svix.event_type.list().data == []
assert svix.event_type.list(EventTypeListOptions(include_archived=True)).data[0].archived
assert not svix.event_type.create(EventTypeIn(name="invoice.paid", description="z")).archived
svix.event_type.delete("invoice.paid", EventTypeDeleteOptions(expunge=True))
refused(404, lambda: svix.event_type.get("invoice.paid"))

# What is not there says so in the API's own words.
assert "not_found" in str(refused(404, lambda: svix.integration.list("acme")))

# A message goes to the endpoint that was made here.
message = svix.message.create("acme", MessageIn(event_type="invoice.paid", event_id="invoice-17", payload={"amount": 49.90}))
# Its own id is used once: each call of the client is a request of its own.
used = refused(409, lambda: svix.message.create("acme", MessageIn(event_type="invoice.paid", event_id="invoice-17", payload={"amount": 1})))
assert "conflict" in str(used), used
print(message.id, app.id, endpoint.id)
