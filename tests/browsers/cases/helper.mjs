// The helper in a page that keeps its guest in cookies.
import assert from 'node:assert/strict';
import { hasArrived, until } from '../waiting.mjs';
import { follow, sendsSession, withdraw } from './pages.mjs';

export async function c349_one_guest_from_the_first_visit_on({ shop, jar, launch, engine }) {
  const before = await shop.count();
  const restarts = engine !== 'webkitgtk';
  let browser = restarts && (await launch('restarted'));
  const first = await (restarts ? browser.profile() : jar).open();
  const visit = async (page, requests) => {
    shop.requests = [];
    await page.goto(shop.url('/helper'));
    await page.run(() => begin());
    const { sub, state } = await page.run(() => who());
    assert.equal(state, 'known');
    assert.equal(shop.requests.length, requests);
    return sub;
  };
  const sub = await visit(first, 2);
  const rows = await shop.rows();
  assert.deepEqual(await first.run(() => who()), { sub, state: 'known' });
  assert.equal(await visit(first, 1), sub);
  const second = await (restarts ? browser.profile() : jar).open();
  assert.equal(await visit(second, 1), sub);
  if (restarts) {
    await browser.end();
    browser = await launch('restarted');
    assert.equal(await visit(await browser.profile().open(), 1), sub);
    await browser.end();
  }
  assert.equal(await shop.rows(), rows);
  assert.deepEqual(await shop.count(), { profiles: before.profiles + 1, grants: before.grants + 1 });
}

export async function c350_six_tabs_get_consent_at_once({ shop, browser, engine }) {
  // One guest for all of them.
  assert.deepEqual(await inTabs({ shop, browser }), { guests: 1, subs: 1 });

  // Without locks two may come about.
  const without = () => Object.defineProperty(navigator, 'locks', { value: undefined });
  const { guests, subs } = await inTabs({ shop, browser }, { prepare: without });
  assert.ok(guests <= 2, `${guests} guests`);
  assert.ok(subs <= 2, `${subs} identities`);

  // A tab that never lets go of the lock: nobody waits for it for long.
  await inTabs({ shop, browser }, { before: holdTheLock, inTime: true });
  if (engine === 'chromium') await inTabs({ shop, browser }, { before: freezeWithTheLock, inTime: true });
}

twenty_tabs_get_consent_at_once.engines = ['chromium'];

export async function twenty_tabs_get_consent_at_once({ shop, browser }) {
  assert.deepEqual(await inTabs({ shop, browser }, { number: 20 }), { guests: 1, subs: 1 });
}

// Opens tabs in a new jar, tells all of them at once that there is consent, and counts guests and
// identities.
async function inTabs(
  { shop, browser },
  { number = 6, prepare = () => {}, before = async () => {}, inTime = false } = {},
) {
  const jar = await browser.jar();
  try {
    const settled = await before({ shop, jar });
    const count = await shop.count();
    const tabs = [];
    for (let tab = 0; tab < number; tab += 1) {
      const page = await jar.open(shop.url('/helper'));
      await page.run(prepare);
      await page.run(() => begin());
      await page.run(() => beginWhenTold());
      assert.deepEqual((await page.run(() => guest.who())), null);
      tabs.push(page);
    }
    const teller = await jar.open(shop.url('/'));
    await teller.run(() => new BroadcastChannel('tests').postMessage('now'));
    const found = [];
    for (const page of tabs) found.push(await page.run(() => told));
    for (const { state, inTime: sentInTime } of found) {
      assert.equal(state, 'known');
      if (inTime) assert.ok(sentInTime);
    }
    const guests = (await shop.count()).profiles - count.profiles;
    await settled?.();
    return { guests, subs: new Set(found.map(({ sub }) => sub)).size };
  } finally {
    await jar.close();
  }
}

