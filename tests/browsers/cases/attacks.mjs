// What pages of other hosts try with a visitor's browser.
import assert from 'node:assert/strict';
import { hasArrived } from '../waiting.mjs';
import { ensure, follow, sendBlindly, sendsSession, submitForm, text, withdraw } from './pages.mjs';

const SHOP = 'www.shop.localhost';
const SIBLING = 'id.shop.localhost';
const EVIL = 'evil.shop.localhost';
const OTHER = 'other.localhost';

// A page of the shop whose visitor has a guest: its `sub`, and the cookies that must not change.
async function visit({ shop, jar }) {
  const page = await jar.open(shop.url('/'));
  assert.equal((await page.run(ensure, 'shop-web')).status, 202);
  const { status, sub } = await page.run(ensure, 'shop-web');
  assert.equal(status, 200);
  return { page, sub, cookies: await page.cookies(SHOP) };
}

// Checks that an attack was refused and left nothing behind, neither in the browser nor in the database.
async function refused({ shop, page, sub, cookies }, { answer }, rows, error) {
  assert.equal(answer.status, 400);
  assert.equal(JSON.parse(answer.body).error, error);
  for (const name of ['set-cookie', 'access-control-allow-origin']) assert.equal(answer.headers[name], undefined);
  await unharmed({ shop, page, sub, cookies }, rows);
}

async function unharmed({ shop, page, sub, cookies }, rows) {
  assert.deepEqual(await shop.rows(), rows);
  await page.goto(shop.url('/'));
  assert.deepEqual(await page.cookies(SHOP), cookies);
  const { status, ...guest } = await page.run(ensure, 'shop-web');
  assert.deepEqual([status, guest.sub, guest.new], [200, sub, false]);
}

export async function c328_a_form_of_a_foreign_site_changes_nothing({ shop, jar }) {
  const visitor = await visit({ shop, jar });
  const { page } = visitor;
  for (const fields of [{}, { ticket: await shop.ticket('shop-web') }]) {
    const rows = await shop.rows();
    await page.goto(shop.url('/', OTHER));
    const seen = shop.answered(sendsSession('POST'));
    await page.run(submitForm, shop.url('/oauth/session'), { client_id: 'shop-web', ...fields });
    const request = await seen;
    await hasArrived(page, shop.url('/oauth/session'));
    assert.equal(request.headers.origin, shop.origin(OTHER));
    assert.equal(JSON.parse(request.answer.body).error, 'unauthorized_client');
    await refused({ shop, ...visitor }, request, rows, 'unauthorized_client');
  }
}

export async function c329_only_its_own_origins_act_for_a_client({ shop, jar, engine }) {
  const visitor = await visit({ shop, jar });
  const { page, cookies } = visitor;
  const session = shop.url('/oauth/session');
  const form = { client_id: 'shop-web' };
  const rows = await shop.rows();
  const attack = async (from, method, send) => {
    await page.goto(shop.url('/', from));
    const seen = shop.answered(sendsSession(method));
    assert.equal(await send(), method === 'OPTIONS' ? 'TypeError' : 'sent');
    return seen;
  };

  // A sibling host is on the same site, so the visitor's cookies come with its request.
  const blind = { method: 'POST', mode: 'no-cors', form };
  const fromEvil = await attack(EVIL, 'POST', () => page.run(sendBlindly, session, blind));
  assert.equal(fromEvil.headers.origin, shop.origin(EVIL));
  for (const { name, value } of cookies) assert.ok(fromEvil.headers.cookie.includes(`${name}=${value}`));
  await refused({ shop, ...visitor }, fromEvil, rows, 'unauthorized_client');

  // A sandboxed frame has no origin.
  const fromNowhere = await attack(EVIL, 'POST', () => page.run(sendFromSandbox, `(${sendBlindly})`, session, blind));
  assert.equal(fromNowhere.headers.origin, 'null');
  await refused({ shop, ...visitor }, fromNowhere, rows, 'unauthorized_client');

  // The origin of another client with cookies: not even readable.
  await page.goto(shop.url('/', SIBLING));
  const seen = shop.answered(sendsSession('POST'));
  assert.equal(await page.run(sendBlindly, session, { method: 'POST', form }), 'TypeError');
  const fromBlog = await seen;
  assert.equal(fromBlog.headers.origin, shop.origin(SIBLING));
  await refused({ shop, ...visitor }, fromBlog, rows, 'unauthorized_client');

  // Consent is withdrawn by nobody else: the preflight fails, and the request is never sent.
  const withdrawal = `${session}?client_id=shop-web`;
  for (const from of [EVIL, OTHER]) {
    shop.requests = [];
    const preflight = await attack(from, 'OPTIONS', () => page.run(sendBlindly, withdrawal, { method: 'DELETE' }));
    assert.equal(preflight.answer.headers['access-control-allow-origin'], undefined);
    assert.ok(!shop.requests.some(sendsSession('DELETE')));
    await unharmed({ shop, ...visitor }, rows);
  }

  // The client's own origin may ask on a sibling host, and reads every answer.
  await page.goto(shop.url('/'));
  shop.requests = [];
  const sibling = shop.origin(SIBLING);
  assert.deepEqual(await page.run(ensure, 'shop-web', sibling), { status: 202, again: true });
  if (engine !== 'webkitgtk') {
    // libsoup knows no sites below localhost: there, a host's own cookies are a third party's to a sibling's page.
    const made = await page.run(ensure, 'shop-web', sibling);
    assert.deepEqual([made.status, made.new], [200, true]);
    assert.equal((await page.run(ensure, 'shop-web', sibling)).sub, made.sub);
  }
  for (const [clientId, more, error] of [
    ['unknown', {}, 'invalid_client'],
    ['shop-web', { ticket: 'a', refresh_token: 'b' }, 'invalid_request'],
  ]) {
    const answer = await page.run(ensure, clientId, sibling, more);
    assert.deepEqual([answer.status, answer.error], [400, error], clientId);
  }
  for (const { answer } of shop.requests) {
    assert.equal(answer.headers['access-control-allow-origin'], shop.origin());
    assert.equal(answer.headers['access-control-allow-credentials'], 'true');
  }
}

