"""Tokens: whatever they hold, they are read or refused."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jwt
import orjson
import pytest

from settings import Settings
from tests.conftest import SECRET
from tests.timing import cpu_seconds
from tests.waiting import until
from tornado_rt.auth import (
    LATEST,
    AuthError,
    Identity,
    NoCredentials,
    TokenVerifier,
    challenge,
    make_token,
)
from tornado_rt.keys import open_keys
from tornado_rt.secret import SecretError

HS256 = Settings(jwt_secret=SECRET)


def claims(**changes: Any) -> dict[str, Any]:
    return {"sub": "alice", "exp": time.time() + 60} | changes


def signed(**changes: Any) -> str:
    given = {name: value for name, value in claims(**changes).items() if value is not None}
    return jwt.encode(given, SECRET, algorithm="HS256")


@pytest.mark.gen_test
async def test_identity_is_read_from_the_token() -> None:
    expires_at = int(time.time()) + 60
    token = signed(exp=expires_at, scope="rt:publish rt:work")
    identity = await TokenVerifier(HS256, SECRET).verify(token)
    assert identity == Identity("alice", frozenset({"rt:publish", "rt:work"}), expires_at)
    assert identity.may("rt:work")
    assert not identity.may("rt:admin")
    assert Identity("root", frozenset({"rt:admin"}), 0).may("rt:work")


# Made when they are checked: one that has expired meanwhile would be refused for that.
BAD_TOKENS: dict[str, tuple[Callable[[], str], str]] = {
    "none": (lambda: "", "Not enough segments"),
    "garbage": (lambda: "x.y.z", "Invalid header"),
    "not ASCII": (lambda: "é", "Not enough segments"),
    "expired": (lambda: signed(exp=time.time() - 1), "has expired"),
    "without exp": (lambda: signed(exp=None), '"exp" claim'),
    "without sub": (lambda: signed(sub=None), '"sub" claim'),
    "empty sub": (lambda: signed(sub=""), "sub must have 1 to 255 characters"),
    "long sub": (lambda: signed(sub="x" * 256), "sub must have 1 to 255 characters"),
    "sub of two lines": (lambda: signed(sub="a\nb"), "control characters"),
    "not yet": (lambda: signed(nbf=time.time() + 30), "not yet valid"),
    "another's": (
        lambda: jwt.encode(claims(), "another secret, also of 32 bytes!", algorithm="HS256"),
        "Signature verification failed",
    ),
    "not allowed": (lambda: jwt.encode(claims(), SECRET + SECRET, algorithm="HS512"), "alg"),
    "unsigned": (lambda: jwt.encode(claims(), None, algorithm="none"), "alg"),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_bad_token_is_refused(kind: str) -> None:
    """And for its own reason."""
    make, reason = BAD_TOKENS[kind]
    with pytest.raises(AuthError, match=reason):
        await TokenVerifier(HS256, SECRET).verify(make())


@pytest.mark.gen_test
async def test_issuer_and_audience_are_checked_when_set() -> None:
    settings = HS256.changed(jwt_issuer="us", jwt_audience="rt")
    verifier = TokenVerifier(settings, SECRET)
    own, _ = make_token(settings, SECRET, "alice", [], 60)
    assert (await verifier.verify(own)).user_id == "alice"
    for token in (signed(), signed(iss="us"), signed(iss="us", aud="x"), signed(iss="x", aud="rt")):
        with pytest.raises(AuthError):
            await verifier.verify(token)


@pytest.mark.gen_test
async def test_secret_can_be_replaced_while_tokens_of_the_one_before_are_used() -> None:
    """By both, and by no third; a token is checked once, whichever fits."""
    new = "a new secret of the deployment, 32 bytes"
    settings = HS256.changed(jwt_secret=new, jwt_previous_secret=SECRET)
    verifier = TokenVerifier(settings, new)
    for secret in (new, SECRET):
        token = jwt.encode(claims(), secret, algorithm="HS256")
        first = await verifier.verify(token)
        assert first.user_id == "alice"
        assert await verifier.verify(token) is first
    with pytest.raises(AuthError, match="Signature verification failed"):
        await verifier.verify(jwt.encode(claims(), "a third " * 8, algorithm="HS256"))
    with pytest.raises(AuthError, match="has expired"):
        await verifier.verify(signed(exp=time.time() - 1))
    with pytest.raises(SecretError, match="jwt_previous_secret: must have 32 bytes or more"):
        TokenVerifier(settings.changed(jwt_previous_secret="short"), new)


@pytest.mark.gen_test
async def test_user_may_be_a_number() -> None:
    verifier = TokenVerifier(HS256, SECRET)
    assert (await verifier.verify(signed(sub=42))).user_id == "42"
    for wrong in (True, 4.5, [1], {"id": 1}, 10**300):
        with pytest.raises(AuthError, match="sub must"):
            await verifier.verify(signed(sub=wrong))


MAPPED = HS256.changed(
    jwt_user_claim="https://app.example/id",
    jwt_scope_claim="realm_access.roles",
    jwt_topics_claim="rooms",
)


@pytest.mark.gen_test
async def test_claims_are_where_the_settings_say() -> None:
    """The name of a claim may have dots itself; `a.b` is also the member of another."""
    verifier = TokenVerifier(MAPPED, SECRET)
    own = {
        MAPPED.auth.jwt_user_claim: 7,
        "realm_access": {"roles": ["rt:work", "x"]},
        "rooms": "a b",
    }
    identity = await verifier.verify(signed(**own))
    assert (identity.user_id, identity.topics) == ("7", ("a", "b"))
    assert identity.may("rt:work")
    # The standard claims do not stand in for a mapped one.
    other = signed(**own, scope="rt:admin", topics=["*"])
    assert not (await verifier.verify(other)).may("rt:admin")
    for strange in (None, "rt:admin", [], {"roles": {"rt:admin": 1}}):
        found = await verifier.verify(signed(**{**own, "realm_access": strange}))
        assert found.scopes == frozenset()
    with pytest.raises(AuthError, match=r"app\.example/id"):
        await verifier.verify(signed())
    made, _ = make_token(MAPPED, SECRET, "bob", ["rt:publish"], 60, ["a"])
    identity = await verifier.verify(made)
    assert (identity.user_id, identity.topics) == ("bob", ("a",))
    assert identity.may("rt:publish")


SURROGATE = chr(0xD800)
DEEP = "[" * 5000 + "]" * 5000


def raw_token(payload: str, header: str = '{"alg":"HS256"}', secret: str = SECRET) -> str:
    """Sign any text: what a JSON encoder would not write."""
    signed = ".".join(_base64(part.encode(errors="surrogatepass")) for part in (header, payload))
    mac = hmac.new(secret.encode(), signed.encode(), "sha256").digest()
    return f"{signed}.{_base64(mac)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


VALUES = [
    *("null", "true", "false", "0", "-1", "1e400", "-1e400", "1e308", "NaN", "Infinity"),
    *("-Infinity", "9" * 400, "9" * 5000, '""', '"2000000000"', '"x"', "[]", "{}", "[[]]"),
    *('"\\ud800"', '{"a":1}', "[1]", '["rt:admin",1,null,"\\ud800"]', DEEP, "1.5", '"\\u0000"'),
]


@pytest.mark.gen_test
@pytest.mark.parametrize("claim", ["sub", "exp", "nbf", "iat", "iss", "aud", "scope", "jti", "x"])
async def test_claim_of_any_type_is_read_or_refused(claim: str) -> None:
    """And what is read can be stored, sent and waited for."""
    for settings in (HS256, HS256.changed(jwt_issuer="us", jwt_audience="rt")):
        verifier = TokenVerifier(settings, SECRET)
        for value in VALUES:
            given = {"sub": '"alice"', "exp": "2000000000", "iss": '"us"', "aud": '"rt"'}
            given[claim] = value
            text = ",".join(f'"{name}":{one}' for name, one in given.items())
            try:
                identity = await verifier.verify(raw_token("{" + text + "}"))
            except AuthError as error:
                orjson.dumps(str(error))
                continue
            orjson.dumps([identity.user_id, sorted(identity.scopes), identity.expires_at])
            assert datetime.fromtimestamp(identity.expires_at, UTC).year <= 9999


HEADERS = [
    *("{}", "[]", "null", '"x"', "1", DEEP, "{", "", '{"alg":null}', '{"alg":1}', '{"alg":[]}'),
    *('{"alg":["HS256"]}', '{"alg":{"HS256":1}}', '{"alg":"none"}', '{"alg":"None"}', '{"alg":""}'),
    *('{"alg":"hs256"}', '{"alg":"RS256"}', '{"alg":"HS256","crit":[]}', '{"alg":"\\ud800"}'),
    *('{"alg":"HS256","crit":["exp"]}', '{"alg":"HS256","crit":["\\ud800"]}'),
    *('{"alg":"HS256","crit":"b64"}', '{"alg":"HS256","b64":false}', '{"alg":"HS256","kid":1}'),
    *('{"alg":"HS256","b64":false,"crit":["b64"]}', '{"alg":"HS256","alg":"none"}'),
]


@pytest.mark.gen_test
@pytest.mark.parametrize("header", HEADERS)
async def test_strange_header_is_refused(header: str) -> None:
    with pytest.raises(AuthError) as refused:
        await TokenVerifier(HS256, SECRET).verify(raw_token(json.dumps(claims()), header))
    orjson.dumps(str(refused.value))
    assert len(str(refused.value)) < 300


NO_TOKENS = ["a.b", "a.b.c.d", "..", ".", "é.é.é", SURROGATE * 3, "\0.\0.\0", "a b.c.d"]


@pytest.mark.gen_test
@pytest.mark.parametrize("text", [*NO_TOKENS, "[[1,2],3]", "null"])
async def test_what_is_no_token_is_refused(text: str) -> None:
    nested = signed(x=signed())
    for one in (text, raw_token(text), raw_token(f'"{nested}"'), nested + "." + nested):
        with pytest.raises(AuthError):
            await TokenVerifier(HS256, SECRET).verify(one)


@pytest.mark.gen_test
async def test_long_token_is_refused_before_it_is_decoded() -> None:
    token = signed(x="y" * 1_000_000)
    with cpu_seconds() as taken:
        with pytest.raises(AuthError, match="longer than 65536 bytes"):
            await TokenVerifier(HS256, SECRET).verify(token)
        assert taken() < 0.01


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("scope", "granted"),
    [
        ("rt:publish  rt:work ", {"rt:publish", "rt:work"}),
        (["rt:publish", "rt:work"], {"rt:publish", "rt:work"}),
        (["rt:work rt:admin"], set()),
        (["rt:work", 1, None, SURROGATE], {"rt:work"}),
        (f"rt:work {SURROGATE}", {"rt:work"}),
        ({"rt:admin": True}, set()),
        (True, set()),
        (None, set()),
    ],
)
async def test_scopes_are_a_text_or_a_list(scope: Any, granted: set[str]) -> None:
    token = raw_token(json.dumps(claims(scope=scope)))
    assert (await TokenVerifier(HS256, SECRET).verify(token)).scopes == granted


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "user_id", ["x", "x" * 255, "a b", "ü@例え", "a|b:c/d", "\u00a0", "😀" * 255]
)
async def test_user_id_has_up_to_255_characters(user_id: str) -> None:
    assert (await TokenVerifier(HS256, SECRET).verify(signed(sub=user_id))).user_id == user_id
    made, _ = make_token(HS256, SECRET, user_id, [], 60)
    assert (await TokenVerifier(HS256, SECRET).verify(made)).user_id == user_id


@pytest.mark.gen_test
async def test_leeway_counts_for_as_long_as_the_identity_does() -> None:
    settings = HS256.changed(jwt_leeway_seconds=10.0)
    expired = int(time.time()) - 5
    identity = await TokenVerifier(settings, SECRET).verify(signed(exp=expired))
    assert identity.expires_at == expired + 10
    with pytest.raises(AuthError, match="expired"):
        await TokenVerifier(HS256, SECRET).verify(signed(exp=expired))


@pytest.mark.gen_test
async def test_token_that_was_good_is_refused_once_it_has_expired() -> None:
    verifier = TokenVerifier(HS256, SECRET)
    token = signed(exp=int(time.time()) + 2)
    assert await verifier.verify(token) is await verifier.verify(token)

    async def is_refused() -> bool:
        try:
            await verifier.verify(token)
        except AuthError as error:
            return "expired" in str(error)
        return False

    await until(is_refused)


@pytest.mark.gen_test
async def test_token_that_was_good_is_checked_again_with_another_key() -> None:
    verifier, token = TokenVerifier(HS256, SECRET), signed()
    assert (await verifier.verify(token)).user_id == "alice"
    verifier._keys = open_keys(Settings(), SECRET[::-1])
    with pytest.raises(AuthError, match="Signature verification failed"):
        await verifier.verify(token)


@pytest.mark.gen_test
async def test_token_is_made_with_an_algorithm_that_is_allowed() -> None:
    long = SECRET + SECRET
    settings = Settings(jwt_secret=long, jwt_algorithms=["HS512"])
    made, _ = make_token(settings, long, "alice", [], 10**400)
    identity = await TokenVerifier(settings, long).verify(made)
    assert identity.expires_at == LATEST


def test_challenge_says_what_is_wrong() -> None:
    """RFC 6750 section 3: nothing of an error when there were no credentials."""
    assert challenge(NoCredentials("no credentials")) == 'Bearer realm="tornado_rt"'
    assert challenge(AuthError('a "b"\r\nX: ü')) == (
        'Bearer realm="tornado_rt", error="invalid_token", error_description="a  b   X:  "'
    )
