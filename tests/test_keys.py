"""The keys that tokens are checked with: from a file, and from an identity provider."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import HMACAlgorithm
from redis.asyncio import Redis
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from settings import Settings
from tests.api import event_of, frame, serving
from tests.conftest import SECRET
from tests.waiting import stopwatch, until
from tornado_rt import keys as keys_module
from tornado_rt.auth import AuthError, TokenVerifier
from tornado_rt.keys import KeysUnavailable, ProviderKeys
from tornado_rt.secret import SecretError

RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
PAIRS = {"RS256": RSA_KEY, "PS384": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}


def claims(**changes: Any) -> dict[str, Any]:
    return {"sub": "alice", "exp": time.time() + 60} | changes


def signed(private: Any, kid: str | None = None, algorithm: str = "RS256") -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(), private, algorithm=algorithm, headers=headers)


def pem(key: Any) -> bytes:
    """Return a public key, or a private one, in PEM form."""
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    if hasattr(key, "public_bytes"):
        public: bytes = key.public_bytes(encoding, form)
        return public
    private: bytes = key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private


@pytest.fixture
def named(tmp_path: Path) -> Callable[..., Settings]:
    """Settings with this content in the file of the public key."""

    def write(content: bytes, **more: Any) -> Settings:
        path = tmp_path / "key.pem"
        path.write_bytes(content)
        return Settings(jwt_public_key=str(path), **more)

    return write


Named = Callable[..., Settings]


@pytest.mark.gen_test
@pytest.mark.parametrize("algorithm", PAIRS)
@pytest.mark.parametrize("is_named", [True, False])
async def test_public_key_checks_tokens(named: Named, algorithm: str, is_named: bool) -> None:
    """And its text is no secret: a token signed with it as one is refused."""
    private = PAIRS[algorithm]
    content = pem(private.public_key())
    more = {"jwt_algorithms": [algorithm]} if is_named else {}
    verifier = TokenVerifier(named(content, **more), "")
    token = signed(private, algorithm=algorithm)
    assert (await verifier.verify(token)).user_id == "alice"
    forged = jwt.encode(claims(), SECRET, algorithm="HS256")
    with pytest.raises(AuthError):
        await verifier.verify(forged)


@pytest.mark.gen_test
async def test_secret_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each token: that takes half of a check."""
    tokens = [jwt.encode(claims(sub=user), SECRET, "HS256") for user in ("alice", "bob")]
    forged = jwt.encode(claims(), "another secret, of 32 bytes and more", "HS256")
    prepared, prepare = [], HMACAlgorithm.prepare_key

    def counted(self: HMACAlgorithm, key: str | bytes) -> bytes:
        prepared.append(key)
        return prepare(self, key)

    monkeypatch.setattr(HMACAlgorithm, "prepare_key", counted)
    verifier = TokenVerifier(Settings(), SECRET)
    assert [(await verifier.verify(one)).user_id for one in tokens] == ["alice", "bob"]
    with pytest.raises(AuthError, match="Signature verification failed"):
        await verifier.verify(forged)
    assert len(prepared) == 1


@pytest.mark.gen_test
async def test_public_key_may_be_one_of_ssh(named: Named) -> None:
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    verifier = TokenVerifier(named(ED_KEY.public_key().public_bytes(*form)), "")
    assert (await verifier.verify(signed(ED_KEY, algorithm="EdDSA"))).user_id == "alice"


@pytest.mark.gen_test
async def test_file_may_have_several_public_keys(named: Named) -> None:
    """The keys may be of several kinds. A token of another key or algorithm is refused."""
    keys = (RSA_KEY, EC_KEY, ED_KEY)
    content = b"\n# the next one\n".join(pem(one.public_key()) for one in keys)
    verifier = TokenVerifier(named(content), "")
    for private, algorithm in ((RSA_KEY, "RS256"), (EC_KEY, "ES256"), (ED_KEY, "EdDSA")):
        token = signed(private, algorithm=algorithm)
        assert (await verifier.verify(token)).user_id == "alice"
    with pytest.raises(AuthError):
        await verifier.verify(signed(OTHER_RSA_KEY))
    only = TokenVerifier(named(content, jwt_algorithms=["ES256"]), "")
    assert (await only.verify(signed(EC_KEY, algorithm="ES256"))).user_id == "alice"
    for private, algorithm in ((RSA_KEY, "RS256"), (ED_KEY, "EdDSA")):
        with pytest.raises(AuthError):
            await only.verify(signed(private, algorithm=algorithm))