// Takes the helper's lock, whose name is learned from the helper, and keeps it.
async function holdTheLock({ shop, jar }) {
  const page = await jar.open(shop.url('/helper'));
  await page.run(async () => {
    const request = navigator.locks.request.bind(navigator.locks);
    let name;
    navigator.locks.request = (asked, ...rest) => request((name = asked), ...rest);
    begin({ clientId: 'blog' });
    const other = await who();
    if (other.state !== 'misconfigured') throw new Error(other.state);
    const ours = name.replace('blog', 'shop-web');
    await new Promise((resolve) => request(ours, () => (resolve(), new Promise(() => {}))));
  });
}

// Freezes a tab whose request is on its way, as Chromium does with tabs in the background.
async function freezeWithTheLock({ shop, jar }) {
  const page = await jar.open(shop.url('/helper'));
  let release;
  const released = new Promise((resolve) => (release = resolve));
  let first = true;
  shop.rule = async (seen, forward) => {
    const answer = await forward();
    if (first) {
      first = false;
      await released;
    }
    return answer;
  };
  await page.run(() => begin());
  await page.run(() => void who());
  await until(() => shop.requests.some((seen) => !seen.answer));
  await page.freeze();
  return release;
}

export async function c309_a_prerendered_page_asks_nothing({ shop, jar }) {
  const count = await shop.count();
  const prefetch = { form: { client_id: 'shop-web' }, 'sec-purpose': 'prefetch;prerender' };
  assert.equal((await shop.send('POST', '/oauth/session', prefetch)).status, 503);

  // Never activated: its scripts have run, and there was no request.
  const isPrerendered = ({ url, headers }) => url === '/prerendered' && /prerender/.test(headers['sec-purpose'] ?? '');
  const asked = () => until(() => shop.reports.includes('asked'));
  const abandoned = await jar.open(shop.url('/speculation'));
  await until(() => shop.visits.some(isPrerendered));
  await asked();
  await abandoned.goto(shop.url('/'));
  assert.deepEqual(shop.requests, []);
  assert.deepEqual(await shop.count(), count);

  // Activated: one guest.
  shop.visits = [];
  shop.reports = [];
  const page = await jar.open(shop.url('/speculation'));
  await asked();
  assert.deepEqual(shop.requests, []);
  await page.run(follow, '/prerendered');
  const { state, sub } = await until(() => shop.reports.find((report) => report.state));
  assert.equal(state, 'known');
  assert.ok(sub);
  assert.equal(shop.visits.filter(({ url }) => url === '/prerendered').length, 1);
  assert.equal(shop.requests.length, 2);
  assert.deepEqual(await shop.count(), { profiles: count.profiles + 1, grants: count.grants + 1 });
}
c309_a_prerendered_page_asks_nothing.engines = ['chromium'];

export async function c330_a_frame_on_a_foreign_site_makes_no_guest({ shop, jar }) {
  const page = await jar.open(shop.url('/helper'));
  await page.run(() => begin());
  const known = await page.run(() => who());
  assert.equal(known.state, 'known');
  const rows = await shop.rows();
  shop.requests = [];
  await page.goto(shop.url('/', 'other.localhost'));
  const found = await page.run(async (src, times) => {
    const found = [];
    for (let load = 0; load < times; load += 1) {
      const frame = document.createElement('iframe');
      const told = new Promise((resolve) => addEventListener('message', ({ data }) => resolve(data), { once: true }));
      frame.src = src;
      document.body.append(frame);
      found.push(await told);
      frame.remove();
    }
    return found;
  }, shop.url('/framed'), 50);
  assert.deepEqual(found, Array(50).fill({ sub: null, state: 'blocked' }));
  assert.equal(shop.requests.length, 100);
  for (const { headers, answer } of shop.requests) {
    assert.equal(headers.origin, shop.origin());
    assert.equal(headers.cookie, undefined);
    assert.equal(answer.status, 202);
  }
  assert.equal(await shop.rows(), rows);
  await page.goto(shop.url('/helper'));
  await page.run(() => begin());
  assert.deepEqual(await page.run(() => who()), known);
}

