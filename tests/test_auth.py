"""Tokens and tickets."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from redis.asyncio import Redis
from tornado.web import Application, RequestHandler

from settings import Settings
from tests.conftest import SECRET
from tornado_rt.auth import AuthError, Identity, TokenVerifier, make_token
from tornado_rt.secret import SecretError, load_secret
from tornado_rt.tickets import Tickets

HS256 = Settings(jwt_secret=SECRET)
MakePair = Callable[[], Any]

PAIRS: dict[str, MakePair] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def claims(**changes: Any) -> dict[str, Any]:
    return {"sub": "alice", "exp": time.time() + 60} | changes


def signed(**changes: Any) -> str:
    given = {name: value for name, value in claims(**changes).items() if value is not None}
    return jwt.encode(given, SECRET, algorithm="HS256")


def public_pem(private: Any) -> bytes:
    pem: bytes = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


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
    settings = attrs.evolve(HS256, jwt_issuer="us", jwt_audience="rt")
    verifier = TokenVerifier(settings, SECRET)
    own, _ = make_token(settings, SECRET, "alice", [], 60)
    assert (await verifier.verify(own)).user_id == "alice"
    for token in (signed(), signed(iss="us"), signed(iss="us", aud="x"), signed(iss="x", aud="rt")):
        with pytest.raises(AuthError):
            await verifier.verify(token)


@pytest.mark.gen_test
@pytest.mark.parametrize("algorithm", PAIRS)
async def test_public_key_checks_tokens(tmp_path: Path, algorithm: str) -> None:
    """And its text is no secret: a token signed with it as one is refused."""
    private = PAIRS[algorithm]()
    path = tmp_path / "key.pem"
    path.write_bytes(public_pem(private))
    settings = Settings(jwt_public_key=str(path), jwt_algorithms=[algorithm])
    verifier = TokenVerifier(settings, "")
    token = jwt.encode(claims(), private, algorithm=algorithm)
    assert (await verifier.verify(token)).user_id == "alice"
    with pytest.raises(AuthError):
        await verifier.verify(signed())


@attrs.define
class KeyServer:
    """Serves one public key as a JWKS."""

    private: Any = attrs.field(factory=PAIRS["RS256"])

    def application(self) -> Application:
        key = jwt.algorithms.RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        keys = {"keys": [{**key, "kid": "k1", "use": "sig", "alg": "RS256"}]}

        class Keys(RequestHandler):
            def get(self) -> None:
                self.finish(orjson.dumps(keys))

        return Application([("/jwks", Keys)], log_function=lambda _: None)


@pytest.fixture
def key_server() -> KeyServer:
    return KeyServer()


@pytest.fixture
def app(key_server: KeyServer) -> Application:
    return key_server.application()


@pytest.mark.gen_test
async def test_jwks_checks_tokens(key_server: KeyServer, http_server: Any, base_url: str) -> None:
    settings = Settings(jwt_jwks_url=f"{base_url}/jwks", jwt_algorithms=["RS256"])
    verifier = TokenVerifier(settings, "")
    own = jwt.encode(claims(), key_server.private, algorithm="RS256", headers={"kid": "k1"})
    assert (await verifier.verify(own)).user_id == "alice"
    unknown = jwt.encode(claims(), key_server.private, algorithm="RS256", headers={"kid": "k2"})
    with pytest.raises(AuthError):
        await verifier.verify(unknown)


@pytest.mark.gen_test
async def test_ticket_is_redeemed_once(redis: Redis) -> None:
    """Also when many come at once; and the store does not hold the ticket itself."""
    identity = Identity("alice", frozenset({"rt:admin"}), time.time() + 60)
    tickets = Tickets(redis, 30)
    ticket = await tickets.issue(identity)
    [key] = await redis.keys("*")
    assert ticket.encode() not in key
    assert 0 < await redis.ttl(key) <= 30
    found = await asyncio.gather(
        *(tickets.redeem(ticket) for _ in range(5)), return_exceptions=True
    )
    assert [one for one in found if not isinstance(one, AuthError)] == [identity]


def test_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    secret, generated = load_secret(settings)
    assert generated
    assert len(secret) >= 32
    assert load_secret(settings) == (secret, True)
    assert (tmp_path / "data" / "jwt_secret").stat().st_mode & 0o777 == 0o600


def test_short_secret_is_refused() -> None:
    with pytest.raises(SecretError, match="jwt_secret"):
        load_secret(Settings(jwt_secret="short"))
