// WebKitGTK, by its driver, on a display of its own: it has no headless mode. It takes authorities from the
// system alone, so each session accepts the certificate; what pages may do doesn't depend on that.
import { makeHome, freePort, start } from './programs.mjs';
import { until } from '../waiting.mjs';
import { command, WebDriverJar } from './webdriver.mjs';

export const name = 'webkitgtk';

const BINARY = '/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser';

export async function launch(home, authority, { cookies = true } = {}) {
  makeHome(home);
  const screen = ['-displayfd', '3', '-nolisten', 'tcp', '-screen', '0', '1024x768x24'];
  const [xvfb, display] = await start('Xvfb', screen, { home, ready: /^(\d+)$/m });
  const options = { binary: BINARY, args: ['--automation', ...(cookies ? [] : ['--cookies-policy=never'])] };
  const capabilities = { acceptInsecureCerts: true, 'webkitgtk:browserOptions': options };
  return {
    // A driver has one session at a time, so each jar has its driver.
    async jar() {
      const port = await freePort();
      const listen = [`--port=${port}`, '--host=127.0.0.1'];
      const [driver] = await start('WebKitWebDriver', listen, { home, env: { DISPLAY: `:${display}` } });
      const url = `http://127.0.0.1:${port}`;
      await until(() => command(url, 'GET', '/status').catch(() => false));
      return WebDriverJar.open(url, capabilities, () => driver.end());
    },
    end: () => xvfb.end(),
  };
}