// All that a script in the page can reach, searched for the secrets of its visitor.
export async function c336_a_script_in_the_page_finds_no_secret({ shop, jar }) {
  const page = await jar.open(shop.url('/helper'));
  await page.run(() => begin());
  assert.equal((await page.run(() => who())).state, 'known');
  assert.equal(await page.run(() => guest.token()), null);
  const secrets = (await page.cookies('www.shop.localhost')).map(({ value }) => value);
  const seeds = shop.requests.flatMap(({ answer }) => answer.headers['set-cookie'] ?? []);
  secrets.push(...seeds.map((text) => /=([^;]*)/.exec(text)[1]).filter(Boolean));
  assert.equal(new Set(secrets).size, 3);

  const loot = await page.run(lootOfAScript);
  assert.ok(loot.includes('"sub":'));
  for (const secret of secrets) assert.ok(!loot.includes(secret));

  const forPublic = await page.run(async () => {
    const body = new URLSearchParams({ client_id: 'shop-web', target: 'shop-app' });
    return (await fetch('/oauth/ticket', { method: 'POST', body, credentials: 'include' })).status;
  });
  assert.equal(forPublic, 400);
}

async function lootOfAScript() {
  const loot = [document.cookie, document.documentElement.outerHTML];
  loot.push(JSON.stringify({ ...localStorage, ...sessionStorage }));
  if (window.cookieStore) loot.push(JSON.stringify(await cookieStore.getAll()));
  if (window.caches) loot.push(JSON.stringify(await caches.keys()));
  if (indexedDB.databases) loot.push(JSON.stringify(await indexedDB.databases()));
  loot.push(JSON.stringify(performance.getEntries()), JSON.stringify(history.state), window.name, location.href);
  for (const body of [{}, { refresh_token: 'x' }]) {
    for (const path of ['/oauth/session', '/oauth/token', '/oauth/verify?client_id=shop-web']) {
      for (const method of ['POST', 'GET']) {
        const form = new URLSearchParams({ client_id: 'shop-web', grant_type: 'refresh_token', ...body });
        const answer = await fetch(path, { method, credentials: 'include', ...(method === 'POST' && { body: form }) });
        loot.push(JSON.stringify([...answer.headers]), await answer.text());
      }
    }
  }
  const answer = await new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open('POST', '/oauth/session');
    request.setRequestHeader('content-type', 'application/x-www-form-urlencoded');
    request.onloadend = () => resolve(request.getAllResponseHeaders() + request.responseText);
    request.send('client_id=shop-web');
  });
  loot.push(answer);
  const seen = new Set();
  const walk = (value, depth) => {
    if (!value || depth > 4 || seen.has(value)) return;
    if (typeof value === 'string') loot.push(value);
    if (typeof value !== 'object' && typeof value !== 'function') return;
    seen.add(value);
    if (typeof value === 'function') loot.push(String(value));
    for (const key of Object.getOwnPropertyNames(value)) {
      try {
        loot.push(key);
        walk(value[key], depth + 1);
      } catch {
        // Some of a window's members can't be read.
      }
    }
  };
  walk(window.guest, 0);
  walk(await window.guest.who(), 0);
  return loot.join('\n');
}

