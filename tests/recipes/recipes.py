"""Usage: recipes.py GUESTPASS CACHE [RECIPE...]

Whom the recipes of deploy/frameworks greet. Prints a line for each test, as cargo does.
"""

import pathlib
import signal
import sys
import time
import traceback

from servers import DEPLOY, NOT_RUN, RECIPES, App, Front, Go, Hono, Passing
from tokens import Tokens

EVIL = "1234567890"
IDENTITY = ["x-guestpass-sub", "x-guestpass-subn", "x-guestpass-client", "x-guestpass-customer"]
SPELLINGS = [str, str.upper, str.title, lambda name: name.replace("-", "_"), lambda name: name.replace("-", ".")]
SPELLINGS += [lambda name: name.replace("-", "_", 1), lambda name: "_".join(name.rsplit("-", 1))]


def main(program, cache, *names):
    # Told to end, this ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    front = Front()
    tokens = Tokens(program, front)
    outcomes = [] if names else [every_recipe_is_run()]
    try:
        for recipe in RECIPES:
            if not names or recipe.name in names:
                outcomes += tested(recipe, pathlib.Path(cache), front, tokens)
    finally:
        front.guestpass.stop()
    print(f"{outcomes.count(True)} passed, {outcomes.count(False)} failed")
    return not all(outcomes)


def every_recipe_is_run():
    folders = {folder.name for folder in DEPLOY.iterdir() if folder.is_dir()}
    left_out = folders - {recipe.name for recipe in RECIPES} - NOT_RUN
    print(f"test recipes::every_recipe_is_run ... {'FAILED' if left_out else 'ok'}", flush=True)
    if left_out:
        print(*left_out)
    return not left_out


def tested(recipe, cache, front, tokens):
    app = recipe(cache, front)
    try:
        app.build()
        app.start()
        app.until_it_listens()
    except Exception:
        print(f"test recipes::{app.name}_starts ... FAILED", flush=True)
        traceback.print_exc(file=sys.stdout)
        app.stop()
        return [False]
    tokens.wait_until_expired()
    try:
        shop = Shop(app, front, tokens)
        return [passes(test, shop) for test in TESTS + TESTS_OF.get(recipe, [])]
    finally:
        app.stop()


def passes(test, shop):
    name = f"recipes::{shop.app.name}_{test.__name__}"
    try:
        test(shop)
    except Exception:
        print(f"test {name} ... FAILED", flush=True)
        traceback.print_exc(file=sys.stdout)
        print(shop.app.log.read_text(errors="replace")[-5_000:])
        return False
    print(f"test {name} ... ok", flush=True)
    return True


class Shop:
    def __init__(self, app: App, front: Front, tokens: Tokens):
        self.app, self.front, self.tokens = app, front, tokens
        (self.cookies, self.sub), (self.other_cookies, self.other_sub) = tokens.one, tokens.other
        self.token, self.other_token = self.cookies["guest"], self.other_cookies["guest"]
        self.started = time.monotonic()

    def greets(self, sub, cookies, headers=()):
        for path in ("/", self.app.strict, "/public"):
            answer = self.app.ask(path, cookies, headers)
            assert answer.claims() == {"x-guestpass-sub": sub}, (path, cookies, headers, answer)

    def takes_for_nobody(self, cookies, headers=(), or_refuses=False):
        """`or_refuses` is for what the framework's HTTP server may take for no request at all."""
        for path in ("/", "/public"):
            answer = self.app.ask(path, cookies, headers)
            if not (or_refuses and answer.status == 400):
                assert answer.claims() == {}, (path, cookies, headers, answer)
        answer = self.app.ask(self.app.strict, cookies, headers)
        if not (or_refuses and answer.status == 400):
            assert answer.status == 401, (cookies, headers, answer)
            assert answer.values("www-authenticate") == ["Bearer"], answer
            assert EVIL.encode() not in answer.body, answer


# The tests, in this order: the first one asks before there are keys.


def goes_on_without_guestpass(shop):
    for instead in (Passing.is_unavailable, Passing.says_nothing, Passing.shows_a_page):
        shop.front.instead = instead
        try:
            answer = shop.app.ask("/", f"guest={shop.token}")
            assert answer.claims() == {}, (instead, answer)
            answer = shop.app.ask(shop.app.strict, f"guest={shop.token}")
            assert (answer.status, answer.values("retry-after")) == (503, ["1"]), (instead, answer)
            assert shop.app.ask(shop.app.strict).status == 401
        finally:
            shop.front.instead = None
            shop.front.counted.clear()


def greets_a_known_guest(shop):
    for cookies, sub in [(shop.token, shop.sub), (shop.other_token, shop.other_sub), (shop.token, shop.sub)]:
        shop.greets(sub, f"guest={cookies}")
    beside = f"theme=dark; guest-r={shop.cookies['guest-r']};\tguest={shop.token}\t; a=b=c; =; ;"
    shop.greets(shop.sub, beside)


def greets_nobody_without_a_cookie(shop):
    shop.takes_for_nobody(None)
    shop.takes_for_nobody("")
    shop.takes_for_nobody("theme=dark; a=b")


def greets_nobody_for_an_expired_token(shop):
    shop.takes_for_nobody(f"guest={shop.tokens.expired}")


