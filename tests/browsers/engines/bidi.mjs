// A browser that is driven by WebDriver BiDi (W3C), over a WebSocket.
import { WebSocket } from 'ws';
import { isLoaded } from '../waiting.mjs';

const DEADLINE_MS = 60_000;

export class Bidi {
  #socket;
  #pending = new Map();
  #id = 0;

  static async connect(url) {
    const bidi = new Bidi();
    bidi.#socket = new WebSocket(url, { maxPayload: 1 << 26 });
    bidi.#socket.on('message', (text) => bidi.#hear(JSON.parse(text)));
    bidi.#socket.on('close', () => bidi.#fail(new Error('the browser has closed the connection')));
    await new Promise((resolve, reject) => bidi.#socket.once('open', resolve).once('error', reject));
    return bidi;
  }

  send(method, params = {}) {
    this.#id += 1;
    const id = this.#id;
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${method}: no answer`)), DEADLINE_MS);
      this.#pending.set(id, { resolve, reject, late, method });
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }

  close() {
    this.#socket.terminate();
  }

  #hear({ id, type, result, error, message }) {
    const waiting = this.#pending.get(id);
    if (!waiting) return;
    this.#pending.delete(id);
    clearTimeout(waiting.late);
    if (type === 'error') waiting.reject(new Error(`${waiting.method}: ${error}: ${message}`));
    else waiting.resolve(result);
  }

  #fail(error) {
    for (const { reject, late } of this.#pending.values()) {
      clearTimeout(late);
      reject(error);
    }
    this.#pending.clear();
  }
}

export class BidiBrowser {
  constructor(bidi, end) {
    this.bidi = bidi;
    this.end = end;
  }

  // Opens a jar of its own: cookies and storage that no other one sees, and that end with it.
  async jar() {
    const { userContext } = await this.bidi.send('browser.createUserContext');
    return new BidiJar(this.bidi, userContext);
  }

  // Returns the page that the browser has begun with.
  async firstPage() {
    const { contexts } = await this.bidi.send('browsingContext.getTree', { maxDepth: 0 });
    const page = new BidiPage(this.bidi, contexts[0].context);
    await isLoaded(page);
    return page;
  }

  // Returns the jar of the profile, which outlives the process.
  profile() {
    return new BidiJar(this.bidi, 'default');
  }
}

class BidiJar {
  #pages = [];

  constructor(bidi, userContext) {
    this.bidi = bidi;
    this.userContext = userContext;
  }

  async open(url) {
    const { context } = await this.bidi.send('browsingContext.create', { type: 'tab', userContext: this.userContext });
    const page = new BidiPage(this.bidi, context);
    this.#pages.push(page);
    // An empty page that is still being loaded would end the navigation.
    await isLoaded(page);
    if (url) await page.goto(url);
    return page;
  }

  async close() {
    if (this.userContext !== 'default') {
      await this.bidi.send('browser.removeUserContext', { userContext: this.userContext });
    } else {
      for (const page of this.#pages) await page.close();
    }
  }
}

class BidiPage {
  constructor(bidi, context) {
    this.bidi = bidi;
    this.context = context;
  }

  async goto(url) {
    await this.bidi.send('browsingContext.navigate', { context: this.context, url, wait: 'complete' });
    await isLoaded(this);
  }

  async reload() {
    await this.bidi.send('browsingContext.reload', { context: this.context, wait: 'complete' });
    await isLoaded(this);
  }

  async back() {
    await this.bidi.send('browsingContext.traverseHistory', { context: this.context, delta: -1 });
  }

  async resize(viewport) {
    await this.bidi.send('browsingContext.setViewport', { context: this.context, viewport });
  }

  // Returns what is to be seen, as PNG.
  async picture() {
    const { data } = await this.bidi.send('browsingContext.captureScreenshot', { context: this.context });
    return Buffer.from(data, 'base64');
  }

  // Stops the page, as browsers do with tabs in the background. Chromium alone can be told to.
  async freeze() {
    const { session } = await this.bidi.send('goog:cdp.getSession', { context: this.context });
    const params = { state: 'frozen' };
    await this.bidi.send('goog:cdp.sendCommand', { method: 'Page.setWebLifecycleState', params, session });
  }

  // Runs a function in the page, with arguments that are JSON; what it returns, or its promise, is JSON as well.
  async run(body, ...args) {
    const { type, result, exceptionDetails } = await this.bidi.send('script.callFunction', {
      functionDeclaration: `async (args) => JSON.stringify(await (${body})(...JSON.parse(args)))`,
      arguments: [{ type: 'string', value: JSON.stringify(args) }],
      target: { context: this.context },
      awaitPromise: true,
    });
    if (type === 'exception') throw new Error(`in the page: ${exceptionDetails.text}`);
    return result.value === undefined ? undefined : JSON.parse(result.value);
  }

  // Returns all cookies of a host, HttpOnly ones included.
  async cookies(host) {
    const { cookies } = await this.bidi.send('storage.getCookies', {
      partition: { type: 'context', context: this.context },
    });
    return cookiesOf(host, cookies.map((cookie) => ({ ...cookie, value: cookie.value.value })));
  }

  async close() {
    await this.bidi.send('browsingContext.close', { context: this.context });
  }
}

// Returns those of a driver's cookies that are sent to the host, in the order of their names and paths.
export function cookiesOf(host, cookies) {
  return cookies
    .filter(({ domain }) => host === domain || host.endsWith(`.${domain.replace(/^\./, '')}`))
    .map(({ name, value, path, httpOnly, secure, sameSite }) => ({
      ...{ name, value, path, httpOnly, secure, sameSite: sameSite?.toLowerCase() },
    }))
    .sort((one, other) => (`${one.name} ${one.path}` < `${other.name} ${other.path}` ? -1 : 1));
}