export async function c355_clocks_that_are_wrong_and_pages_that_come_back({ shop, jar }) {
  const page = await jar.open(shop.url('/helper'));
  await page.run(() => begin());
  const known = await page.run(() => who());
  assert.equal(known.state, 'known');
  const DAY = 86_400_000;
  const renewed = async (skew, requests) => {
    shop.requests = [];
    await page.run((skew) => void (window.skew = skew), skew);
    assert.deepEqual([await page.run(() => who()), await page.run(() => who())], [known, known]);
    assert.equal(shop.requests.length, requests, `${skew} ms`);
  };
  await renewed(0, 0);
  await renewed(DAY, 1);
  await renewed(0, 1); // set back while the page is open
  await renewed(-DAY, 1);
  await renewed(-DAY + 1000, 0);

  // A clock that has always been wrong is nobody's business.
  for (const skew of [DAY, -DAY]) {
    await page.reload();
    await page.run((skew) => {
      window.skew = skew;
      begin();
    }, skew);
    await renewed(skew, 1);
    await renewed(skew + 1000, 0);
  }

  // Two days in the back-forward cache: still eligible for it, and renewed once.
  await page.run(() => {
    addEventListener('pageshow', async ({ persisted }) => {
      window.skew += 2 * 86_400_000;
      await new Promise((resolve) => (window.sent = resolve)); // unasked
      report({ persisted, ...(await who()), changes });
    }, { capture: true });
  });
  // By a link: where a driver leads it away, Firefox at times takes that request for one of the page's own, and
  // doesn't keep the page.
  const leave = async () => {
    await page.run(follow, '/');
    await hasArrived(page, shop.url('/'));
  };
  const comeBack = async () => {
    shop.requests = [];
    shop.reports = [];
    await page.back();
    const report = await until(() => shop.reports[0], 'the page is back');
    // A page with a request under way isn't kept.
    await page.run(async () => void (await reported));
    return report;
  };
  await leave();
  assert.deepEqual(await comeBack(), { persisted: true, ...known, changes: [known.sub] });
  assert.equal(shop.requests.length, 1);

  // Another guest by then: that is told.
  await leave();
  assert.equal(await page.run(withdraw, 'shop-web'), 204);
  const { persisted, sub, changes } = await comeBack();
  assert.ok(persisted);
  assert.ok(sub && sub !== known.sub);
  assert.deepEqual(changes, [known.sub, sub]);
}

export async function c356_nobody_comes_back_after_a_withdrawal({ shop, jar, browser }) {
  const tabs = await threeTabs(shop, jar);
  const [leaving, ...others] = tabs;
  const { sub } = await leaving.run(() => who());
  for (const page of others) assert.equal((await page.run(() => who())).sub, sub);

  await withdrawMeanwhile(shop, leaving, others, false);
  await nobody(shop, tabs);

  // With consent again, in each tab, it is a new guest.
  const subs = new Set();
  for (const page of tabs) {
    await page.run(() => void (window.consented = true));
    subs.add((await page.run(() => who())).sub);
  }
  assert.equal(subs.size, 1);
  assert.ok(![...subs].includes(sub));
  assert.ok(![...subs].includes(null));

  // With consent that was never taken back, who asks again is a new guest at once.
  const [before] = subs;
  await withdrawMeanwhile(shop, leaving, others, true);
  const after = [];
  for (const page of tabs) after.push((await page.run(() => who())).sub);
  for (const now of after) assert.ok(now && now !== before);
  assert.equal(new Set(after).size, 1);

  // The first guest of all was being made.
  const empty = await browser.jar();
  try {
    const [leaving, other] = await threeTabs(shop, empty);
    await withdrawMeanwhile(shop, leaving, [other], false);
    await nobody(shop, [leaving, other]);
  } finally {
    await empty.close();
  }
}

async function threeTabs(shop, jar) {
  const tabs = [];
  for (let tab = 0; tab < 3; tab += 1) {
    const page = await jar.open(shop.url('/helper'));
    await page.run(() => begin());
    tabs.push(page);
  }
  return tabs;
}

// Checks that pages without consent know nobody and ask nobody, and that the shop's server recognises
// nobody either.
async function nobody(shop, tabs) {
  shop.requests = [];
  const rows = await shop.rows();
  for (const page of tabs) {
    assert.deepEqual(await page.run(() => who()), { sub: null, state: 'withdrawn' });
    assert.equal(await page.run(() => fetch('/whoami').then((answer) => answer.text())), 'nobody');
  }
  assert.deepEqual(shop.requests, []);
  assert.equal(await shop.rows(), rows);
}