NO_KEYS: dict[str, tuple[Callable[[], bytes], str]] = {
    "private": (lambda: pem(RSA_KEY), "is a private key"),
    "garbage": (lambda: b"\xff\x00garbage", "is not a public key"),
    "empty": (lambda: b"", "is not a public key"),
    "broken": (lambda: pem(RSA_KEY.public_key())[:200], "is not a public key"),
    "huge": (lambda: b"x" * 100_000, "larger than"),
    "one of several is weak": (
        lambda: pem(EC_KEY.public_key()) + pem(rsa.generate_private_key(65537, 1024).public_key()),
        "2048 bits",
    ),
    "weak": (lambda: pem(rsa.generate_private_key(65537, 1024).public_key()), "2048 bits"),
    "DSA": (lambda: pem(dsa.generate_private_key(1024).public_key()), "2048 bits"),
    "curve": (lambda: pem(ec.generate_private_key(ec.SECP192R1()).public_key()), "curve"),
}


@pytest.mark.parametrize("kind", NO_KEYS)
def test_file_without_a_usable_public_key_is_refused(named: Named, kind: str) -> None:
    make, reason = NO_KEYS[kind]
    with pytest.raises(SecretError, match=reason) as refused:
        TokenVerifier(named(make()), "")
    assert str(refused.value).startswith("jwt_public_key: ")


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pem", tmp_path):
        with pytest.raises(SecretError, match=f"jwt_public_key: {path}: "):
            TokenVerifier(Settings(jwt_public_key=str(path)), "")


@pytest.mark.parametrize(
    ("kind", "algorithms"),
    [
        ("secret", ["RS256"]),
        ("secret", ["HS256", "ES256"]),
        ("RSA", ["HS256"]),
        ("RSA", ["RS256", "HS256"]),
        ("RSA", ["ES256"]),
        ("EC", ["ES384"]),
        ("EC", ["EdDSA"]),
        ("provider", ["HS256"]),
    ],
)
def test_algorithm_that_does_not_fit_the_key_is_refused(
    named: Named, kind: str, algorithms: list[str]
) -> None:
    settings = {
        "secret": Settings(jwt_secret=SECRET),
        "RSA": named(pem(RSA_KEY.public_key())) if kind == "RSA" else None,
        "EC": named(pem(EC_KEY.public_key())) if kind == "EC" else None,
        "provider": Settings(jwt_jwks_url="http://127.0.0.1:9/"),
    }[kind]
    assert settings is not None
    with pytest.raises(SecretError, match=rf"jwt_algorithms: {algorithms[-1]} does not fit"):
        TokenVerifier(settings.changed(jwt_algorithms=algorithms), SECRET)


@attrs.define
class Provider:
    """Publishes keys; `answer` says how it answers."""

    url: str = ""
    keys: dict[str | None, Any] = attrs.field(factory=lambda: {"k1": RSA_KEY})
    answer: str | bytes = "keys"
    status: int = 200
    asked: int = 0

    def body(self) -> bytes:
        return json.dumps({"keys": [jwk(key, kid) for kid, key in self.keys.items()]}).encode()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Provider"]:
        provider = self

        class Keys(RequestHandler):
            async def get(self) -> None:
                provider.asked += 1
                answer = provider.answer
                if answer == "silence":
                    await asyncio.sleep(3600)
                self.set_status(provider.status)
                self.finish(provider.body() if isinstance(answer, str) else answer)

        server = HTTPServer(Application([("/jwks", Keys)], log_function=lambda _: None))
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        self.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/jwks"
        try:
            yield self
        finally:
            server.stop()
            await server.close_all_connections()


