"""The application portal by Svix's client library: URL and token as arguments."""

import sys

from svix.api import AppPortalAccessIn, ApplicationIn, EndpointIn, Svix, SvixOptions
from svix.exceptions import HttpError

url, token = sys.argv[1:]
options = SvixOptions(server_url=url)
svix = Svix(token, options)
access = svix.authentication.app_portal_access(
    "acme", AppPortalAccessIn(application=ApplicationIn(name="Acme", uid="acme"), feature_flags=["beta"], expiry=3600)
)
user = Svix(access.token, options)
endpoint = user.endpoint.create("acme", EndpointIn(url="https://example.com/"))
assert [found.id for found in user.endpoint.list("acme").data] == [endpoint.id]
user.authentication.logout()
try:
    user.endpoint.list("acme")
except HttpError as error:
    assert error.status_code == 401, error
else:
    raise AssertionError("the token still opens")
assert [found.id for found in svix.endpoint.list("acme").data] == [endpoint.id]