// Has one tab withdraw while each of the others waits for an answer that brings cookies: of the guest they
// know, or of the first that they get. It comes when the withdrawal is done.
async function withdrawMeanwhile(shop, leaving, others, consented) {
  let release;
  const released = new Promise((resolve) => (release = resolve));
  let held = 0;
  shop.rule = async (seen, forward) => {
    const [cookie] = /__Host-guest-[rs]=[^;]*/.exec(seen.headers.cookie) ?? [];
    if (!sendsSession('POST')(seen) || !cookie) return forward();
    const answer = await shop.forward({ ...seen, headers: { ...seen.headers, cookie } });
    assert.ok(answer.headers['set-cookie'].some((text) => text.startsWith('__Host-guest-r=')));
    held += 1;
    await released;
    return answer;
  };
  for (const page of others) {
    await page.run(() => {
      window.skew += 80_000_000;
      window.inFlight = who();
    });
  }
  await until(() => held === others.length);
  await leaving.run(async (consented) => {
    window.consented = consented;
    await guest.withdraw();
  }, consented);
  for (const page of others) {
    await page.run((consented) => void (window.consented = consented), consented);
    await until(() => page.run(() => guest.state === 'withdrawn'));
  }
  shop.rule = null;
  release();
  for (const page of others) await page.run(() => inFlight.then(() => {}));
}

export async function c357_a_guest_moves_from_local_storage_into_cookies({ shop, browser }) {
  // As it is meant to be.
  await migrate({ shop, browser }, async ({ load, stored, sub }) => {
    assert.deepEqual(await load(), { sub, state: 'known' });
    assert.equal(await stored(), null);
    const [seeding, moving, proving] = shop.requests;
    assert.equal(shop.requests.length, 3);
    // The old token counts only beside the cookie that has come back.
    assert.ok(!seeding.headers.cookie?.includes('__Host-guest'));
    assert.ok(moving.body.includes('refresh_token') && moving.headers.cookie.includes('__Host-guest-s='));
    assert.ok(!proving.body.includes('refresh_token') && proving.headers.cookie.includes('__Host-guest-r='));
    assert.deepEqual(await load(), { sub, state: 'known' });
  });

  // Cookies that don't come back: the old token isn't used, and stays good.
  await migrate({ shop, browser }, async ({ load, stored, sub }) => {
    const [before, rows] = [await stored(), await shop.rows()];
    shop.rule = withoutCookies(() => true);
    for (let time = 0; time < 20; time += 1) assert.deepEqual(await load(), { sub: null, state: 'blocked' });
    assert.equal(await stored(), before);
    assert.equal(await shop.rows(), rows);
    shop.rule = null;
    assert.deepEqual(await load(), { sub, state: 'known' });
    assert.equal(await stored(), null);
  });

  // Each Set-Cookie in turn is lost once.
  for (let lost = 0; lost < 3; lost += 1) {
    await migrate({ shop, browser }, async ({ load, stored, sub }) => {
      let answers = 0;
      shop.rule = withoutCookies(() => answers++ === lost);
      await load();
      shop.rule = null;
      assert.deepEqual(await load(), { sub, state: 'known' }, `Set-Cookie ${lost}`);
      assert.equal(await stored(), null);
    });
  }
}

// Has a page without the helper make a guest in a new jar, and then loads pages that move it.
async function migrate({ shop, browser }, check) {
  const jar = await browser.jar();
  try {
    const page = await jar.open(shop.url('/documented'));
    await page.run(() => void localStorage.removeItem('guest'));
    await page.run(() => guest());
    const stored = () => page.run(() => localStorage.getItem('guest'));
    const { access_token } = JSON.parse(await stored());
    const { sub } = JSON.parse(Buffer.from(access_token.split('.')[1], 'base64url'));
    shop.requests = [];
    const load = async () => {
      await page.goto(shop.url('/helper'));
      await page.run(() => begin({ migrates: true }));
      return page.run(() => who());
    };
    await check({ load, stored, sub });
  } finally {
    shop.rule = null;
    await jar.close();
  }
}

// Strips the cookies of an answer, and those of the request as well if none of them comes back.
function withoutCookies(isLost) {
  return async (seen, forward) => {
    const answer = await forward();
    if (isLost()) delete answer.headers['set-cookie'];
    return answer;
  };
}