export async function c331_a_sibling_host_plants_a_refresh_token({ shop, jar, browser, engine }) {
  const hasPrefixes = engine !== 'webkitgtk';
  const attacker = await shop.guest();
  const plant = async (page, path) => {
    const cookie = `__Host-guest-r=${attacker.refreshToken}; Secure; SameSite=Lax; Domain=shop.localhost; Path=${path}`;
    await page.goto(shop.url(`/plant?${new URLSearchParams({ cookie })}`, EVIL));
    await page.run((text) => void (document.cookie = text), cookie);
    await page.goto(shop.url('/'));
  };
  const sent = async (page) => {
    const seen = shop.answered(sendsSession('POST'));
    const answer = await page.run(ensure, 'shop-web');
    return { answer, tokens: (await seen).headers.cookie?.match(/__Host-guest-r=/g)?.length ?? 0 };
  };

  // Of a visitor who has a guest.
  const visitor = await visit({ shop, jar });
  for (const [index, path] of ['/', '/oauth'].entries()) {
    await plant(visitor.page, path);
    const rows = await shop.rows();
    if (hasPrefixes) {
      await unharmed({ shop, ...visitor }, rows);
      assert.equal((await sent(visitor.page)).tokens, 1);
    } else {
      // Never chosen between.
      const { answer, tokens } = await sent(visitor.page);
      assert.equal(tokens, index + 2);
      assert.deepEqual([answer.status, answer.error], [400, 'invalid_request']);
      assert.equal(await shop.rows(), rows);
    }
  }

  // Of one who has none.
  const empty = await browser.jar();
  try {
    const page = await empty.open();
    const ownGuest = async () => {
      assert.equal((await page.run(ensure, 'shop-web')).status, 202);
      const made = await page.run(ensure, 'shop-web');
      assert.deepEqual([made.status, made.new], [200, true]);
      assert.notEqual(made.sub, attacker.sub);
    };
    await plant(page, '/');
    if (hasPrefixes) return await ownGuest();
    // Fixed to the attacker's guest, once, until it is withdrawn.
    const who = await page.run(() => fetch('/whoami').then((answer) => answer.text()));
    assert.equal(who, attacker.sub);
    assert.equal(await page.run(withdraw, 'shop-web'), 204);
    await ownGuest();
  } finally {
    await empty.close();
  }
}

