// A browser that is driven by WebDriver (W3C), over HTTP. One session is one jar: its cookies and storage
// end with it.
import { isLoaded } from '../waiting.mjs';
import { cookiesOf } from './bidi.mjs';

const DEADLINE_MS = 60_000;

export async function command(url, method, path, body) {
  const answer = await fetch(url + path, {
    method,
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(DEADLINE_MS),
  });
  const { value } = await answer.json();
  if (!answer.ok) throw new Error(`${method} ${path}: ${value.error}: ${value.message}`);
  return value;
}

export class WebDriverJar {
  #session;
  #end;
  #pages = 0;
  #turn = Promise.resolve();

  static async open(url, alwaysMatch, end) {
    const jar = new WebDriverJar();
    jar.#end = end;
    const { sessionId } = await command(url, 'POST', '/session', { capabilities: { alwaysMatch } });
    jar.#session = `${url}/session/${sessionId}`;
    await jar.#send('POST', '/timeouts', { script: DEADLINE_MS, pageLoad: DEADLINE_MS });
    return jar;
  }

  async open(url) {
    this.#pages += 1;
    const handle =
      this.#pages === 1
        ? await this.#send('GET', '/window')
        : (await this.#send('POST', '/window/new', { type: 'tab' })).handle;
    const page = new WebDriverPage(this, handle);
    if (url) await page.goto(url);
    return page;
  }

  // Sends a command to one window. A session has one current window, so commands take turns.
  in(handle, method, path, body) {
    const done = this.#turn.then(async () => {
      await this.#send('POST', '/window', { handle });
      return this.#send(method, path, body);
    });
    this.#turn = done.catch(() => {});
    return done;
  }

  async close() {
    await this.#turn;
    await this.#send('DELETE', '').catch(() => {}); // it ends with its last window, too
    await this.#end();
  }

  #send(method, path, body) {
    return command(this.#session, method, path, body ?? (method === 'POST' ? {} : undefined));
  }
}

class WebDriverPage {
  constructor(jar, handle) {
    this.jar = jar;
    this.handle = handle;
  }

  async goto(url) {
    await this.#send('POST', '/url', { url });
    await isLoaded(this);
  }

  async reload() {
    await this.#send('POST', '/refresh', {});
    await isLoaded(this);
  }

  async back() {
    await this.#send('POST', '/back', {});
  }

  async run(body, ...args) {
    const script = `
      const [args, done] = arguments;
      (async () => (${body})(...JSON.parse(args)))().then(
        (value) => done(JSON.stringify({ value })),
        (error) => done(JSON.stringify({ error: String(error) })),
      );`;
    const { value, error } = JSON.parse(
      await this.#send('POST', '/execute/async', { script, args: [JSON.stringify(args)] }),
    );
    if (error) throw new Error(`in the page: ${error}`);
    return value;
  }

  async cookies(host) {
    return cookiesOf(host, await this.#send('GET', '/cookie'));
  }

  async close() {
    await this.#send('DELETE', '/window');
  }

  #send(method, path, body) {
    return this.jar.in(this.handle, method, path, body);
  }
}
