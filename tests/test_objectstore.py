import hashlib
import time

import faults
import pytest

from embarchive import digests, manifest
from embarchive.errors import (
    BadInput,
    CommitUnknown,
    Conflict,
    Damaged,
    EmbarchiveError,
    Missing,
    NotAnArchive,
    StoreUnreachable,
)
from embarchive.store import VerifiedObject, open_store

BIG = hashlib.shake_256(b"big").digest(600_000)
SHA, OUTBOARD = digests.sha256(BIG), digests.block_digests(BIG)
BLOCKS = digests.sha256(OUTBOARD)
MODEL = manifest.object_path("model", SHA)


@pytest.fixture
def server():
    with faults.serving() as one:
        one.put(MODEL, BIG)
        one.put(manifest.object_path("blocks", BLOCKS), OUTBOARD)
        one.put("embarchive.json", b"one")
        yield one


@pytest.fixture
def http(server):
    return open_store(f"{server.url}/bucket/archive/", env={}, deadline=2)


@pytest.fixture
def s3(server):
    return open_store("s3://bucket/archive", env=server.environment(), deadline=2)


@pytest.fixture(params=["http", "s3"])
def either(request, server):
    return request.getfixturevalue(request.param)


def verified(store):
    return VerifiedObject(store, MODEL, SHA, len(BIG), BLOCKS)


def reads(store):
    return (
        lambda: verified(store).whole() == BIG,
        lambda: (
            verified(store).read([(5, 9), (500_000, 500_100)]) == [BIG[5:9], BIG[500_000:500_100]]
        ),
    )


def test_objects_and_ranges_are_read_and_counted(either):
    assert all(read() for read in reads(either))
    assert either.requests == 4
    blocks = 16_384 + 2 * 16_384 if 500_100 // 16_384 > 500_000 // 16_384 else 2 * 16_384
    assert either.bytes_read == len(BIG) + len(OUTBOARD) + blocks


@pytest.mark.parametrize(
    "kind", ["short", "shifted", "long", "truncated", "flip", "status", "reset", "empty", "full"]
)
def test_a_fault_that_stays_is_an_error_and_never_other_bytes(server, either, kind):
    either._deadline = 0.3
    began = time.monotonic()
    for read in reads(either):
        server.faults.clear()
        server.break_("GET", MODEL[:12], kind, times=99)
        if kind == "full" and read is reads(either)[0]:
            continue
        try:
            assert read()
        except (Damaged, StoreUnreachable):
            pass
        else:
            assert kind == "full"  # a whole object for a whole object is no fault
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("kind", ["short", "long", "truncated", "status", "reset", "empty"])
def test_a_fault_that_passes_is_retried(server, either, kind):
    for read in reads(either):
        server.break_("GET", MODEL[:12], kind, times=1)
        assert read()


def test_a_missing_object_is_named_and_a_missing_pointer_is_none(server, either):
    with pytest.raises(Missing, match="models/none"):
        either.get("models/none")
    server.objects.clear()
    assert either.read_pointer() is None


def test_a_huge_pointer_is_given_up(server, either):
    server.put("embarchive.json", b" " * 50_000_000)
    with pytest.raises(NotAnArchive, match="at most 1024 bytes"):
        either.read_pointer()
    assert either.bytes_read < 1 << 20


def test_a_path_that_could_leave_the_root_is_refused(either, server):
    for path in ("../x", "/x", "a/../../x", "a?b", "a#b", "%2e%2e/x"):
        with pytest.raises(BadInput, match="object path"):
            either.get(path)
    assert server.seen == []


def test_the_pointer_is_created_and_replaced_conditionally(server, s3):
    data, token = s3.read_pointer()
    s3.swap_pointer(b"two", token)
    for stale in (token, None):
        with pytest.raises(Conflict):
            s3.swap_pointer(b"three", stale)
    assert s3.read_pointer()[0] == b"two" and data == b"one"


@pytest.mark.parametrize("kind", ["lost", "lost503", "status", "reset"])
def test_an_unknown_swap_says_so_and_is_sent_once(server, s3, kind):
    token = s3.read_pointer()[1]
    s3.check_writable()
    server.break_("PUT", "embarchive.json", kind, times=9)
    with pytest.raises(CommitUnknown):
        s3.swap_pointer(b"two", token)
    assert [m for m, p in server.seen if m == "PUT" and "embarchive.json" in p] == ["PUT"]


def test_a_store_without_conditional_writes_is_refused_unless_for_a_single_writer(server, s3):
    server.conditional = False
    with pytest.raises(BadInput, match=r"conditional writes .* build in a local folder"):
        s3.swap_pointer(b"two", s3.read_pointer()[1])
    alone = open_store("s3://bucket/archive", env=server.environment(), single_writer=True)
    alone.swap_pointer(b"two", alone.read_pointer()[1])
    assert alone.read_pointer()[0] == b"two"
    assert not [path for path in server.objects if "probe" in path]


def test_the_probe_is_made_once(server, s3):
    s3.check_writable()
    seen = len(server.seen)
    s3.check_writable()
    assert len(server.seen) == seen


def test_lists_and_deletes(s3):
    s3.put_new("staging/p/x", b"123")
    assert [(e.path, e.length) for e in s3.list("staging")] == [("staging/p/x", 3)]
    s3.delete("staging/p/x")
    s3.delete("staging/p/x")
    assert s3.list("staging") == []
    assert {e.path for e in s3.list("")} >= {MODEL, "embarchive.json"}


