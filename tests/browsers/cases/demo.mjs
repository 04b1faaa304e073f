// The small shop of `make demo`, from the first visit to the withdrawal. With PICTURES, a directory, the
// pictures of its documents are taken anew.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, makeHome, start } from '../engines/programs.mjs';
import { until } from '../waiting.mjs';

const PROGRAM = fileURLToPath(new URL('../../../demo/run', import.meta.url));
const [WIDE, PHONE] = [{ width: 1280, height: 800 }, { width: 390, height: 844 }];

the_demo_shows_a_guest_from_consent_to_withdrawal.engines = ['chromium'];

export async function the_demo_shows_a_guest_from_consent_to_withdrawal({ guestpass, home, jar }) {
  const env = { PORT: String(await freePort()), GUESTPASS_LIMITS__MODE: 'off' };
  const ready = /The shop is open: (\S+)/;
  const [demo, origin] = await start(PROGRAM, [guestpass], { home: makeHome(home), env, ready, as: {} });
  try {
    const page = await jar.open();
    await page.resize(WIDE);
    await page.goto(origin);
    await walk(page, origin);
  } finally {
    await demo.end();
  }
}

async function walk(page, origin) {
  // A page that is just being left has no text.
  const text = (id) => page.run((id) => document.getElementById(id)?.innerText ?? '', id).catch(() => '');
  const says = (id, pattern) => until(async () => pattern.test(await text(id)), `#${id} says ${pattern}`);
  // The answer of the driver first, for the page may be left.
  const click = (id) => page.run((id) => void setTimeout(() => document.getElementById(id).click()), id);
  const names = async () => (await page.cookies('www.shop.localhost')).map(({ name }) => name).join(' ');

  // A first visit: nobody is asked about, and nothing is stored.
  assert.equal(await text('sub'), 'nobody');
  assert.equal(await names(), '');
  await picture(page, 'first-visit');

  // Consent: a guest, in cookies that no script sees.
  await click('accept');
  await says('sub', /^\d+$/);
  const sub = await text('sub');
  assert.equal(await names(), 'guest guest-r shop_consent');
  assert.ok(!(await page.run(() => document.cookie)).includes('guest'));

  // The server greets it before any script has run, and keeps a basket for it.
  await page.goto(origin);
  await says('greeting', /Welcome back/);
  assert.equal(await text('sub'), sub);
  await click('add');
  await says('basket', /48/);

  // It logs in, stays the same guest, and the next token says so.
  await page.goto(`${origin}/login`);
  await page.run(() => void (document.getElementById('name').value = 'Ada'));
  await click('login');
  await says('greeting', /Ada/);
  await says('basket', /48/);
  assert.equal(await text('sub'), sub);
  await says('token-customer', /^c\d+$/);
  await picture(page, 'logged-in');

  // The shop's log-in ends, and the guest stays.
  await click('logout');
  await until(async () => (await text('shop-login')) === 'no');
  assert.equal(await text('sub'), sub);
  await page.resize(PHONE);
  await picture(page, 'phone');
  await page.resize(WIDE);

  // Consent is taken back: nobody again, here and after a reload.
  await click('erase');
  await click('withdraw');
  await says('sub', /^nobody$/);
  await until(async () => (await names()) === 'shop_consent');
  await page.goto(origin);
  assert.equal(await text('sub'), 'nobody');
}

async function picture(page, name) {
  if (process.env.PICTURES) writeFileSync(join(process.env.PICTURES, `${name}.png`), await page.picture());
}
