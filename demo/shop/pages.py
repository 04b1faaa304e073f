"""The shop's pages, as text. Whatever a visitor has typed is escaped."""

from html import escape

GLAZES = {"sage": "Sage", "oat": "Oat", "ink": "Ink"}


def product(visitor, basket, did):
    return page("Stoneware teapot", PRODUCT.format(basket=basket_card(visitor, basket)), visitor, did, basket)


def log_in(visitor, did, name):
    another = did == "another"
    content = LOG_IN.format(
        name=escape(name),
        error=ERRORS.get(did, "").format(name=escape(name)),
        described='aria-invalid="true" aria-describedby="name-error"' if did in ERRORS else "",
        new_guest="data-new-guest" if another else "",
        button="Log in as a new guest" if another else "Log in",
    )
    return page("Log in", content, visitor, did)


def missing(visitor):
    return page("Not here", MISSING, visitor, "")


def page(title, content, visitor, did, basket=()):
    count = sum(basket.values()) if basket else 0
    known_by = "" if not visitor.sub else "access" if visitor.access_token else "refresh"
    awaits = visitor.login and visitor.login.linked_sub == visitor.sub != "" and not visitor.customer
    return PAGE.format(
        title=title,
        content=content,
        sub=escape(visitor.sub),
        known_by=known_by,
        awaits=escape(visitor.login.customer) if awaits else "",
        consent=escape(visitor.consent),
        account=account(visitor),
        count=f' <span class="count">{count}</span>' if count else "",
        greeting=greeting(visitor),
        steps="".join(step(*each) for each in steps(visitor, did, known_by, awaits)),
        facts=facts(visitor),
        banner_hidden="hidden" if visitor.consent else "",
        # Also where a withdrawal hasn't come through.
        accepted_hidden="" if visitor.consent == "yes" or visitor.sub else "hidden",
        declined_hidden="" if visitor.consent == "no" and not visitor.sub else "hidden",
        undecided_hidden="hidden" if visitor.consent or visitor.sub else "",
    )


def account(visitor):
    if not visitor.login:
        return '<a id="login-link" href="/login">Log in</a>'
    return (
        f'<span class="who">{escape(visitor.login.name)}</span>'
        '<form method="post" action="/logout"><button id="logout" class="plain">Log out</button></form>'
    )


def greeting(visitor):
    if visitor.login:
        return f"Good to see you, {escape(visitor.login.name)}"
    if visitor.sub:
        return f"Welcome back, guest&nbsp;{short(visitor.sub)}"
    return "Hello, whoever you are"


def short(sub):
    """Leaves of a long number what people can tell apart."""
    return escape(sub[-4:])


def basket_card(visitor, basket):
    if not basket:
        hint = "" if visitor.basket_owner else " It needs to know whose it is: accept first."
        return f'<p class="quiet">Empty.{hint}</p>'
    lines = "".join(
        f'<li><span class="dot {glaze}"></span>Teapot, {GLAZES[glaze].lower()}<b>{count}&nbsp;×&nbsp;€&nbsp;48</b></li>'
        for glaze, count in basket.items()
    )
    total = 48 * sum(basket.values())
    return (
        f'<ul>{lines}</ul><p class="total">Together<b>€&nbsp;{total}</b></p>'
        '<form method="post" action="/basket/empty"><button id="empty" class="plain">Empty it</button></form>'
    )


def step(tag, kind, text):
    return f'<li><b class="tag {kind}">{tag}</b> {text}</li>'


def steps(visitor, did, known_by, awaits):
    """Says in plain words what came of the last request, in the order in which it happened."""
    customer = escape(visitor.login.customer) if visitor.login else ""
    if did in DID:
        yield DID[did][0], DID[did][1], DID[did][2].format(customer=customer, owner=escape(visitor.basket_owner))
    if known_by == "access":
        yield (
            "Known",
            "known",
            "Before the shop wrote this page, nginx asked Guestpass whose request it is. The cookie <code>guest</code>, "
            "an access token, was answer enough.",
        )
    elif known_by == "refresh":
        yield (
            "Known",
            "known",
            "The access token in <code>guest</code> has run out, and its cookie with it. For the first page the refresh "
            "token in <code>guest-r</code> was enough; the page now renews both.",
        )
    elif visitor.consent == "yes":
        yield "Nobody", "nobody", "Your browser has sent no cookie of a guest. You have accepted, so the page asks for one."
    elif visitor.consent == "no":
        yield "Nobody", "nobody", "You don't want to be recognised, so Guestpass is asked for nothing and sets no cookie."
    else:
        yield (
            "Nobody",
            "nobody",
            "You haven't been asked yet. Until you accept, Guestpass makes no guest and your browser gets no cookie.",
        )
    if awaits:
        yield (
            "Soon",
            "soon",
            f"The access token that your browser has is older than the log-in. The next one will say <code>{customer}</code>: "
            "within a day, as a rule; here within 20 seconds.",
        )