@pytest.mark.parametrize("kind", ["status", "reset", "echo404", "short", "lost", "lost503"])
def test_no_error_names_a_credential(server, kind):
    env = server.environment(AWS_SESSION_TOKEN="TOKENCANARY")
    store = open_store("s3://bucket/archive", env=env, deadline=0.4)
    for method in ("GET", "PUT"):
        server.break_(method, "archive/", kind, times=99)
    said = []
    for verb in (lambda: store.get("models/none"), lambda: store.get_ranges(MODEL, [(0, 5)]),
                 lambda: store.put_new("a", b"1"), lambda: store.swap_pointer(b"1", None),
                 store.check_writable, lambda: store.get(MODEL, length=5)):  # fmt: skip
        try:
            verb()
        except EmbarchiveError as error:
            said += [
                str(error),
                repr(error),
                repr(error.__context__ and error.__suppress_context__),
            ]
    assert said
    assert not [text for text in said if "CANARY" in text or "Signature" in text or "AWS4" in text]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AccessDenied", r"found {} refused$"),
        (
            "InvalidAccessKeyId",
            r"found {} refused: the store does not know this AWS_ACCESS_KEY_ID$",
        ),
        ("SignatureDoesNotMatch", r"found {} refused: AWS_SECRET_ACCESS_KEY does not fit"),
        ("ExpiredToken", r"found {} refused: AWS_SESSION_TOKEN has expired$"),
        ("InvalidToken", r"found {} refused: AWS_SESSION_TOKEN is not valid$"),
        ("RequestTimeTooSkewed", r"found {} refused: the clocks of store and machine differ$"),
        ("AuthorizationHeaderMalformed", r"{} refused: AWS_REGION is not that of the bucket$"),
        ("PermanentRedirect", r"found a redirect: AWS_REGION is not that of the bucket$"),
        ("SomethingNew", r"found {} refused$"),
        ("NoSuchBucket", r"found no such bucket$"),
    ],
)
def test_a_refusal_is_named_at_once(server, s3, code, said):
    for method in ("GET", "PUT"):
        server.break_(method, "archive", code, times=99)
    verbs = {"reading": lambda: s3.get(MODEL), "listing": lambda: s3.list(""),
             "writing": lambda: s3.put_new("a", b"1")}  # fmt: skip
    for doing, verb in verbs.items():
        seen = len(server.seen)
        with pytest.raises(StoreUnreachable, match=said.format(doing)) as caught:
            verb()
        assert "within" not in str(caught.value) and len(server.seen) == seen + 1


def test_a_full_store_may_answer_500_and_is_asked_again(server, s3):
    s3._deadline = 0.4
    server.break_("PUT", "models", "full", times=99)
    with pytest.raises(StoreUnreachable, match=r"within 0.4 s, found HTTP 500, perhaps a full"):
        s3.put_new(MODEL, b"1")
    assert len(server.seen) > 1


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({}, "there is no AWS_ACCESS_KEY_ID"),
        ({"AWS_PROFILE": "p"}, "there is no AWS_ACCESS_KEY_ID; AWS_PROFILE is not read"),
        ({"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SKIP_SIGNATURE": "true"},
         "AWS_SKIP_SIGNATURE is set"),
    ],
)  # fmt: skip
def test_a_refusal_of_what_is_not_signed_says_so(server, env, why):
    plain = {"AWS_ENDPOINT_URL": server.url, "AWS_ALLOW_HTTP": "true"}
    store = open_store("s3://bucket/archive", env=plain | env, deadline=1)
    server.break_("PUT", "models", "AccessDenied")
    with pytest.raises(StoreUnreachable, match=f"refused .requests are not signed: {why}.$"):
        store.put_new(MODEL, b"1")
    store.put_new(MODEL, b"1")
    assert "authorization" not in server.sent[faults.ROOT + MODEL]


def test_keys_and_a_session_token_sign_requests(server):
    for more in ({}, {"AWS_SESSION_TOKEN": "token"}):
        store = open_store("s3://bucket/archive", env=server.environment(**more), deadline=1)
        store.put_new(MODEL, b"1")
        sent = server.sent[faults.ROOT + MODEL]
        assert "Credential=AKIDCANARY/" in sent["authorization"]
        assert sent.get("x-amz-security-token") == more.get("AWS_SESSION_TOKEN")


def test_plain_http_needs_consent():
    with pytest.raises(BadInput, match="AWS_ALLOW_HTTP"):
        open_store("s3://bucket/x", env={"AWS_ENDPOINT_URL": "http://host:1"})


def test_requests_without_credentials_are_not_signed(server):
    env = {"AWS_ENDPOINT_URL": server.url, "AWS_ALLOW_HTTP": "true"}
    store = open_store("s3://bucket/archive", env=env, deadline=1)
    assert store.read_pointer()[0] == b"one"
    assert open_store("s3://bucket/archive", env=server.environment()).get(MODEL) == BIG


def test_a_root_with_odd_letters_is_reached(server):
    server.objects["/bucket/my data/é/embarchive.json"] = b"here"
    for path in ("my%20data/%C3%A9", "my data/é"):
        assert (
            open_store(f"{server.url}/bucket/{path}", env={}, deadline=1).read_pointer()[0]
            == b"here"
        )
    assert (
        open_store("s3://bucket/my data/é", env=server.environment()).read_pointer()[0] == b"here"
    )
