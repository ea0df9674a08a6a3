"""Who calls in a property-based run, and the check that nobody does what is not theirs to do.

Environment: EZ_FUZZ_IDENTITY (admin, master or nobody) and, but for nobody, EZ_FUZZ_TOKEN.
"""

import ipaddress
import itertools
import os
import re

import schemathesis
from schemathesis.core.parameters import ParameterLocation

IDENTITY = os.environ["EZ_FUZZ_IDENTITY"]
TOKEN = os.environ.get("EZ_FUZZ_TOKEN")

# Whose the routes are, told from their paths alone: the document's own word on it is what is under test. Any other is
# public.
OWNERS = {"/admin": "admin", "/v1": "master", "/internal": "gateway", "/metrics": "admin"}

# Failed sign-ins are limited by address, and most calls here are such: each comes from an address of its own, which the
# sandbox believes.
ADDRESSES = itertools.count(int(ipaddress.ip_address("10.0.0.1")))


@schemathesis.hook
def before_call(context, case, kwargs):
    case.headers["X-Forwarded-For"] = str(ipaddress.ip_address(next(ADDRESSES)))
    if case.meta is not None and case.meta.phase.name.value == "stateful":
        mean_it(case)


def mean_it(case):
    """In a sequence of calls the checks count on what was created and deleted. A dry run does neither, and a repeated
    Idempotency-Key creates nothing: valid ones are left out, invalid ones have to be refused here as well."""
    if str(case.query.get("dry_run")).lower() == "true" and not case.meta.is_negative_at(ParameterLocation.QUERY):
        case.query.pop("dry_run")
    if re.fullmatch(r"[!-~]{1,128}", str(case.headers.get("Idempotency-Key", ""))):
        case.headers.pop("Idempotency-Key")


if TOKEN:

    @schemathesis.auth()
    class SignIn:
        def get(self, case, context):
            return f"Bearer {TOKEN}"

        def set(self, case, data, context):
            case.headers["Authorization"] = data


def owner(path):
    return next((who for prefix, who in OWNERS.items() if path == prefix or path.startswith(f"{prefix}/")), None)


@schemathesis.check
def nobody_does_what_is_not_theirs(ctx, response, case):
    is_signed_in = TOKEN and response.request.headers.get("Authorization") == f"Bearer {TOKEN}"
    caller = IDENTITY if is_signed_in else "nobody"
    whose = owner(case.operation.path)
    if whose not in (None, caller):
        assert response.status_code >= 400, f"{caller} got {response.status_code} from a route of {whose}"
