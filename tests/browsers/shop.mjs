// The shop: its hosts over TLS, its pages, and in front of Guestpass a proxy on each host, as nginx would
// be. A test can set a rule by which the proxy drops, delays, strips, repeats or replaces answers.
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { start } from './engines/programs.mjs';
import { DEADLINE_MS } from './waiting.mjs';

const run = promisify(execFile);
const HELPER = readFileSync(new URL('../../sdk/js/guestpass.min.js', import.meta.url));
const DOCUMENT = new URL('../../docs/browser.md', import.meta.url);
const FIXTURE = readFileSync(new URL('page.js', import.meta.url));
const ISSUER_HOST = 'www.shop.localhost';
const OUT_OF_BAND = 'urn:ietf:wg:oauth:2.0:oob:auto';
const HOP_BY_HOP = ['connection', 'keep-alive', 'transfer-encoding', 'upgrade'];

export async function openShop({ guestpass, directory, identity }) {
  const shop = new Shop(guestpass, directory);
  await shop.listen(identity);
  await shop.addClients();
  await shop.serve();
  return shop;
}

class Shop {
  #waiting = new Set();

  // Each request that came to Guestpass, with its answer.
  requests = [];

  // Each request for a page of the shop's own.
  visits = [];

  // What pages have said of themselves.
  reports = [];

  // Answers in the place of Guestpass, if it is set: `forward()` is Guestpass' own answer; without an answer, the
  // connection is dropped.
  rule = null;

  constructor(guestpass, directory) {
    this.program = guestpass;
    this.data = join(directory, 'data');
    this.directory = directory;
  }

  origin(host = ISSUER_HOST) {
    return `https://${host}:${this.port}`;
  }

  url(path, host) {
    return this.origin(host) + path;
  }