# What the last form has done: a word, its kind, and a sentence.
DID = {
    "added": ("Basket", "own", "The shop keeps it under <code>{owner}</code>. Guestpass has no part in that."),
    "emptied": ("Basket", "own", "The shop has emptied it."),
    "no-basket": (
        "Basket",
        "nobody",
        "The shop keeps a basket under a guest's <code>sub</code>, and you are nobody. Accept, then try again.",
    ),
    "linked": (
        "Linked",
        "linked",
        "You are logged in. The shop's back end has shown Guestpass your access token and said: this guest is customer "
        "<code>{customer}</code>. <code>sub</code> stays what it was. The shop has put your basket into the customer's.",
    ),
    "already": (
        "Linked",
        "linked",
        "You are logged in. The shop's back end has told Guestpass again that this guest is customer "
        "<code>{customer}</code>; it knew. The shop has put your basket into the customer's.",
    ),
    "unknown": (
        "Logged in",
        "own",
        "You are logged in. This browser has no guest, so there was nobody to link to <code>{customer}</code>.",
    ),
    "unavailable": (
        "Logged in",
        "own",
        "You are logged in. Guestpass couldn't be reached, so the link waits for the next log-in.",
    ),
    "another": (
        "Refused",
        "nobody",
        "The shop wanted to link this guest to another customer than before. Guestpass refuses that (409): a guest is one "
        "person. Press the button, and the browser becomes a new guest instead.",
    ),
    "logged-out": (
        "Logged out",
        "own",
        "The shop has forgotten its own session. Guestpass did nothing: the guest stays, with the same <code>sub</code>, and "
        "the customer's number stays on it as a label, which logs nobody in.",
    ),
}

ERRORS = {
    "nameless": '<p class="error" id="name-error">Please write a name.</p>',
    "another": '<p class="error" id="name-error">Somebody else has logged in on this device. To log in as {name}, begin as a '
    "new guest: the other one stays behind, basket and all.</p>",
}


def facts(visitor):
    login = visitor.login and f"{escape(visitor.login.name)}, {code(visitor.login.customer)}"
    rows = [
        ("Guest, <code>sub</code>", "sub", code(visitor.sub), "nobody"),
        ("Customer, by the token", "token-customer", code(visitor.customer), "not said"),
        ("Logged in at the shop", "shop-login", login, "no"),
        ("Cookies of the guest", "cookies", ", ".join(map(code, visitor.cookies)), "none"),
    ]
    return "".join(
        f'<div><dt>{name}</dt><dd id="{id}">{value or quiet(otherwise)}</dd></div>' for name, id, value, otherwise in rows
    )


def code(text):
    return text and f"<code>{escape(text)}</code>"


def quiet(text):
    return f'<span class="quiet">{text}</span>'


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title} · Harbour &amp; Clay</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="/static/teapot.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/shop.css">
<script type="module" src="/static/shop.js"></script>
</head>
<body data-sub="{sub}" data-known-by="{known_by}" data-awaits="{awaits}" data-consent="{consent}">
<header>
  <a class="logo" href="/">Harbour <i>&amp;</i> Clay</a>
  <nav aria-label="Shop"><a href="/#basket">Basket{count}</a>{account}</nav>
