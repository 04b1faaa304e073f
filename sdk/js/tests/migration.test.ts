import { readFileSync } from 'node:fs';
import { afterEach, expect, inject, test, vi } from 'vitest';
import { Browser, offline, working, type Network } from './browser.js';

afterEach(() => {
    vi.restoreAllMocks();
});

/** Is the page of the documents that keeps its guest in `localStorage`. Returns its `guest`. */
async function pageOfTheDocuments(browser: Browser): Promise<() => Promise<{ access_token: string }>> {
    const documents = ['README.md', 'docs/browser.md'].map((path) => readFileSync(`../../${path}`, 'utf8'));
    const blocks = documents
        .join('\n')
        .split('```js\n')
        .map((text) => text.split('\n```')[0]!);
    const snippet = blocks.find((text) => text.includes('function newGuest'))!;
    browser.enter(new EventTarget(), new EventTarget());
    vi.stubGlobal('localStorage', browser.localStorage);
    vi.stubGlobal('fetch', browser.fetch);
    const module = `${snippet.replace('https://id.shop.example', inject('server'))}\nexport { guest };\n// ${Math.random()}`;
    const { guest } = await import(/* @vite-ignore */ `data:text/javascript,${encodeURIComponent(module)}`);
    return guest;
}

const subOf = ({ access_token }: { access_token: string }) => JSON.parse(atob(access_token.split('.')[1]!)).sub;

const migration = (browser: Browser) => ({
    get: vi.fn(async () => JSON.parse(browser.storage.get('guest') ?? 'null')?.refresh_token ?? null),
    remove: vi.fn(() => browser.storage.delete('guest')),
});

/** Takes the cookies from answers that fit. */
const stripping =
    (fits: (refresh_token: string | undefined) => boolean): Network =>
    async ({ parameters }, send) => {
        const response = await send();
        if (response.status !== 200 || !fits(parameters.refresh_token)) return response;
        return new Response(await response.text(), { status: response.status });
    };

test('c357_a_guest_moves_from_the_storage_into_cookies', async () => {
    const browser = new Browser();
    const old = await pageOfTheDocuments(browser);
    const sub = subOf(await old());
    browser.takeSent();

    // Cookies are blocked for twenty loads: nothing is touched.
    browser.keepsCookies = false;
    const before = browser.storage.get('guest');
    for (let load = 0; load < 20; load++) {
        const migrate = migration(browser);
        const { guest } = browser.open({ migrate });
        expect(await guest.who()).toBeNull();
        expect(guest.state).toBe('blocked');
        expect(migrate.remove).not.toHaveBeenCalled();
    }
    expect(browser.storage.get('guest')).toBe(before);
    expect(subOf(await old())).toBe(sub);

    // The cookies of the answer that moves it are lost once.
    browser.keepsCookies = true;
    browser.network = stripping((refresh_token) => !!refresh_token);
    const lost = migration(browser);
    const first = browser.open({ migrate: lost });
    expect((await first.guest.who())!.sub).toBe(sub);
    expect(lost.remove).not.toHaveBeenCalled();
    browser.network = working;

    // It moves, and the old token goes only after the cookie alone has proved it.
    browser.takeSent();
    const migrate = migration(browser);
    migrate.remove.mockImplementation(() => {
        expect(browser.sent.at(-1)).toMatchObject({ parameters: { client_id: 'shop-web' }, answer: { sub } });
        return browser.storage.delete('guest');
    });
    const second = browser.open({ migrate });
    expect((await second.guest.who())!.sub).toBe(sub);
    expect(migrate.remove).toHaveBeenCalledTimes(1);
    expect(browser.storage.has('guest')).toBe(false);
    expect(browser.sent.map(({ parameters }) => 'refresh_token' in parameters)).toEqual([true, true, false]);

    // From then on nothing is sent along.
    browser.takeSent();
    expect((await browser.open({ migrate: migration(browser) }).guest.who())!.sub).toBe(sub);
    expect(browser.sent.map(({ parameters }) => 'refresh_token' in parameters)).toEqual([false]);
    expect(browser.made).toEqual([]);
});

test('a_proof_that_does_not_come_leaves_the_old_token', async () => {
    const browser = new Browser();
    const sub = subOf(await (await pageOfTheDocuments(browser))());
    let posts = 0;
    browser.network = (sent, send, signal) => (++posts === 3 ? offline(sent, send, signal) : send());
    const migrate = migration(browser);
    const { guest } = browser.open({ migrate });
    expect((await guest.who())!.sub).toBe(sub);
    expect(guest.state).toBe('known');
    expect(migrate.remove).not.toHaveBeenCalled();
});

test('a_storage_that_can_not_be_read_stops_no_new_guest', async () => {
    const browser = new Browser();
    const denied = () => {
        throw new Error('denied');
    };
    for (const get of [denied, async () => denied(), () => null]) {
        browser.cookies.clear();
        const { guest } = browser.open({ migrate: { get, remove: denied } });
        expect(await guest.who()).not.toBeNull();
    }
});

test('an_old_token_that_has_ended_goes_as_well', async () => {
    const browser = new Browser();
    browser.storage.set('guest', '{"refresh_token":"dead"}');
    const migrate = migration(browser);
    const { guest } = browser.open({ migrate });
    expect(await guest.who()).not.toBeNull();
    expect(migrate.remove).toHaveBeenCalledTimes(1);
    expect(browser.made).toHaveLength(1);
});