  async listen(identity) {
    this.front = https.createServer(identity, (request, response) => {
      this.#answer(request, response).catch((error) => {
        response.writeHead(500, { 'content-type': 'text/plain' }).end(error.stack);
      });
    });
    await new Promise((resolve) => this.front.listen(0, '127.0.0.1', resolve));
    this.port = this.front.address().port;
  }

  async addClients() {
    const add = (...args) => this.guestpass('client', 'add', ...args);
    const origin = ['--origin', this.origin()];
    await add('shop-backend', '--confidential');
    await add('shop-page', ...origin);
    await add('shop-web', ...origin, '--cookies', 'guest', '--ticket-to', 'shop-backend');
    await add('shop-app', '--ticket-to', 'shop-web');
    await add('shop-shown', ...origin, '--cookies', 'shown', '--page-token');
    await add('shop-wide', ...origin, '--cookies', 'wide', '--cookie-domain', 'shop.localhost');
    await add('blog', '--origin', this.origin('id.shop.localhost'), '--cookies', 'blog');
  }

  async serve() {
    const [server, address] = await start(this.program, ['--data-dir', this.data, 'serve', '--listen', '127.0.0.1:0'], {
      home: this.directory,
      as: {},
      ready: /listening on (http:\S+)/,
      env: {
        GUESTPASS_ISSUER: this.origin(),
        GUESTPASS_LIMITS__MODE: 'off',
        GUESTPASS_TRUSTED_PROXIES: '127.0.0.1',
      },
    });
    this.server = server;
    this.address = address;
  }

  async end() {
    await this.server.end();
    this.front.closeAllConnections();
    this.front.close();
  }

  // Runs the command line on the server's data, and returns what it prints.
  async guestpass(...args) {
    const { stdout } = await run(this.program, ['--data-dir', this.data, ...args]);
    return stdout;
  }

  // Counts the rows of profiles and of grants.
  async count() {
    const sql = 'select (select count(*) from profiles), (select count(*) from grants)';
    const { stdout } = await run('sqlite3', ['-readonly', join(this.data, 'guestpass.db'), sql]);
    const [profiles, grants] = stdout.trim().split('|').map(Number);
    return { profiles, grants };
  }

  // Returns every row of a guest: equal texts say that nothing was written in between.
  async rows() {
    const sql = 'select * from profiles order by 1; select * from grants order by 1, 2;';
    return (await run('sqlite3', ['-readonly', '-quote', join(this.data, 'guestpass.db'), sql])).stdout;
  }

  // Sends a request to Guestpass as a browser would, but with the headers as given.
  async send(method, path, { form, ...headers } = {}) {
    return fetch(this.address + path, {
      method,
      body: form && new URLSearchParams(form),
      headers: { host: `${ISSUER_HOST}:${this.port}`, origin: this.origin(), ...headers },
    });
  }

  // Makes a guest in cookies, as a browser of somebody else's, and returns it with its tokens.
  async guest(client_id = 'shop-web', name = 'guest') {
    const form = { client_id };
    const seed = cookiesIn(await this.send('POST', '/oauth/session', { form }))[`__Host-${name}-s`];
    const made = await this.send('POST', '/oauth/session', { form, cookie: `__Host-${name}-s=${seed}` });
    const cookies = cookiesIn(made);
    const { sub } = await made.json();
    const accessToken = cookies[`__Host-${name}`] ?? cookies[`__Secure-${name}`];
    return { sub, accessToken, refreshToken: cookies[`__Host-${name}-r`] };
  }

  // Makes a guest of the app, and returns its tokens.
  async appGuest(client_id = 'shop-app') {
    const code_verifier = randomBytes(32).toString('base64url');
    const query = new URLSearchParams({
      ...{ client_id, redirect_uri: OUT_OF_BAND, response_type: 'code', state: 'a', code_challenge_method: 'S256' },
      code_challenge: createHash('sha256').update(code_verifier).digest('base64url'),
    });
    const { code } = await (await this.send('GET', `/oauth/authorize?${query}`)).json();
    const form = { grant_type: 'authorization_code', client_id, code, code_verifier, redirect_uri: OUT_OF_BAND };
    return this.#json('/oauth/token', form);
  }

  // Mints a ticket of a guest of the app, or of a new one.
  async ticket(target, app) {
    const { refresh_token } = app ?? (await this.appGuest());
    return (await this.#json('/oauth/ticket', { client_id: 'shop-app', target, refresh_token })).ticket;
  }

  async #json(path, form) {
    const answer = await this.send('POST', path, { form });
    if (!answer.ok) throw new Error(`POST ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  // Begins to listen for a request to Guestpass that fits, and resolves with it and its answer when that was sent.
  answered(fits) {
    return new Promise((resolve, reject) => {
      const waiting = { fits, resolve };
      this.#waiting.add(waiting);
      setTimeout(() => reject(new Error(`no such request within a minute: ${fits}`)), DEADLINE_MS).unref();
    });
  }

  async #answer(request, response) {
    const { pathname, searchParams } = new URL(request.url, this.origin());
    // Whose a request is, a gateway asks from inside alone: it would tell a script in the page who the customer is.
    if (/^(\/api)?\/oauth\/(?!verify)/.test(pathname)) return this.#proxy(request, response);
    this.visits.push({ method: request.method, url: request.url, headers: request.headers });
    const page = PAGES[pathname];
    if (!page) return response.writeHead(404, { 'content-type': 'text/plain' }).end('not found');
    const { status = 200, headers = {}, body } = await page({ shop: this, request, searchParams });
    response.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-cache', ...headers });
    response.end(body);
  }

  async #proxy(request, response) {
    const body = await collect(request);
    const { method, url, headers } = request;
    const seen = { method, url, headers, body: body.toString() };
    this.requests.push(seen);
    const forward = () => this.forward(seen);
    seen.answer = this.rule ? await this.rule(seen, forward) : await forward();
    if (seen.answer) {
      response.writeHead(seen.answer.status, seen.answer.headers);
      await new Promise((resolve) => response.on('close', resolve).end(seen.answer.body));
    } else {
      response.destroy();
    }
    this.#tell(seen);
  }

  #tell(seen) {
    for (const waiting of this.#waiting) {
      if (!waiting.fits(seen)) continue;
      this.#waiting.delete(waiting);
      waiting.resolve(seen);
    }
  }

  // Asks Guestpass whose request this is, as a gateway would: with the visitor's cookies and origin.
  async whoIs(client_id, { headers }) {
    const { cookie, origin } = headers;
    const url = `/oauth/verify?${new URLSearchParams({ client_id, mode: 'soft' })}`;
    const passed = { host: headers.host, ...(cookie && { cookie }), ...(origin && { origin }) };
    const seen = { method: 'GET', url, headers: passed };
    seen.answer = await this.forward(seen);
    this.#tell(seen);
    return seen.answer.headers['x-guestpass-sub'] || 'nobody';
  }

  // Hands a request on to Guestpass, and returns its answer.
  async forward({ method, url, headers, body }) {
    const onward = http.request(this.address + url, {
      method,
      headers: {
        ...without(headers, HOP_BY_HOP),
        'x-forwarded-for': '127.0.0.1',
        'x-forwarded-host': headers.host,
        'x-forwarded-proto': 'https',
      },
    });
    const answer = new Promise((resolve, reject) => onward.on('response', resolve).on('error', reject));
    onward.end(body);
    const { statusCode, headers: answered } = await answer;
    return { status: statusCode, headers: without(answered, HOP_BY_HOP), body: await collect(await answer) };
  }
}

// The pages of every host, by path.
const PAGES = {
  '/': () => ({ body: '<!doctype html><title>A page</title><p>A page' }),
  '/helper': () => ({ body: page('<script type="module" src="/page.js"></script>') }),
  '/guestpass.js': () => script(HELPER),
  '/page.js': () => script(FIXTURE),
  // Asks who the guest is as soon as it is loaded, and tells the page around it, or the shop.
  '/framed': () => ({ body: page(`<script type="module">
    import '/page.js';
    begin();
    parent.postMessage(await who(), '*');
  </script>`) }),
  '/prerendered': () => ({ body: page(`<script type="module">
    import '/page.js';
    begin();
    const asked = who();
    // Longer than the helper waits for anything but the visitor.
    setTimeout(report, 1500, 'asked');
    report(await asked);
  </script>`) }),
  // Takes what a page says of itself, where the driver can't ask it.
  '/report': async ({ shop, request }) => {
    shop.reports.push(JSON.parse(await collect(request)));
    return { body: '' };
  },
  '/speculation': () => ({ body: page(`<script type="speculationrules">
    { "prerender": [{ "urls": ["/prerendered"], "eagerness": "immediate" }] }
  </script>`) }),
  // The documents' page without the helper, as it is there.
  '/documented': () => ({ body: page(`<script type="module">
    import { guest } from '/documented.js';
    window.guest = guest;
  </script>`) }),
  '/documented.js': ({ shop }) => script(documentedSnippet(shop.origin())),
  // Loads what Guestpass serves, which starts by itself.
  '/started': ({ searchParams }) => ({ body: page(`${searchParams.get('before') ?? ''}
    <script type="module" src="${searchParams.get('base') ?? ''}/oauth/guestpass.js?client_id=shop-web"></script>
    <script type="module">
      import { guest } from '${searchParams.get('base') ?? ''}/oauth/guestpass.js?client_id=shop-web';
      window.guest = guest;
    </script>`) }),
  // Greets the guest by its `sub`.
  '/whoami': async ({ shop, request, searchParams }) => ({
    body: await shop.whoIs(searchParams.get('client_id') ?? 'shop-web', request),
  }),
  // Sets the cookies of the query, as a host may.
  '/plant': ({ searchParams }) => ({ headers: { 'set-cookie': searchParams.getAll('cookie') }, body: 'planted' }),
};

// Modules run in the order in which a page has them, so the last one says that all have begun.
function page(content) {
  return `<!doctype html><title>A page</title><script>window.loaded = false;</script>${content}
    <script type="module">window.loaded = true;</script>`;
}

function script(body) {
  return { headers: { 'content-type': 'text/javascript', 'access-control-allow-origin': '*' }, body };
}

// The snippet of the documents for pages that use no helper, for this server.
function documentedSnippet(server) {
  const blocks = readFileSync(DOCUMENT, 'utf8').matchAll(/```js\n(.*?)```/gs);
  const snippet = [...blocks].map(([, text]) => text).find((text) => text.includes('async function guest()'));
  return `${snippet.replace('https://id.shop.example', server)}\nexport { guest };\n`;
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function cookiesIn(answer) {
  return Object.fromEntries(answer.headers.getSetCookie().map((text) => /^([^=]+)=([^;]*)/.exec(text).slice(1)));
}

function without(headers, names) {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !names.includes(name)));
}