def greets_nobody_for_a_forged_token(shop):
    forged = shop.tokens.forged | ({} if isinstance(shop.app, Go) else shop.tokens.for_others)
    for kind, token in forged.items():
        try:
            shop.takes_for_nobody(f"guest={token}")
        except Exception as error:
            raise AssertionError(f"A token {kind} was taken.") from error
    shop.greets(shop.sub, f"guest={shop.token}")


def greets_nobody_for_what_is_no_token(shop):
    for text in shop.tokens.no_tokens:
        shop.takes_for_nobody(f"guest={text}", or_refuses="\xff" in text)


def believes_no_header_of_the_client(shop):
    # The last one made Next.js leave out its middleware (CVE-2025-29927).
    disguises = [[], [("x-middleware-subrequest", "proxy:proxy:proxy:proxy:proxy"), ("Authorization", "Bearer evil")]]
    for spelling in SPELLINGS:
        claimed = [(spelling(name), EVIL) for name in IDENTITY]
        for headers in [claimed + disguise for disguise in disguises] + [claimed + claimed]:
            shop.greets(shop.sub, f"guest={shop.token}", headers)
            shop.takes_for_nobody(None, headers)
            shop.takes_for_nobody(f"guest={shop.tokens.expired}", headers)
    connection = [("Connection", "close, x-guestpass-sub"), ("x-guestpass-sub", EVIL)]
    shop.greets(shop.sub, f"guest={shop.token}", connection)


def greets_nobody_for_two_values(shop):
    for one, other in [(shop.token, shop.other_token), (shop.token, "x"), (shop.token, "")]:
        for first, second in [(one, other), (other, one)]:
            shop.takes_for_nobody(f"guest={first}; a=b; guest={second}")
            shop.takes_for_nobody([f"guest={first}", f"guest={second}"])
    shop.greets(shop.sub, f"guest={shop.token}; guest={shop.token}")


def reads_the_cookie_by_its_exact_name(shop):
    token = shop.token
    names = ["Guest", "guest ", " x guest", '"guest"', "%67uest", "$guest", "guest-s", "xguest", "__Host-guest"]
    for cookies in [f"{name}={token}" for name in names] + [f'guest="{token}"', f"guest={token.replace('.', '%2E')}"]:
        shop.takes_for_nobody(f"$Version=1; a=b; {cookies}")
    # Spaces of Unicode, as Latin-1 and as UTF-8.
    for space in ["\xa0", "\x85", "\x0b", "\xc2\xa0", "\xe2\x80\x80"]:
        shop.takes_for_nobody(f"a=b; {space}guest={token}", or_refuses=True)


def marks_what_is_for_one_guest(shop):
    for path in ("/", "/public", shop.app.strict):
        marks = ",".join(shop.app.ask(path, f"guest={shop.token}").values("cache-control")).lower()
        assert "private" in marks and "public" not in marks and "s-maxage" not in marks, (path, marks)
    for cookies in (None, f"guest={shop.tokens.expired}"):
        marks = ",".join(shop.app.ask("/public", cookies).values("cache-control")).lower()
        assert "public" in marks and "private" not in marks, marks


def fetches_the_keys_rarely(shop):
    # Each of these may make a library look for a newer key, but not more often than twice a minute.
    for _ in range(30):
        shop.app.ask("/", f"guest={shop.tokens.forged['by a key of another name']}")
    fetched, allowed = shop.front.count("/oauth/jwks"), 2 + (time.monotonic() - shop.started) / 30
    shop.front.counted.clear()
    assert 1 <= fetched <= allowed, (fetched, allowed)


def sets_no_cookie_and_redirects_nobody(shop):
    assert len(shop.app.answers) > 100
    for answer in shop.app.answers:
        assert answer.values("set-cookie") == [] and answer.values("location") == [], answer
        assert answer.status in (200, 400, 401, 503), answer


def greets_by_the_refresh_token_alone(shop):
    shop.greets(shop.sub, f"guest-r={shop.cookies['guest-r']}")
    shop.greets(shop.sub, f"guest={shop.tokens.expired}; guest-r={shop.cookies['guest-r']}")


def believes_no_page_of_another_site(shop):
    shop.takes_for_nobody(f"guest={shop.token}", [("Origin", "https://evil.example")])
    shop.greets(shop.sub, f"guest={shop.token}", [("Origin", "https://www.shop.example")])


def keeps_its_jar_to_itself(shop):
    shop.greets(shop.sub, f"big={'x' * 12_000}; guest={shop.token}")


def passes_the_body_on(shop):
    for cookies in (None, f"guest={shop.token}"):
        answer = shop.app.ask("/", cookies, method="POST", body=b"hello")
        assert (answer.status, answer.body) == (200, b"hello"), answer


TESTS = [
    goes_on_without_guestpass,
    greets_a_known_guest,
    greets_nobody_without_a_cookie,
    greets_nobody_for_an_expired_token,
    greets_nobody_for_a_forged_token,
    greets_nobody_for_what_is_no_token,
    believes_no_header_of_the_client,
    greets_nobody_for_two_values,
    reads_the_cookie_by_its_exact_name,
    marks_what_is_for_one_guest,
    sets_no_cookie_and_redirects_nobody,
]
TESTS_OF = {recipe: [fetches_the_keys_rarely] for recipe in RECIPES if recipe is not Go}
TESTS_OF[Go] = [greets_by_the_refresh_token_alone, believes_no_page_of_another_site, keeps_its_jar_to_itself]
TESTS_OF[Hono] = TESTS_OF[Hono] + [passes_the_body_on]

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
