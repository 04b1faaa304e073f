// Firefox, by WebDriver BiDi.
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Bidi, BidiBrowser } from './bidi.mjs';
import { makeHome, start, trust } from './programs.mjs';

export const name = 'firefox';

const QUIET = {
  'app.normandy.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'browser.startup.page': 0,
  'datareporting.policy.dataSubmissionEnabled': false,
  'messaging-system.rsexperimentloader.enabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'toolkit.telemetry.enabled': false,
};

export async function launch(home, authority, { cookies = true, privately = false } = {}) {
  const profile = join(home, 'profile');
  makeHome(home, () => {
    if (existsSync(profile)) return;
    trust(authority, profile);
    const settings = {
      ...QUIET,
      'network.cookie.cookieBehavior': cookies ? 5 : 2,
      'browser.privatebrowsing.autostart': privately,
    };
    const lines = Object.entries(settings).map(([key, value]) => `user_pref("${key}", ${JSON.stringify(value)});\n`);
    writeFileSync(join(profile, 'user.js'), lines.join(''));
  });
  const args = ['--headless', '--no-remote', '--remote-debugging-port=0', '--profile', profile];
  const [firefox, url] = await start('firefox-esr', args, { home, ready: /BiDi listening on (ws:\S+)/ });
  const bidi = await Bidi.connect(`${url}/session`);
  await bidi.send('session.new', { capabilities: {} });
  return new BidiBrowser(bidi, async () => {
    await firefox.end(() => bidi.send('browser.close').catch(() => {}));
    bidi.close();
  });
}