export async function c332_a_sibling_host_plants_an_access_token({ shop, jar, browser }) {
  const attacker = await shop.guest('shop-wide', 'wide');
  const page = await jar.open(shop.url('/'));
  assert.equal((await page.run(ensure, 'shop-wide')).status, 202);
  const { status, sub } = await page.run(ensure, 'shop-wide');
  assert.equal(status, 200);
  const plant = async (path, target = page, age = 600) => {
    const attributes = `Secure; HttpOnly; SameSite=Lax; Domain=shop.localhost; Max-Age=${age}; Path=${path}`;
    const cookie = `__Secure-wide=${attacker.accessToken}; ${attributes}`;
    await target.goto(shop.url(`/plant?${new URLSearchParams({ cookie })}`, EVIL));
  };
  const seenBy = async (host) => {
    await page.goto(shop.url('/whoami?client_id=shop-wide', host));
    return page.run(text);
  };
  const goesOn = async () => {
    await page.goto(shop.url('/'));
    const answer = await page.run(ensure, 'shop-wide');
    assert.deepEqual([answer.status, answer.sub, answer.new], [200, sub, false]);
  };
  assert.deepEqual([await seenBy(SHOP), await seenBy(SIBLING)], [sub, sub]);

  // In the place of the visitor's: the refresh token tells, and where it isn't seen, nothing does until the next visit.
  await plant('/');
  assert.deepEqual([await seenBy(SHOP), await seenBy(SIBLING)], [sub, attacker.sub]);
  await goesOn();
  assert.deepEqual([await seenBy(SHOP), await seenBy(SIBLING)], [sub, sub]);

  // Beside the visitor's: two values are nobody's.
  await plant('/whoami');
  assert.deepEqual([await seenBy(SHOP), await seenBy(SIBLING)], ['nobody', 'nobody']);
  await goesOn();
  await plant('/whoami', page, 0);
  await plant('/oauth');
  assert.deepEqual([await seenBy(SHOP), await seenBy(SIBLING)], [sub, sub]);
  await goesOn();

  // Without a refresh token it makes nobody a guest.
  const empty = await browser.jar();
  try {
    const other = await empty.open();
    await plant('/', other);
    await other.goto(shop.url('/'));
    assert.equal((await other.run(ensure, 'shop-wide')).status, 202);
    assert.notEqual((await other.run(ensure, 'shop-wide')).sub, attacker.sub);
  } finally {
    await empty.close();
  }
}

// The browser holds as many cookies of a site as it can; the shop's may be among those that have to go.
export async function c333_a_sibling_host_floods_the_jar({ shop, jar }) {
  const { page, sub } = await visit({ shop, jar });
  const before = await shop.count();
  await page.goto(shop.url('/', EVIL));
  await page.run((count) => {
    for (let index = 0; index < count; index += 1) document.cookie = `flood${index}=1; Domain=shop.localhost; Secure`;
  }, 200);
  await page.goto(shop.url('/'));
  shop.requests = [];
  const subs = new Set();
  for (let load = 0; load < 3; load += 1) {
    let answer = await page.run(ensure, 'shop-web');
    if (answer.status === 202) answer = await page.run(ensure, 'shop-web');
    assert.equal(answer.status, 200);
    subs.add(answer.sub);
    await page.reload();
  }
  assert.equal(subs.size, 1);
  assert.ok(shop.requests[0].headers.cookie.includes('flood199=1'));
  assert.ok(shop.requests.length <= 4);
  const made = subs.has(sub) ? 0 : 1;
  assert.deepEqual(await shop.count(), { profiles: before.profiles + made, grants: before.grants + made });
}

export async function c337_only_the_shops_own_requests_are_the_guests({ shop, jar }) {
  const { page, sub } = await visit({ shop, jar });
  const whoami = shop.url('/whoami');
  const isAsked = (seen) => seen.url.includes('/oauth/verify');
  const asked = async (from, method, act) => {
    await page.goto(shop.url('/', from));
    const seen = shop.answered(isAsked);
    await act();
    const { headers, answer } = await seen;
    return { cookie: headers.cookie ?? '', origin: headers.origin, sub: answer.headers['x-guestpass-sub'] ?? '' };
  };

  // Without a cookie it is nobody.
  const form = await asked(OTHER, 'POST', () => page.run(submitForm, whoami, {}));
  assert.deepEqual(form, { cookie: '', origin: shop.origin(OTHER), sub: '' });
  await hasArrived(page, whoami);

  // With the cookies and an origin that isn't the client's, too.
  const fetched = await asked(EVIL, 'POST', () =>
    page.run(sendBlindly, whoami, { method: 'POST', mode: 'no-cors', form: {} }));
  assert.equal(fetched.origin, shop.origin(EVIL));
  assert.ok(fetched.cookie.includes('__Host-guest='));
  assert.equal(fetched.sub, '');

  const linked = await asked(OTHER, 'GET', () => page.run(follow, whoami));
  assert.ok(linked.cookie.includes('__Host-guest='));
  assert.equal(linked.sub, sub);
  await hasArrived(page, whoami);
  assert.equal(await page.run(text), sub);

  const posted = await asked(SHOP, 'POST', () => page.run(submitForm, whoami, {}));
  assert.equal(posted.sub, sub);
  await hasArrived(page, whoami);
}

// Sends a request from a frame that has no origin of its own.
function sendFromSandbox(send, url, options) {
  const frame = document.createElement('iframe');
  frame.sandbox = 'allow-scripts';
  frame.srcdoc = `<script>${send}(${JSON.stringify(url)}, ${JSON.stringify(options)})
    .then((result) => parent.postMessage(result, '*'));</script>`;
  document.body.append(frame);
  return new Promise((resolve) => addEventListener('message', ({ data }) => resolve(data), { once: true }));
}
