// Chromium, by its driver, which speaks WebDriver BiDi as well.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Bidi, BidiBrowser } from './bidi.mjs';
import { freePort, makeHome, start, trust } from './programs.mjs';
import { command } from './webdriver.mjs';

export const name = 'chromium';

export async function launch(home, authority, { cookies = true, privately = false } = {}) {
  makeHome(home, () => {
    const database = join(home, '.pki/nssdb');
    if (!existsSync(database)) trust(authority, database);
  });
  const [driver, port] = await startDriver(home);
  const url = `http://127.0.0.1:${port}`;
  const { sessionId, capabilities } = await command(url, 'POST', '/session', {
    capabilities: {
      alwaysMatch: {
        webSocketUrl: true,
        'goog:chromeOptions': {
          binary: '/usr/bin/chromium',
          args: [
            ...['--headless=new', '--disable-gpu', '--disable-dev-shm-usage'],
            `--user-data-dir=${join(home, 'profile')}`,
            ...(privately ? ['--incognito'] : []),
          ],
          prefs: cookies ? {} : { 'profile.default_content_setting_values.cookies': 2 },
        },
      },
    },
  });
  const bidi = await Bidi.connect(capabilities.webSocketUrl);
  return new BidiBrowser(bidi, async () => {
    // The answer comes when Chromium has ended and written its cookies.
    await driver.end(() => command(url, 'DELETE', `/session/${sessionId}`).then(() => driver.kill('SIGTERM')));
  });
}

// The driver takes its port on IPv4 and IPv6, and ends if the one that was free on one is taken on the other.
async function startDriver(home, attempts = 10) {
  const port = await freePort();
  try {
    return await start('chromedriver', [`--port=${port}`], { home, ready: /successfully on port (\d+)/ });
  } catch (error) {
    if (attempts === 1) throw error;
    return startDriver(home, attempts - 1);
  }
}