def jwk(private: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    public = private.public_key()
    algorithms = jwt.algorithms
    maker = {
        rsa.RSAPublicKey: algorithms.RSAAlgorithm,
        ec.EllipticCurvePublicKey: algorithms.ECAlgorithm,
        ed25519.Ed25519PublicKey: algorithms.OKPAlgorithm,
    }
    [form] = [maker[one] for one in maker if isinstance(public, one)]
    return form.to_jwk(public, as_dict=True) | ({} if kid is None else {"kid": kid}) | more


@contextlib.asynccontextmanager
async def checking(provider: Provider, **more: Any) -> AsyncIterator[TokenVerifier]:
    verifier = TokenVerifier(Settings(jwt_jwks_url=provider.url, **more), "")
    try:
        yield verifier
    finally:
        await verifier.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("algorithms", [["auto"], ["RS256", "ES256", "EdDSA", "PS384"]])
async def test_published_keys_check_tokens(algorithms: list[str]) -> None:
    """Each with the algorithms that fit it; asked for once."""
    keys = {"r": RSA_KEY, "e": EC_KEY, "d": ED_KEY}
    async with (
        Provider(keys=keys).serving() as provider,
        checking(provider, jwt_algorithms=algorithms) as verifier,
    ):
        for algorithm, private in PAIRS.items():
            kid = next(name for name, key in keys.items() if key is private)
            token = signed(private, kid, algorithm)
            assert (await verifier.verify(token)).user_id == "alice"
        with pytest.raises(AuthError):
            await verifier.verify(signed(EC_KEY, "r", "ES256"))
        with pytest.raises(AuthError):
            await verifier.verify(jwt.encode(claims(), SECRET, "HS256", {"kid": "r"}))
        with pytest.raises(AuthError):
            await verifier.verify(jwt.encode(claims(), None, "none", {"kid": "r"}))
        assert provider.asked == 1


@pytest.mark.gen_test
async def test_key_of_the_set_that_is_not_for_us_is_left_out() -> None:
    keys = [
        jwk(RSA_KEY, "enc", use="enc"),
        jwk(RSA_KEY, "wrap", key_ops=["wrapKey"]),
        jwk(RSA_KEY, "k1", alg="RS512"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"},
        {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "broken"},
        jwk(rsa.generate_private_key(65537, 1024), "weak"),
        {"kid": "empty"},
        "text",
        None,
        jwk(EC_KEY, "k2", key_ops=["verify"]),
    ]
    answer = json.dumps({"keys": keys}).encode()
    async with Provider(answer=answer).serving() as provider, checking(provider) as verifier:
        assert await verifier.verify(signed(EC_KEY, "k2", "ES256"))
        assert await verifier.verify(signed(RSA_KEY, "k1", "RS512"))
        refused = [("enc", "RS256"), ("k1", "RS256"), ("broken", "RS256"), ("weak", "RS256")]
        refused.append(("wrap", "RS256"))
        for kid, algorithm in refused:
            with pytest.raises(AuthError):
                await verifier.verify(signed(RSA_KEY, kid, algorithm))


@pytest.mark.gen_test
async def test_token_that_names_no_key_needs_a_set_with_one_that_fits() -> None:
    async with Provider(keys={None: RSA_KEY}).serving() as provider, checking(provider) as one:
        assert await one.verify(signed(RSA_KEY))
    keys = {"a": RSA_KEY, "b": OTHER_RSA_KEY}
    async with Provider(keys=keys).serving() as provider, checking(provider) as two:
        with pytest.raises(AuthError):
            await two.verify(signed(RSA_KEY))


FAULTS: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "404": {"status": 404},
    "redirect": {"status": 302},
    "garbage": {"answer": b"\xff<html>"},
    "a list": {"answer": b"[1]"},
    "a number for keys": {"answer": b'{"keys": 5}'},
    "deep": {"answer": b"[" * 100_000},
    "no keys": {"answer": b'{"keys": []}'},
    "too large": {"answer": b'{"keys": [' + b" " * 600_000 + b"]}"},
}


@pytest.mark.gen_test
@pytest.mark.parametrize("fault", FAULTS)
async def test_provider_that_does_not_tell_keys_refuses_nobody(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be said of a token then."""
    monkeypatch.setattr(keys_module, "RETRY_SECONDS", 0.1)
    async with Provider(**FAULTS[fault]).serving() as provider, checking(provider) as verifier:
        with pytest.raises(KeysUnavailable):
            await verifier.verify(signed(RSA_KEY, "k1"))
        assert verifier.faults() == ["the token keys cannot be had"]
        provider.answer, provider.status = "keys", 200

        async def passes() -> bool:
            with contextlib.suppress(KeysUnavailable):
                return bool(await verifier.verify(signed(RSA_KEY, "k1")))
            return False

        await until(passes, what="the provider is asked again")
        assert verifier.faults() == []


@pytest.mark.gen_test
async def test_provider_that_is_not_there_or_silent_holds_nobody_up_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keys_module, "FETCH_SECONDS", 0.3)
    for provider in (Provider("http://127.0.0.1:9/jwks"), Provider(answer="silence")):
        context = provider.serving() if not provider.url else contextlib.nullcontext(provider)
        async with context, checking(provider) as verifier:
            async with stopwatch() as seconds:
                asking = [verifier.verify(signed(RSA_KEY, "k1")) for _ in range(20)]
                found = await asyncio.gather(*asking, return_exceptions=True)
                assert {type(one) for one in found} == {KeysUnavailable}
                assert seconds() < 2
            assert provider.asked <= 1


@pytest.mark.gen_test
async def test_unknown_keys_are_asked_for_once_in_a_while() -> None:
    """However many tokens name them; and known ones do not wait for that."""
    async with Provider().serving() as provider, checking(provider) as verifier:
        unknown = [signed(RSA_KEY, f"x{number}") for number in range(30)]
        for _ in range(2):
            asking = [verifier.verify(token) for token in unknown]
            found = await asyncio.gather(*asking, return_exceptions=True)
            assert {type(one) for one in found} == {AuthError}
        assert provider.asked == 1
        assert await verifier.verify(signed(RSA_KEY, "k1"))


@pytest.mark.gen_test
async def test_new_key_is_found_and_an_old_one_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "ASK_AGAIN_SECONDS", 0.2)
    async with Provider().serving() as provider, checking(provider) as verifier:
        assert await verifier.verify(signed(RSA_KEY, "k1"))
        provider.keys = {"k2": OTHER_RSA_KEY}

        async def passes() -> bool:
            with contextlib.suppress(AuthError):
                return bool(await verifier.verify(signed(OTHER_RSA_KEY, "k2")))
            return False

        await until(passes, what="the new key is known")
        with pytest.raises(AuthError):
            await verifier.verify(signed(RSA_KEY, "k1"))


@pytest.mark.gen_test
async def test_known_keys_are_used_while_the_provider_is_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody waits for it; of a key that may be a new one nothing is said."""
    for name in ("REFRESH_SECONDS", "ASK_AGAIN_SECONDS"):
        monkeypatch.setattr(keys_module, name, 0.05)
    async with Provider().serving() as provider, checking(provider) as verifier:
        assert await verifier.verify(signed(RSA_KEY, "k1"))
        provider.status = 500

        async def is_asked() -> bool:
            assert await verifier.verify(signed(RSA_KEY, "k1"))
            return provider.asked >= 3

        await until(is_asked, what="the provider is asked again")
        provider.answer = "silence"
        await asyncio.wait_for(
            verifier.verify(signed(RSA_KEY, "k1")), 0.9 * keys_module.FETCH_SECONDS
        )
        provider.answer = "keys"
        with pytest.raises(KeysUnavailable):
            await verifier.verify(signed(RSA_KEY, "k9"))
        assert verifier.faults() == []


@pytest.mark.gen_test
async def test_one_that_stops_waiting_stops_nobody_else() -> None:
    async with Provider(answer="silence").serving() as provider:
        keys = ProviderKeys(provider.url, frozenset({"RS256"}))
        first, second = (asyncio.create_task(keys.find(signed(RSA_KEY, "k1"))) for _ in range(2))
        await until(lambda: provider.asked, what="the provider is asked", equal=1)
        first.cancel()
        await asyncio.wait([first])
        assert not second.done()
        await keys.close()
        with pytest.raises(KeysUnavailable):
            await second


@pytest.fixture
def idle(settings: Settings, redis: Redis, database: Any) -> Settings:
    return settings.changed(jwt_secret="", sse_heartbeat_seconds=0.1)


@pytest.mark.gen_test
async def test_provider_that_is_down_is_503_and_1013(idle: Settings) -> None:
    """Come back later, on every way in; and the server is not ready until it has keys."""
    async with Provider(status=500).serving() as provider:
        settings = idle.changed(jwt_jwks_url=provider.url)
        async with serving(settings, signed(RSA_KEY, "k1")) as alice:
            for path in ("/api/tasks", "/api/notifications/stream"):
                answer = await alice.get(path)
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) >= 1
                assert "WWW-Authenticate" not in answer.headers
            socket = await alice.socket("/api/ws/notifications")
            assert (await frame(socket))["data"]["code"] == "degraded"
            assert await socket.read_message() is None
            assert socket.close_code == 1013
            ready = await alice.get("/readyz")
            assert (ready.status, ready.body["errors"]) == (503, ["the token keys cannot be had"])
            assert (await alice.get("/healthz")).status == 200
            assert (await alice.get("/")).status == 200
            provider.status = 200

            async def is_ready() -> int:
                return (await alice.get("/readyz")).status

            await until(is_ready, what="the server is ready", equal=200)
            assert (await alice.get("/api/tasks")).status == 200
            stream = await alice.stream("/api/notifications/stream")
            assert (await event_of(stream, "connected"))["user_id"] == "alice"
            await stream.close()


# Segments of tokens, and what may stand in one that was made to break the reader.
SEGMENTS = st.one_of(
    st.binary(max_size=9).map(base64.urlsafe_b64encode),
    st.binary(max_size=9).map(lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")),
    st.lists(
        st.sampled_from([b"A", b"z9", b"-", b"_", b"+", b"/", b"=", b"\n", b" ", b"\xff"])
    ).map(b"".join),
)


def read_segment(reader: type[jwt.PyJWS], segment: bytes) -> bytes | str:
    """Return what a segment holds, or why it is refused."""
    try:
        return reader._decode_base64url_segment(segment, "header")
    except jwt.DecodeError as error:
        return str(error)


@given(SEGMENTS)
def test_segment_of_a_token_is_read_as_pyjwt_reads_it(segment: bytes) -> None:
    """Also what it refuses: other letters, padding that does not fit, bits that say nothing."""
    assert read_segment(keys_module._Segments, segment) == read_segment(jwt.PyJWS, segment)