</header>
<main>
  <div class="shop">
    <h1 id="greeting" tabindex="-1">{greeting}</h1>
    {content}
    <section class="card privacy" aria-labelledby="privacy-title">
      <h2 id="privacy-title">Being recognised</h2>
      <p data-when="undecided" {undecided_hidden}>You haven't decided yet.</p>
      <div data-when="accepted" {accepted_hidden}>
        <p>You are recognised in this browser until you withdraw.</p>
        <label class="check"><input type="checkbox" id="erase"> and erase what Guestpass keeps of me</label>
        <button id="withdraw" class="plain">Withdraw</button>
      </div>
      <div data-when="declined" {declined_hidden}>
        <p>You are not recognised in this browser.</p>
        <button id="choose">Choose again</button>
      </div>
      <noscript><p>Accepting needs JavaScript. Without it you are nobody, and the shop works all the same.</p></noscript>
    </section>
  </div>
  <aside id="what-happened" aria-labelledby="what-happened-title">
    <h2 id="what-happened-title">What just happened</h2>
    <ol id="steps" aria-live="polite">{steps}</ol>
    <h3>What the shop was told</h3>
    <dl>{facts}</dl>
  </aside>
</main>
<section id="banner" class="banner" aria-labelledby="banner-title" {banner_hidden}>
  <div>
    <h2 id="banner-title">May we recognise you?</h2>
    <p>If you accept, your browser gets two cookies that no script can read, and a number in place of your name. You can
      withdraw at any time.</p>
  </div>
  <div class="choice"><button id="decline" class="plain">No, thanks</button><button id="accept">Accept</button></div>
</section>
</body>
</html>
"""

PRODUCT = """<article class="card product">
  <div class="picture">
    <svg viewBox="0 0 400 320" role="img" aria-label="A round stoneware teapot on a table">
      <circle class="sun" cx="292" cy="92" r="54"/>
      <path class="table" d="M-800 250h2000v400h-2000z"/>
      <ellipse class="shade" cx="206" cy="268" rx="132" ry="13"/>
      <path class="pot" d="M286 158c44-26 66 2 55 34-9 27-36 44-66 43l5-19c19 1 35-9 41-26 6-18-8-27-30-13z"/>
      <path class="pot" d="M112 196c-26 0-33-22-42-45-4-10-10-17-18-20l9-11c24 5 35 18 44 35 6 11 14 16 27 16z"/>
      <path class="pot" d="M196 122c62 0 100 34 100 78 0 33-21 57-47 67H143c-26-10-47-34-47-67 0-44 38-78 100-78z"/>
      <path class="raw" d="M126 257c5 4 11 7 17 10h106c6-3 12-6 17-10z"/>
      <path class="light" d="M120 196c4-28 24-46 50-52-20 14-31 32-34 58-1 9-17 4-16-6z"/>
      <path class="line" d="M134 144c36-13 88-13 124 0"/>
      <path class="pot" d="M150 128c4-17 22-27 46-27s42 10 46 27c-28-8-64-8-92 0z"/>
      <path class="raw" d="M183 88c0-8 6-13 13-13s13 5 13 13c0 6-4 10-7 14h-12c-3-4-7-8-7-14z"/>
      <path class="steam" d="M40 108c-9-12 9-20 0-34m16 30c-7-10 7-16 0-28"/>
    </svg>
  </div>
  <form class="details" method="post" action="/basket">
    <p class="kind">Stoneware</p>
    <h2>Teapot for two</h2>
    <p>Thrown by hand, glazed inside and out, and it doesn't drip. 0.8 litres.</p>
    <fieldset>
      <legend>Glaze</legend>
      <label><input type="radio" name="glaze" value="sage" checked><span class="dot sage"></span>Sage</label>
      <label><input type="radio" name="glaze" value="oat"><span class="dot oat"></span>Oat</label>
      <label><input type="radio" name="glaze" value="ink"><span class="dot ink"></span>Ink</label>
    </fieldset>
    <p class="price">€ 48 <span class="quiet">in stock</span></p>
    <button id="add">Add to basket</button>
  </form>
</article>
<section class="card" id="basket" aria-labelledby="basket-title">
  <h2 id="basket-title">Your basket</h2>
  <div id="basket-lines">{basket}</div>
</section>
"""

MISSING = """<section class="card">
  <h2>There is nothing here</h2>
  <p><a href="/">To the teapot</a></p>
</section>
"""

LOG_IN = """<form class="card log-in" id="login-form" method="post" action="/login" {new_guest}>
  <h2>Log in</h2>
  <p>This is a toy: write a name, any name, and the shop believes you. A shop would ask for a password here.</p>
  <label for="name">Name</label>
  <input id="name" name="name" value="{name}" autocomplete="off" maxlength="40" required {described}>
  {error}
  <button id="login">{button}</button>
</form>
"""
