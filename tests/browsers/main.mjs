// Usage: node main.mjs GUESTPASS DIRECTORY [WORD...]
//
// Runs the cases in each engine, or those whose `ENGINE::NAME` has one of the words. Each engine has a shop
// and a server of its own; each case has a jar of its own.
import { join } from 'node:path';
import { mkdirSync } from 'node:fs';
import { certify } from './certificate.mjs';
import * as chromium from './engines/chromium.mjs';
import * as firefox from './engines/firefox.mjs';
import * as webkitgtk from './engines/webkitgtk.mjs';
import { openShop } from './shop.mjs';
import { pause } from './waiting.mjs';
import * as attacks from './cases/attacks.mjs';
import * as demo from './cases/demo.mjs';
import * as helper from './cases/helper.mjs';
import * as served from './cases/served.mjs';
import * as session from './cases/session.mjs';
import * as storage from './cases/storage.mjs';

const CASE_DEADLINE_MS = 300_000;
const [guestpass, directory, ...words] = process.argv.slice(2);
const { authority, identity } = certify(directory);
const cases = Object.entries({ ...session, ...attacks, ...helper, ...storage, ...served, ...demo });
for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));
let passed = 0;
let failed = 0;

await Promise.all([chromium, firefox, webkitgtk].map(runIn));
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

async function runIn(engine) {
  const wanted = cases.filter(([name, check]) => {
    const full = `${engine.name}::${name}`;
    if (check.engines && !check.engines.includes(engine.name)) return false;
    return words.length === 0 || words.some((word) => full.includes(word));
  });
  if (wanted.length === 0) return;
  const home = (name) => join(directory, engine.name, name);
  let shop;
  let browser;
  try {
    mkdirSync(home('shop'), { recursive: true });
    shop = await openShop({ guestpass, directory: home('shop'), identity });
    browser = await engine.launch(home('browser'), authority);
  } catch (error) {
    console.log(`${engine.name} could not be tested:\n${error.stack}`);
    for (const [name] of wanted) report(engine, name, { stack: 'See above.' });
    await shop?.end();
    return;
  }
  const world = {
    engine: engine.name,
    guestpass,
    // For programs of a case's own.
    home: home('case'),
    shop,
    browser,
    // Starts the engine once more, with a profile of its own, or with that of the name if there is one.
    async launch(name, options) {
      const another = await engine.launch(home(name), authority, options);
      world.launched.push(another);
      return another;
    },
  };
  for (const [name, check] of wanted) {
    report(engine, name, await outcome(check, world));
  }
  await browser.end();
  await shop.end();
}

// Runs a case in a new jar, and returns why it failed.
async function outcome(check, world) {
  world.launched = [];
  world.shop.rule = null;
  world.shop.requests = [];
  world.shop.visits = [];
  world.shop.reports = [];
  try {
    const jar = await world.browser.jar();
    try {
      const late = pause(CASE_DEADLINE_MS).then(() => {
        throw new Error('not done after five minutes');
      });
      await Promise.race([check({ ...world, jar }), late]);
    } finally {
      await jar.close();
      for (const another of world.launched) await another.end();
    }
  } catch (error) {
    return error;
  }
}

function report(engine, name, error) {
  console.log(`test browsers::${engine.name}::${name} ... ${error ? 'FAILED' : 'ok'}`);
  if (error) console.log(error.stack);
  if (error) failed += 1;
  else passed += 1;
}
