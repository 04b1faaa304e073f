"""Usage: gateways.py GUESTPASS GATEWAY=PROGRAM...

What reaches an upstream behind each gateway. Prints a line for each test, as cargo does.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import traceback
from urllib.parse import urlencode

import yaml
from servers import DEPLOY, ISSUER, RECIPES, TIMEOUT, Guestpass, NginxThatCaches, Upstream, ask

STRICT, SOFT = "/account/orders", "/orders"
NAMES = ["x-guestpass-sub", "x-guestpass-subn", "x-guestpass-client", "x-guestpass-customer"]
EVIL = "mallory"
CUSTOMER = "c-4711"
# All of Guestpass that is to be reached from outside.
PATHS_OF_THE_PAGE = ["/oauth/session", "/oauth/ticket", "/oauth/guestpass.js"]
# The cookies of a guest: access token, refresh token, and seed.
A, R, S = "__Host-guest", "__Host-guest-r", "__Host-guest-s"


def main(guestpass_program, *gateways):
    # Told to end, this ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    upstream = Upstream()
    outcomes = []
    for argument in gateways:
        kind, _, program = argument.partition("=")
        for name, recipe in RECIPES[kind].items():
            guestpass = Guestpass(guestpass_program, name)
            gateway = recipe(program, guestpass.port, upstream.port)
            with guestpass, gateway:
                shop = Shop(upstream, guestpass, gateway)
                tests = TESTS_OF_THE_CLUSTER if kind == "haproxy" else TESTS
                if name == "nginx":
                    tests = [c340_a_shared_cache_serves_no_session_twice, *TESTS]
                outcomes += [passes(test, name, shop) for test in tests]
    outcomes += [passes(test, "recipes", None) for test in TESTS_OF_THE_FILES]
    print(f"{outcomes.count(True)} passed, {outcomes.count(False)} failed")
    return not all(outcomes)


def passes(test, gateway, shop):
    name = f"gateways::{gateway}::{test.__name__}"
    try:
        test(shop)
    except Exception:
        print(f"test {name} ... FAILED", flush=True)
        traceback.print_exc(file=sys.stdout)
        return False
    print(f"test {name} ... ok", flush=True)
    return True


# The tests, in this order: the last ones leave Guestpass in trouble.


def c163_a_live_token_arrives_as_identity(shop):
    guest = shop.guest()
    for path in (STRICT, SOFT):
        for token in (guest.bearer, guest.user_jwt, guest.bearer + guest.user_jwt):
            answer, arrived = shop.get(path, token)
            assert answer.status == 200, (path, answer)
            assert arrived.identity() == guest.identity, (path, token, arrived)
            assert arrived.path == path


def c163_and_from_the_token_only(shop):
    one, other = shop.guest(), shop.guest()
    assert one.identity != other.identity
    for guest in (one, other, one):
        _, arrived = shop.get(STRICT, guest.bearer + spoofed("{name}: {value}"))
        assert arrived.identity() == guest.identity, arrived


def c164_no_spelling_of_an_identity_header_arrives(shop):
    guest = shop.guest()
    for path in (STRICT, SOFT):
        for spelling in SPELLINGS:
            for fields in (guest.bearer + spoofed(spelling), spoofed(spelling) + guest.user_jwt):
                answer, arrived = shop.get(path, fields)
                # A gateway may also refuse a malformed field.
                if arrived or answer.status != 400:
                    assert arrived and arrived.identity() == guest.identity, (path, spelling, answer, arrived)
    for spelling in SPELLINGS:
        answer, arrived = shop.get(SOFT, spoofed(spelling))
        if arrived or answer.status != 400:
            assert arrived.identity() == {}, (spelling, answer, arrived)
        answer, arrived = shop.get(STRICT, spoofed(spelling))
        assert (answer.status in (400, 401), arrived) == (True, None), (spelling, answer)


def c164_nor_does_one_behind_the_body(shop):
    guest = shop.guest()
    for path, token, expected in [(STRICT, guest.bearer, guest.identity), (SOFT, [], {})]:
        trailer = "".join(f"{field}\r\n" for field in spoofed("{name}: {value}"))
        body = f"2\r\nhi\r\n0\r\n{trailer}\r\n".encode()
        fields = ["Transfer-Encoding: chunked", "Trailer: x-guestpass-sub", *token]
        answer, arrived = shop.send("POST", path, fields, body)
        assert (answer.status, arrived.body) == (200, b"hi"), (answer, arrived)
        assert arrived.identity() == expected, arrived
        assert EVIL.encode() not in arrived.raw, arrived


def c164_a_refusal_carries_no_identity(shop):
    for token in shop.bad_tokens():
        for fields in (token, token + spoofed("{name}: {value}")):
            answer, arrived = shop.get(STRICT, fields)
            assert (answer.status, arrived) == (401, None), (fields, answer, arrived)
            assert answer.identity() == {} and EVIL.encode() not in answer.raw, answer
            assert answer.values("www-authenticate")[0].startswith("Bearer"), answer


def a_refused_token_arrives_as_nobodys_in_soft_mode(shop):
    for token in shop.bad_tokens():
        for fields in (token, token + spoofed("{name}: {value}")):
            answer, arrived = shop.get(SOFT, fields)
            assert answer.status == 200 and arrived.identity() == {}, (fields, answer, arrived)


def an_answer_to_the_client_carries_no_identity(shop):
    for path in (STRICT, SOFT):
        answer, _ = shop.get(path, shop.guest().bearer)
        assert answer.identity() == {}, answer


def c165_what_a_request_says_of_itself_opens_nothing(shop):
    for claim in CLAIMS:
        answer, arrived = shop.get(STRICT, [claim])
        assert (answer.status, arrived) == (401, None), (claim, answer, arrived)
        answer, arrived = shop.get(SOFT, [claim])
        assert answer.status == 200 and arrived.identity() == {}, (claim, answer, arrived)


def c165_nor_does_its_method_or_path(shop):
    for method in ("HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer, arrived = shop.send(method, STRICT, [], b"")
        assert arrived is None and answer.status in (204, 401), (method, answer)
        # A preflight may be answered by Guestpass, but not by the upstream.
        assert answer.status == 401 or method == "OPTIONS", (method, answer)
    for path in (
        f"{STRICT}?mode=soft",
        f"{STRICT}?mode=soft&mode=soft",
        "//account/orders",
        "/x/../account/orders",
        "/x/%2e%2e/account/orders",
        "/x/..%2faccount/orders",
        "/account%2forders",
        "/%61ccount/orders",
        "http://shop.example/account/orders",
    ):
        answer, arrived = shop.get(path, [])
        assert (answer.status in (400, 401), arrived) == (True, None), (path, answer, arrived)
    # A client cannot reach the internal locations through which the gateway asks Guestpass.
    for path in ("/.guestpass/soft", "/.guestpass/strict", "/oauth/verify"):
        answer, arrived = shop.get(path, shop.guest().bearer)
        assert answer.identity() == {} and (arrived or answer.status == 404), (path, answer)


def f62_a_path_that_can_be_read_in_two_ways_is_refused(shop):
    guest, puts_right = shop.guest(), shop.gateway.normalises
    for path in AMBIGUOUS:
        answer, arrived = shop.get(path, [])
        assert answer.status == 400 or puts_right, (path, answer)
        assert not arrived or not re.match("(?i)/account(/|$)", arrived.path), (path, arrived)
        answer, arrived = shop.get(path, guest.bearer)
        if arrived:
            # In one spelling, and checked as that.
            assert puts_right and re.fullmatch(r"(/\w*)+(\?.*)?", arrived.path), (path, arrived)
            assert arrived.identity() == guest.identity, (path, arrived)
        else:
            assert answer.status == 400, (path, answer)
    # Behind the `?`, and in a name, none of this leads anywhere else.
    for path in ("/orders?back=//account/../%2f;x\\", "/red%20shoes/50%25/a.b/.well-known/x", "/", "/?", "/%C3%A9"):
        answer, arrived = shop.get(path, guest.bearer)
        assert (answer.status, arrived.identity()) == (200, guest.identity), (path, answer)
        # Traefik puts `&` for a `;` there, and leaves out a `?` with nothing behind.
        spellings = {path, path.replace(";", "&").rstrip("?")} if shop.gateway.normalises else {path}
        assert arrived.path in spellings, arrived


def f62_a_strict_path_is_strict_in_every_case_and_without_its_last_slash(shop):
    guest = shop.guest()
    for path in ("/account", "/account?x", "/ACCOUNT/orders", "/Account", "/%41ccount/", "/accoun%54?mode=soft"):
        answer, arrived = shop.get(path, [])
        assert (answer.status, arrived) == (401, None), (path, answer, arrived)
        answer, arrived = shop.get(path, guest.bearer)
        spelling = re.sub("%41", "A", path.replace("%54", "T")) if shop.gateway.normalises else path
        assert (answer.status, arrived.path, arrived.identity()) == (200, spelling, guest.identity), (path, answer)
    for path in ("/accounts", "/accounting/x", "/my/account/"):
        answer, arrived = shop.get(path, [])
        assert (answer.status, arrived.identity()) == (200, {}), (path, answer)


def every_method_arrives_with_its_identity(shop):
    guest = shop.guest()
    for path in (STRICT, SOFT):
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
            answer, arrived = shop.send(method, f"{path}?mode=strict&mode=x", guest.bearer, b"")
            assert answer.status == 200, (method, answer)
            assert (arrived.method, arrived.identity()) == (method, guest.identity), arrived
            assert arrived.path == f"{path}?mode=strict&mode=x", arrived
    answer, arrived = shop.send("OPTIONS", SOFT, [], b"")
    assert (answer.status, arrived.method, arrived.identity()) == (200, "OPTIONS", {}), answer


def a_body_arrives_whole(shop):
    guest = shop.guest()
    body = secrets.token_bytes(100_000)
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n"
    for path, token in [(STRICT, guest.bearer), (SOFT, guest.user_jwt), (SOFT, [])]:
        for fields, sent in [([f"Content-Length: {len(body)}"], body), (["Transfer-Encoding: chunked"], chunked)]:
            answer, arrived = shop.send("POST", path, [*fields, "Content-Type: image/png", *token], sent)
            assert answer.status == 200 and arrived.body == body, (path, fields, answer)
            assert arrived.values("content-type") == ["image/png"]
            assert arrived.identity() == (guest.identity if token else {})
    answer, arrived = shop.send("POST", STRICT, [f"Content-Length: {len(body)}"], body)
    assert (answer.status, arrived) == (401, None), answer


def the_check_is_asked_about_the_token_and_the_origin_alone(shop):
    asked = Upstream()
    program = shop.gateway.command[0]
    with type(shop.gateway)(program, asked.port, shop.upstream.port) as gateway:
        strict = "/oauth/verify?client_id=shop-web"
        for path, target in [(STRICT, strict), (SOFT, f"{strict}&mode=soft")] * 5:
            other = ["X-Forwarded-For: 10.0.0.1", "Forwarded: for=10.0.0.1", "x-api-key: k", "x-y: z"]
            fields = ["Authorization: Bearer one", "x-dressipi-jwt: two", *other, "Content-Length: 5"]
            fields += [f"Cookie: a=b; {A}=one; x-{R}=c; {R}=two; {S}=d; {A}e=f", f"Origin: {ISSUER}"]
            assert ask(gateway.port, "POST", path, fields, b"hello").status == 200
            check = asked.arrived.pop()
            assert (check.path, check.body, asked.arrived) == (target, b"", []), check
            assert check.values("content-length") in ([], ["0"]) and not check.values("transfer-encoding"), check
            assert check.values("authorization") == ["Bearer one"], check
            assert check.values("x-dressipi-jwt") == ["two"], check
            assert check.values("origin") == [ISSUER], check
            (cookie,) = check.values("cookie")
            if shop.gateway.picks_cookies:
                # Envoy leaves it the seed, which nobody reads there.
                assert set(re.findall("[^; ]+", cookie)) - {f"{S}=d"} == {f"{A}=one", f"{R}=two"}, check
            known = {"host", "connection", "content-length", "authorization", "x-dressipi-jwt", "cookie", "origin"}
            assert {name.lower() for name, _ in check.fields} <= known | shop.gateway.own_fields, check
            assert ask(gateway.port, "GET", path, []).status == 200
            check = asked.arrived.pop()
            assert not check.values("cookie") and not check.values("origin"), check
    # One connection for all of them. Traefik has another for the soft ones.
    assert asked.connections <= 2, asked.connections


def a_guest_is_known_by_either_cookie(shop):
    page = shop.page()
    for jar in ({A: page.jar[A]}, {R: page.jar[R]}, {A: page.jar[A], R: page.jar[R]}, {R: page.jar[R], A: "garbage"}):
        for before, after in [("", ""), ("shop=1; ", "; x=2"), ("a;b;;=c; ", ";"), ("", f"; {A}{R}=; x{R}=y; {S}=z")]:
            cookies = [f"Cookie: {before}{'; '.join(f'{name}={value}' for name, value in jar.items())}{after}"]
            for path in (STRICT, SOFT):
                for fields in (cookies, cookies + spoofed("{name}: {value}"), spoofed("{under}: {value}") + cookies):
                    answer, arrived = shop.get(path, fields)
                    assert answer.status == 200 and arrived.identity() == page.identity, (path, fields, answer, arrived)
                    assert arrived.values("cookie") == [cookies[0].removeprefix("Cookie: ")], arrived
    # In fields of their own, as HTTP/2 may have them.
    answer, arrived = shop.get(STRICT, ["Cookie: shop=1", f"Cookie: {R}={page.jar[R]}", "Cookie: x=2"])
    assert answer.status == 200 and arrived.identity() == page.identity, (answer, arrived)
    # The check has changed nothing: the refresh token is still the one that gets an answer.
    jar = dict(page.jar)
    page.ask(shop)
    assert page.jar == jar, page.jar


def without_these_cookies_everyone_is_nobody(shop):
    page = shop.page()
    a, r, host = page.jar[A], page.jar[R], "__Host-"
    for cookie in (
        "shop=1",
        f"{S}={r}",
        f"{A}={r}; {R}={a}",
        f"guest={a}; guest-r={r}",
        f"x{A}={a}; {R}x={r}",
        f"{A.lower()}={a}; {R.lower()}={r}",
        f"%5F%5FHost-guest={a}",
        f"$Version=1; x={R}={r}",
        f"\xa0{A}={a}; \x85{R}={r}",
        f"{A} ={a}; {R}\t={r}",
        f'{A}="{a}"; "{R}={r}"',
        f"{A}={a[:-1]}; {R}={r[1:]}",
        f"{A}; {R}",
        f"{A}=; {R}=",
        f"{A}={'a' * 7000}; {R}=",
        f"{R}={'a' * 7000}",
        f"{host}guest; -r={r}",
    ):
        shop.assert_nobody([f"Cookie: {cookie}"])
    shop.assert_nobody([])
    # Together more than Guestpass takes.
    shop.assert_nobody([f"Cookie: {name}={'a' * 7000}" for name in (A, R, S)])
    answer, arrived = shop.get(SOFT, [f"Cookie: {A}={'a' * 8100}", f"Cookie: {R}={r}"])
    assert answer.status == 200 and arrived.identity() in ({}, page.identity), (answer, arrived)


def two_different_values_of_a_cookie_are_nobody(shop):
    one, other = shop.page(), shop.page()
    for name in (A, R):
        mine, planted = one.jar[name], other.jar[name]
        for values in (
            [mine, planted],
            [planted, mine],
            [planted, mine, planted],
            [mine, mine, planted],
            [mine, ""],
            ["", mine],
            [mine, mine + "x"],
            [mine, mine[:-1]],
            [mine, "y" * 3000],
        ):
            for between in (";", "; ", ";\t ", "; shop=1; ", f"; x{name}=z;"):
                cookie = between.join(f"{name}={value}" for value in values)
                shop.assert_nobody([f"Cookie: {cookie}"])
            shop.assert_nobody([f"Cookie: {name}={value}" for value in values])
            # Beside the other cookie, which is good.
            (good,) = {A, R} - {name}
            shop.assert_nobody([f"Cookie: {good}={one.jar[good]}; " + "; ".join(f"{name}={value}" for value in values)])
        # The same one twice is one.
        answer, arrived = shop.get(STRICT, [f"Cookie: {name}={mine}; x=y; {name}={mine}; {name}={mine}"])
        assert answer.status == 200 and arrived.identity() == one.identity, (answer, arrived)
    # Of two grants, it is the refresh token's.
    answer, arrived = shop.get(STRICT, [f"Cookie: {A}={one.jar[A]}; {R}={other.jar[R]}"])
    assert answer.status == 200 and arrived.identity() == other.identity, (answer, arrived)


def c337_a_foreign_page_is_nobody_though_its_browser_sends_the_cookies(shop):
    page = shop.page()
    # A form that another site posts: browsers send no cookie of SameSite=Lax.
    shop.assert_nobody(["Origin: https://other.example"], "POST")
    # `fetch` of a sibling host: they send it.
    for origin in ("https://evil.shop.example", "https://other.example", "null", f"{ISSUER}:444", "http://shop.example"):
        for method in ("GET", "POST"):
            shop.assert_nobody([*page.cookies, f"Origin: {origin}"], method)
    # A link from elsewhere has no origin; a form of the shop's has its own.
    for method, fields in [("GET", []), ("POST", [f"Origin: {ISSUER}"])]:
        for path in (STRICT, SOFT):
            answer, arrived = shop.send(method, path, page.cookies + fields, b"")
            assert answer.status == 200 and arrived.identity() == page.identity, (method, answer)


def c338_what_a_header_says_counts_more_than_a_cookie(shop):
    guest, one, other = shop.guest(), shop.page(), shop.page()
    # Without a client, as ever.
    assert ask(shop.guestpass.port, "GET", "/oauth/verify", one.cookies).status == 401
    for fields in (["Authorization: Bearer garbage"], ["x-dressipi-jwt: garbage"], guest.bearer + other.user_jwt):
        shop.assert_nobody(fields + one.cookies)
    for said in (guest, other):
        for fields in (said.bearer, said.user_jwt):
            for path in (STRICT, SOFT):
                answer, arrived = shop.get(path, fields + one.cookies)
                assert answer.status == 200 and arrived.identity() == said.identity, (path, answer, arrived)
    # Of another client.
    shop.assert_nobody([f"Cookie: {A}={guest.access_token}"])
    shop.assert_nobody([f"Cookie: {R}={guest.refresh_token}"])


def c340_a_shared_cache_serves_no_session_twice(shop):
    with NginxThatCaches(shop.gateway.command[0], shop.guestpass.port) as cache:
        one, other = Page(), Page()
        for page in (one, other):
            page.ask(cache)
        assert one.jar[R] != other.jar[R] and one.jar[A] != other.jar[A]
        subs = set()
        for page in (one, other):
            answers = [page.post(cache) for _ in range(3)]
            subs |= {json.loads(answer.body)["sub"] for answer in answers}
            assert len({answer.body for answer in answers}) <= 2, answers
            for answer in [*answers, page.post(cache, origin="https://evil.example"), page.end(cache)]:
                assert answer.values("cache-control") == ["no-store"], answer
                assert answer.values("x-cache") != ["HIT"], answer
        assert len(subs) == 2, subs
        # It does keep what it may.
        script = [ask(cache.port, "GET", "/oauth/guestpass.js", []) for _ in range(2)]
        assert [answer.values("x-cache") for answer in script] == [["MISS"], ["HIT"]], script


def a_guest_who_withdraws_is_nobody_at_once(shop):
    page = shop.page()
    before = page.cookies
    answer = page.end(shop)
    assert answer.status == 204 and page.jar == {}, answer
    shop.assert_nobody(before)


def many_cookies_are_no_obstacle(shop):
    guest, page = shop.guest(), shop.page()
    many = [f"Cookie: shop={'c' * 7000}"] * 3
    for path in (STRICT, SOFT):
        for fields, identity in [
            (guest.bearer + many, guest.identity),
            (page.cookies + many, page.identity),
            (many + page.cookies, page.identity),
            (["Cookie: " + f"x=y; " * 1000 + f"{R}={page.jar[R]}"] + many, page.identity),
        ]:
            answer, arrived = shop.get(path, fields)
            if shop.gateway.picks_cookies:
                assert answer.status == 200 and arrived.identity() == identity, answer
            elif path == STRICT:
                assert (answer.status, arrived) == (401, None), answer
            else:
                assert answer.status == 200 and arrived.identity() == {}, answer
            assert not arrived or sum(map(len, arrived.values("cookie"))) >= 21000, arrived
    answer, arrived = shop.get(SOFT, many)
    assert answer.status == 200 and arrived.identity() == {}, answer


def the_page_gets_its_cookies_through_the_gateway(shop):
    page = Page()
    answer = page.post(shop)
    assert (answer.status, json.loads(answer.body)["again"]) == (202, True), answer
    (seed,) = answer.values("set-cookie")
    assert seed == f"{S}={page.jar[S]}; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax", seed
    answer = page.post(shop)
    guest = json.loads(answer.body)
    assert (answer.status, guest["new"], set(page.jar)) == (200, True, {A, R}), answer
    assert len(answer.values("set-cookie")) == 3 and answer.values("cache-control") == ["no-store"], answer
    assert shop.get(STRICT, page.cookies)[1].identity()["x-guestpass-sub"] == guest["sub"]
    for jar, set_cookies in [(page.jar, 0), ({R: page.jar[R]}, 2)]:
        page.jar = dict(jar)
        answer = page.post(shop)
        assert (answer.status, len(answer.values("set-cookie"))) == (200, set_cookies), answer
        assert json.loads(answer.body)["sub"] == guest["sub"], answer
    for origin in ("https://evil.shop.example", "null", None):
        answer = Page(page.jar).post(shop, origin)
        assert (answer.status, answer.values("set-cookie")) == (400, []), (origin, answer)
    # A foreign host's name changes nothing, and is none of the upstream's business.
    assert not shop.upstream.arrived or not shop.upstream.arrived[-1].path.startswith("/oauth/")
    answer, arrived = shop.get("/oauth/guestpass.js?client_id=shop-web", [])
    assert (answer.status, arrived) == (200, None), answer
    assert answer.values("content-type")[0].startswith("text/javascript") and answer.values("etag"), answer
    answer, arrived = shop.send("POST", "/oauth/ticket", [], b"")
    assert (answer.status, arrived) == (400, None) and "error" in json.loads(answer.body), answer
    many = [f"Cookie: shop={'c' * 7000}"] * 3
    answer = page.post(shop, more=many)
    assert answer.status == (200 if shop.gateway.picks_cookies else 431), answer
    assert page.end(shop).status == 204 and page.jar == {}, page.jar


def what_the_page_asks_arrives_unchanged(shop):
    cookies = (f"Set-Cookie: {A}=1; Path=/", f"Set-Cookie: {R}=2; Path=/; Priority=High", "Cache-Control: max-age=600")
    asked = Upstream("".join(f"{field}\r\n" for field in cookies))
    with type(shop.gateway)(shop.gateway.command[0], asked.port, shop.upstream.port) as gateway:
        for path in ("/oauth/session?client_id=shop-web&erase=yes", "/oauth/ticket", "/oauth/guestpass.js?client_id=x"):
            # Twice: neither answer is kept.
            for method in ("POST", "POST", "GET", "GET", "DELETE", "OPTIONS"):
                cookie = f"Cookie: {S}=three; {A}=one; {R}=two"
                fields = [f"Origin: {ISSUER}", cookie, "Sec-Fetch-Site: same-origin", "Content-Length: 5", "x-y: z"]
                answer = ask(gateway.port, method, path, fields, b"hello")
                assert [f"Set-Cookie: {value}" for value in answer.values("set-cookie")] == list(cookies[:2]), answer
                (arrived,) = asked.arrived
                asked.arrived.clear()
                assert (arrived.method, arrived.path, arrived.body) == (method, path, b"hello"), arrived
                assert arrived.values("host") == ["shop.example"] and arrived.values("origin") == [ISSUER], arrived
                assert arrived.values("sec-fetch-site") == ["same-origin"], arrived
                assert set(re.findall("[^; ]+", *arrived.values("cookie"))) == {f"{A}=one", f"{R}=two", f"{S}=three"}
        # What the check says of cookies isn't for the browser.
        for path in (STRICT, SOFT):
            answer = ask(gateway.port, "GET", path, [])
            assert answer.status == 200 and not answer.values("set-cookie"), answer
            assert not answer.values("cache-control"), answer


def the_check_is_out_of_reach_from_outside(shop):
    asked, page = Upstream("".join(f"{name}: {EVIL}\r\n" for name in NAMES)), shop.page()
    with type(shop.gateway)(shop.gateway.command[0], asked.port, shop.upstream.port) as gateway:
        for path in (
            "/oauth/verify",
            "/oauth/verify?client_id=shop-web&mode=soft",
            "/oauth/verify/",
            "/oauth/%76erify",
            "/oauth/session/../verify",
            "/oauth/x/%2e%2e/verify",
            "/oauth/session/",
            "/oauth/token",
            "/oauth/",
            "http://shop.example/oauth/verify",
        ):
            for method in ("GET", "HEAD", "POST", "OPTIONS"):
                fields = [*page.cookies, f"Origin: {ISSUER}", "Content-Length: 0"]
                answer = ask(gateway.port, method, path, fields)
                assert answer.status == 404 or answer.status == 400 and re.search("[.]|%2e", path), (method, path, answer)
                assert asked.arrived == [] and answer.identity() == {}, (path, asked.arrived, answer)
        # Other spellings are another's: the upstream's, if anybody's.
        for path in ("//oauth/verify", "/x/..;/oauth/verify", "/oauth%2fverify", "/OAuth/verify", "/oauth;x/verify"):
            answer = ask(gateway.port, "GET", path, page.cookies)
            assert EVIL.encode() not in answer.raw, (path, answer)
            targets = {arrived.path.partition("?")[2] for arrived in asked.arrived}
            assert targets <= {"client_id=shop-web&mode=soft"}, (path, asked.arrived)


def f41_the_path_of_the_issuer_changes_nothing_but_a_base_path_stands_in_front(shop):
    guestpass, gateway = (program.command[0] for program in (shop.guestpass, shop.gateway))
    for issuer, bases, base in [
        ("https://id.example/id", "/,/api", ""),
        ("https://id.example:8443/id", "/,/id", ""),
        ("https://id.example/api", "/api", "/api"),
    ]:
        server = Guestpass(guestpass, secrets.token_hex(4))
        server.start(GUESTPASS_ISSUER=issuer, GUESTPASS_BASE_PATHS=bases)
        try:
            recipe = type("Recipe", (type(shop.gateway),), {"base": base})
            with recipe(gateway, server.port, shop.upstream.port) as before:
                there = Shop(shop.upstream, server, before)
                guest = Guest(server, base)
                for path in (STRICT, SOFT):
                    answer, arrived = there.get(path, guest.bearer)
                    assert answer.status == 200 and arrived.identity() == guest.identity, (issuer, path, answer)
                    # A token of another installation.
                    answer, arrived = there.get(path, shop.guest().bearer)
                    assert (arrived.identity() if path == SOFT else answer.status) in ({}, 401), (issuer, answer)
        finally:
            server.kill()


def f63_more_headers_than_guestpass_reads_are_no_obstacle(shop):
    guest = shop.guest()
    for many in ([f"x-{n}: {'y' * 7000}" for n in range(3)], [f"x-{n}: y" for n in range(110)]):
        for path in (STRICT, SOFT):
            answer, arrived = shop.get(path, guest.bearer + many)
            if shop.gateway.max_fields < len(many):
                assert (answer.status, arrived) == (431, None), answer
                continue
            assert answer.status == 200 and arrived.identity() == guest.identity, (path, answer)
            answer, arrived = shop.get(SOFT, many)
            assert answer.status == 200 and arrived.identity() == {}, answer


def f63_of_two_tokens_the_checked_one_arrives_or_none(shop):
    """Where a gateway reads one of two headers with the same name, or a spelling of it."""
    one, other = shop.guest(), shop.guest()
    under = [f"x_dressipi_jwt: {one.access_token}"]
    for fields in (
        one.user_jwt + other.user_jwt,
        one.user_jwt + ["x-dressipi-jwt: garbage"],
        one.bearer + other.bearer,
        under,
        under + other.user_jwt,
        other.user_jwt + under,
    ):
        for path in (STRICT, SOFT):
            answer, arrived = shop.get(path, fields)
            tokens = arrived and [v for n, v in arrived.fields if n.lower().replace("_", "-") == "x-dressipi-jwt"]
            if arrived and arrived.identity():
                (guest,) = [guest for guest in (one, other) if guest.identity == arrived.identity()]
                assert tokens == [guest.access_token], (path, fields, arrived)
            else:
                assert answer.status in (400, 401) or path == SOFT, (path, fields, answer)


def a_revoked_token_is_refused_at_once(shop):
    guest = shop.guest()
    assert shop.get(STRICT, guest.bearer)[0].status == 200
    shop.guestpass.post("/oauth/revoke", token=guest.refresh_token, client_id="shop-app")
    answer, arrived = shop.get(STRICT, guest.bearer)
    assert (answer.status, arrived) == (401, None), answer
    answer, arrived = shop.get(SOFT, guest.bearer)
    assert answer.status == 200 and arrived.identity() == {}, arrived


def a_guestpass_that_is_gone_lets_nobody_be_anybody(shop):
    guest, page = shop.guest(), shop.page()
    assert shop.get(STRICT, guest.bearer)[0].status == 200
    shop.guestpass.kill()
    nobody_is_anybody(shop, guest, page)


def c166_nor_does_one_without_its_database(shop):
    # The least value, because the test waits for as long.
    shop.guestpass.start(GUESTPASS_VERIFY__MAX_STALENESS="2s")
    # By the refresh token's cookie, the row of the grant would tell.
    guest, page = shop.guest(), Page({A: shop.page().jar[A]})
    shop.guestpass.lose_the_database()
    shop.guestpass.wait_for(lambda: ask(shop.guestpass.port, "GET", "/oauth/verify", guest.bearer).status == 503)
    nobody_is_anybody(shop, guest, page)


def the_documented_requests_are_answered_as_it_says(shop):
    """Sends each. The comment behind it is a status, or what the upstream says, to the guest or to nobody."""
    guest = shop.guest()
    requests = re.findall(r"^ +(curl .*?) +# (.*)$", (DEPLOY / "README.md").read_text(), re.MULTILINE)
    assert len(requests) == 3, requests
    # Another server may stand first in the same nginx.
    here = f" -H 'Host: shop.example' http://127.0.0.1:{shop.gateway.port}/"
    for request, comment in requests:
        before = len(shop.upstream.arrived)
        answer = subprocess.run(
            ["sh", "-c", request.replace(" http://127.0.0.1/", here)],
            env=os.environ | {"token": guest.access_token, "no_proxy": "*"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        status = comment if comment.isdigit() else "200"
        assert answer.stdout.split()[1] == status, (request, answer)
        identities = [arrived.identity() for arrived in shop.upstream.arrived[before:]]
        expected = {"what the upstream says": [guest.identity], "what the upstream says to nobody": [{}]}
        assert identities == expected.get(comment, []), (request, identities)


def nobody_is_anybody(shop, guest, page):
    for token in (guest.bearer, guest.user_jwt, page.cookies, []):
        for fields in (token, token + spoofed("{name}: {value}")):
            answer, arrived = shop.get(SOFT, fields)
            assert answer.status == 200 and arrived.identity() == {}, (fields, answer, arrived)
            answer, arrived = shop.get(STRICT, fields)
            # A missing token is still refused as such.
            assert arrived is None and answer.status in shop.gateway.gone | (set() if token else {401}), (fields, answer)
            assert answer.identity() == {}, answer


def f64_the_readiness_of_the_nodes_is_not_passed_on(shop):
    # HAProxy asks each node when it starts.
    shop.gateway.wait_for(lambda: shop.get("/up", [])[0].status == 200)
    for path in ("/readyz", "/readyz?x", "http://shop.example/readyz"):
        answer, _ = shop.get(path, [])
        assert answer.status == 404, (path, answer)
    assert shop.get("/livez", [])[0].status == 200


def f64_a_source_is_limited_at_every_base_path_together(shop):
    paths = ["/oauth/authorize?x", "/api/oauth/authorize", "http://shop.example/oauth/authorize"]
    asked = 0
    while shop.get(paths[asked % 3], [])[0].status == 400:
        asked += 1
        assert asked < 6000
    assert asked >= 600, asked
    answer, _ = shop.get(paths[0], [])
    assert (answer.values("retry-after"), answer.values("content-type")) == (["10"], ["application/json"]), answer
    assert json.loads(answer.body)["error"] == "temporarily_unavailable", answer
    # Who is a guest already isn't counted.
    for path in ("/oauth/token", "/api/oauth/token"):
        assert shop.send("POST", path, [], b"")[0].status == 400


def cluster_without_a_node_there_is_nothing_to_be_had(shop):
    shop.guestpass.kill()
    shop.gateway.wait_for(lambda: shop.get("/up", [])[0].status == 503)


def envoys_parses_and_asks_about_tokens_cookies_and_origin(_):
    envoy = yaml.safe_load((DEPLOY / "envoy/envoy.yaml").read_text())
    ((listener,), clusters) = envoy["static_resources"]["listeners"], envoy["static_resources"]["clusters"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    filters = {each["name"]: each for each in manager["http_filters"]}
    names = ["clean", "cookies", "soft", "strict", "all_cookies"]
    assert list(filters) == [*(f"guestpass.{name}" for name in names), "envoy.filters.http.router"], filters
    for name, target, is_off in [("soft", "&mode=soft", None), ("strict", "", True)]:
        check = filters[f"guestpass.{name}"]["typed_config"]
        assert check["http_service"]["path_override"] == f"/oauth/verify?client_id=shop-web{target}", check
        asked = {pattern["exact"] for pattern in check["allowed_headers"]["patterns"]}
        assert asked == {"x-dressipi-jwt", "cookie", "origin"}, check
        # Soft is the default.
        assert filters[f"guestpass.{name}"].get("disabled") == is_off, name
    (routes,) = (host["routes"] for host in manager["route_config"]["virtual_hosts"])
    to_guestpass = [route for route in routes if route.get("route") == {"cluster": "guestpass"}]
    (page,) = (re.compile(route["match"]["safe_regex"]["regex"]) for route in to_guestpass)
    assert all(page.fullmatch(path) for path in PATHS_OF_THE_PAGE), page
    assert not any(map(page.fullmatch, ("/oauth/verify", "/oauth/token", "/oauth/guestpassxjs", "/oauth/"))), page
    assert {cluster["name"] for cluster in clusters} == {"guestpass", "shop"}


def traefiks_parse_and_ask_about_tokens_cookies_and_origin(_):
    static, dynamic = (
        yaml.safe_load((DEPLOY / f"traefik/{name}.yaml").read_text()) for name in ("traefik", "guestpass")
    )
    http, points = dynamic["http"], static["entryPoints"]
    for name, port, mode in [("soft", 8081, "&mode=soft"), ("strict", 8080, "")]:
        check = http["middlewares"][f"guestpass-{name}"]["forwardAuth"]
        assert check["address"] == f"http://127.0.0.1:{port}/oauth/verify?client_id=shop-web{mode}", check
        assert set(check["authRequestHeaders"]) == {"Authorization", "x-dressipi-jwt", "Cookie", "Origin"}, check
        assert "addAuthCookiesToResponse" not in check and "authResponseHeaders" not in check, check
    ways = {name: way for name, way in http["routers"].items() if way["entryPoints"] == ["shop"]}
    assert sorted(ways, key=lambda name: -ways[name]["priority"]) == ["ambiguous", "page", "inside", "strict", "soft"]
    assert [name for name, way in ways.items() if way["service"] != "shop"] == ["page"]
    assert ways["page"]["rule"] == " || ".join(f"Path(`{path}`)" for path in PATHS_OF_THE_PAGE), ways
    # The soft check's own entry point is on loopback.
    assert set(points) == {"shop", "guestpass"} and points["guestpass"]["address"] == "127.0.0.1:8081", points


TESTS_OF_THE_FILES = [
    envoys_parses_and_asks_about_tokens_cookies_and_origin,
    traefiks_parse_and_ask_about_tokens_cookies_and_origin,
]

TESTS_OF_THE_CLUSTER = [
    f64_the_readiness_of_the_nodes_is_not_passed_on,
    f64_a_source_is_limited_at_every_base_path_together,
    cluster_without_a_node_there_is_nothing_to_be_had,
]

TESTS = [
    the_documented_requests_are_answered_as_it_says,
    c163_a_live_token_arrives_as_identity,
    c163_and_from_the_token_only,
    c164_no_spelling_of_an_identity_header_arrives,
    c164_nor_does_one_behind_the_body,
    c164_a_refusal_carries_no_identity,
    a_refused_token_arrives_as_nobodys_in_soft_mode,
    an_answer_to_the_client_carries_no_identity,
    c165_what_a_request_says_of_itself_opens_nothing,
    c165_nor_does_its_method_or_path,
    f62_a_path_that_can_be_read_in_two_ways_is_refused,
    f62_a_strict_path_is_strict_in_every_case_and_without_its_last_slash,
    every_method_arrives_with_its_identity,
    a_body_arrives_whole,
    the_check_is_asked_about_the_token_and_the_origin_alone,
    many_cookies_are_no_obstacle,
    a_guest_is_known_by_either_cookie,
    without_these_cookies_everyone_is_nobody,
    two_different_values_of_a_cookie_are_nobody,
    c337_a_foreign_page_is_nobody_though_its_browser_sends_the_cookies,
    c338_what_a_header_says_counts_more_than_a_cookie,
    a_guest_who_withdraws_is_nobody_at_once,
    the_page_gets_its_cookies_through_the_gateway,
    what_the_page_asks_arrives_unchanged,
    the_check_is_out_of_reach_from_outside,
    f41_the_path_of_the_issuer_changes_nothing_but_a_base_path_stands_in_front,
    f63_more_headers_than_guestpass_reads_are_no_obstacle,
    f63_of_two_tokens_the_checked_one_arrives_or_none,
    a_revoked_token_is_refused_at_once,
    a_guestpass_that_is_gone_lets_nobody_be_anybody,
    c166_nor_does_one_without_its_database,
]

# Spellings of an identity header that an upstream or a gateway could take for one.
SPELLINGS = [
    "{name}: {value}",
    "{name}:{value}",
    "{name}:",
    "{upper}: {value}",
    "{title}: {value}",
    "{name}: {value}\r\n{name}: {value}\r\n{upper}: {value}",
    "{under}: {value}",
    "{upper_under}: {value}",
    "{first_under}: {value}",
    "{last_under}: {value}",
    "{dots}: {value}",
    "{tildes}: {value}",
    "{name}: {value}\r\n{under}: {value}",
    "{name} : {value}",
    "{name}\t: {value}",
    "x-other: a\r\n {name}: {value}",
    "x-other: a\r{name}: {value}",
    "x-other: a\n{name}: {value}",
    "{name}\0: {value}",
    "{name}\v: {value}",
    ":{name}: {value}",
    "Connection: {name}",
    "Connection: close, {name}, {under}\r\n{name}: {value}",
    "x-forwarded-{name}: {value}",
]

# Paths that an upstream could read as another than the gateway does: as strict ones that are soft, or the other way round.
AMBIGUOUS = [
    "//account/orders",
    "/orders//x",
    "/account/..%2f",
    "/account%2Forders",
    "/account%5corders",
    "/x\\..\\account/orders",
    "/x/../account/orders",
    "/x/..",
    "/./account/orders",
    "/x/%2e%2E/account/orders",
    "/x/.%2e/account/orders",
    "/x/..;/account/orders",
    "/x/..;a=b/account/orders",
    "/account;x/orders",
    "/account%3Bx/orders",
    "/account%3fx",
    "/account%23x",
    "/account#x",
    "/account%00/orders",
    "/account%0a/orders",
    "/account%7f",
    "/account%20/orders",
    "/account%20",
    "/account./orders",
    "/account.",
    "/%2561ccount/orders",
    "/x/%252e%252e/account/orders",
    "/x/..%2faccount/orders?x",
]

# Headers that could mislead a check which trusts them about method, path or host.
CLAIMS = [
    "X-Forwarded-Method: OPTIONS",
    "X-Forwarded-Uri: /orders",
    "X-Forwarded-Uri: /livez",
    "X-Forwarded-Path: /orders",
    "X-Forwarded-Prefix: /orders",
    "X-Forwarded-Host: localhost",
    "X-Forwarded-For: 127.0.0.1",
    "Forwarded: for=127.0.0.1;host=localhost",
    "X-Original-Method: OPTIONS",
    "X-Original-Url: /orders",
    "X-Original-Uri: /orders",
    "X-Rewrite-Url: /orders",
    "X-Envoy-Original-Path: /oauth/verify?mode=soft",
    "X-Http-Method-Override: OPTIONS",
    "X-Accel-Redirect: /.guestpass/soft",
]


def spoofed(spelling):
    """All three identity headers in that spelling."""
    return [
        spelling.format(
            name=name,
            value=EVIL,
            upper=name.upper(),
            title=name.title(),
            under=name.replace("-", "_"),
            upper_under=name.upper().replace("-", "_"),
            first_under=name.replace("-", "_", 1),
            last_under="_".join(name.rsplit("-", 1)),
            dots=name.replace("-", "."),
            tildes=name.replace("-", "~"),
        )
        for name in NAMES
    ]


# The fixture of a test: a client of the gateway, which sees the requests that arrive at the upstream.


class Shop:
    def __init__(self, upstream, guestpass, gateway):
        self.upstream, self.guestpass, self.gateway = upstream, guestpass, gateway

    def guest(self):
        return Guest(self.guestpass)

    def page(self):
        """The browser of a new guest who is known, and linked to a customer."""
        page = Page()
        page.ask(self)
        self.guestpass.link("", page.jar[A], CUSTOMER)
        # The next access token says it.
        del page.jar[A]
        page.ask(self)
        page.read(page.jar[A], page.jar[R], "shop-web")
        return page

    def assert_nobody(self, fields, method="GET"):
        answer, arrived = self.send(method, SOFT, fields, b"")
        assert answer.status == 200 and arrived.identity() == {}, (fields, answer, arrived)
        answer, arrived = self.send(method, STRICT, fields, b"")
        assert (answer.status, arrived) == (401, None), (fields, answer, arrived)

    def bad_tokens(self):
        token, other = self.guest().access_token, self.guest().access_token
        header, claims, signature = token.split(".")
        unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
        return [
            [],
            ["Authorization: Bearer"],
            ["Authorization: Basic c2hvcC1hcHA6"],
            ["Authorization: Bearer garbage"],
            ["x-dressipi-jwt: garbage"],
            [f"Authorization: Bearer {header}.{other.split('.')[1]}.{signature}"],
            [f"Authorization: Bearer {unsigned}.{claims}."],
            [f"Authorization: Bearer {token}", f"x-dressipi-jwt: {other}"],
        ]

    def get(self, path, fields):
        return self.send("GET", path, fields)

    def send(self, method, path, fields, body=None):
        """Returns the answer of the gateway, and the request that arrived at the upstream, if any."""
        if body == b"":
            fields = [*fields, "Content-Length: 0"]
        before = len(self.upstream.arrived)
        answer = ask(self.gateway.port, method, path, fields, body or b"")
        arrived = self.upstream.arrived[before:]
        assert len(arrived) <= 1, arrived
        return answer, arrived[0] if arrived else None


class Tokens:
    def read(self, access_token, refresh_token, client):
        self.access_token, self.refresh_token = access_token, refresh_token
        claims = json.loads(base64.urlsafe_b64decode(access_token.split(".")[1] + "=="))
        self.identity = dict(zip(NAMES, (claims["sub"], claims["subn"], client, CUSTOMER)))
        self.bearer = [f"Authorization: Bearer {access_token}"]
        self.user_jwt = [f"x-dressipi-jwt: {access_token}"]


class Page(Tokens):
    """A page of the shop, in a browser of its own."""

    def __init__(self, jar=None):
        self.jar = dict(jar or {})

    @property
    def cookies(self):
        return ["Cookie: " + "; ".join(f"{name}={value}" for name, value in self.jar.items())] if self.jar else []

    def ask(self, shop):
        """Asks who is here, as often as a page does."""
        answer = self.post(shop)
        if answer.status == 202:
            answer = self.post(shop)
        assert answer.status == 200, answer

    def post(self, shop, origin=ISSUER, more=[]):
        body = b"client_id=shop-web"
        about = ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
        return self.send(shop, "POST", "/oauth/session", [*about, *more], body, origin)

    def end(self, shop):
        return self.send(shop, "DELETE", "/oauth/session?client_id=shop-web", [], b"", ISSUER)

    def send(self, shop, method, target, fields, body, origin):
        fields = fields + self.cookies + ([f"Origin: {origin}"] if origin else [])
        answer, arrived = shop.send(method, target, fields, body)
        assert arrived is None, arrived
        for cookie in answer.values("set-cookie"):
            name, value = cookie.split(";")[0].split("=", 1)
            self.jar[name] = value
            if "Max-Age=0" in cookie:
                del self.jar[name]
        return answer


class Guest(Tokens):
    """A new guest, linked to a customer, and its tokens."""

    def __init__(self, guestpass, base=""):
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        about = {"client_id": "shop-app", "redirect_uri": "urn:ietf:wg:oauth:2.0:oob:auto"}
        query = {"response_type": "code", "state": "x", "code_challenge": challenge, "code_challenge_method": "S256"}
        code = guestpass.call(f"{base}/oauth/authorize?" + urlencode(query | about))["code"]
        tokens = guestpass.post(
            f"{base}/oauth/token", grant_type="authorization_code", code=code, code_verifier=verifier, **about
        )
        guestpass.link(base, tokens["access_token"], CUSTOMER)
        tokens = guestpass.post(
            f"{base}/oauth/token",
            grant_type="refresh_token",
            refresh_token=tokens["refresh_token"],
            client_id="shop-app",
        )
        self.read(tokens["access_token"], tokens["refresh_token"], "shop-app")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
