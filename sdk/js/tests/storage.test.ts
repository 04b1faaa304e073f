import { afterEach, beforeEach, expect, inject, test, vi } from 'vitest';
import { Browser, hold, Locks, offline, working } from './browser.js';

const DAY = 86_400_000;
const KEY = 'guestpass.shop-page';

let browser: Browser;

beforeEach(() => {
    browser = new Browser();
});

afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
});

const open = (options = {}) => browser.open({ clientId: 'shop-page', storage: browser.localStorage, ...options });
const stored = () => JSON.parse(browser.storage.get(KEY)!);
const authorized = () => browser.takeSent().filter((sent) => sent === 'GET authorize').length;

test('a_guest_is_authorized_once_then_refreshed', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const { guest } = open();
    const known = await guest.who();
    const token = await guest.token();
    expect(browser.takeSent()).toEqual(['GET authorize', 'POST token authorization_code']);
    expect(stored()).toEqual({
        r: expect.stringMatching(/^[\w-]{64}$/),
        token,
        ...known,
        ttl: 86_400,
        at: expect.any(Number),
    });
    expect([...browser.storage.keys()]).toEqual([KEY]);
    expect(claims(token!)).toMatchObject(known!);

    // The next load reads it, without a request.
    const reloaded = open();
    expect(await reloaded.guest.who()).toEqual(known);
    expect(await reloaded.guest.token()).toBe(token);
    expect(browser.takeSent()).toEqual([]);

    // At three quarters of its life it is renewed.
    const { r } = stored();
    vi.setSystemTime(Date.now() + 0.74 * DAY);
    expect(await guest.token()).toBe(token);
    vi.setSystemTime(Date.now() + 0.02 * DAY);
    expect(await guest.token()).not.toBe(token);
    expect(browser.takeSent()).toEqual(['POST token refresh_token']);
    expect(stored().r).not.toBe(r);
    // The other tab takes what is stored.
    expect(await reloaded.guest.token()).toBe(stored().token);
    expect(browser.takeSent()).toEqual([]);
});

test('no_request_without_consent_and_nothing_written', async () => {
    let consent = false;
    const { guest } = open({ consent: () => consent });
    expect(await guest.who()).toBeNull();
    expect([...browser.storage]).toEqual([]);
    consent = true;
    const held = hold(browser, ({ path }) => path === 'authorize', 'answer');
    const known = guest.who();
    await held.begun;
    consent = false;
    held.release();
    expect(await known).toBeNull();
    expect(browser.takeSent()).toEqual(['GET authorize']);
});

test('a_clock_that_is_set_renews_once', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const changes: unknown[] = [];
    const { guest } = open();
    guest.onChange((now) => changes.push(now));
    const known = await guest.who();
    for (const days of [-1, 2, -5, 1]) {
        browser.takeSent();
        vi.setSystemTime(Date.now() + days * DAY);
        expect(await guest.token()).toBe(stored().token);
        expect(await guest.token()).toBe(stored().token);
        expect(browser.takeSent()).toEqual(['POST token refresh_token']);
    }
    expect(changes).toEqual([known]);
});

test('c351_a_tab_that_is_killed_leaves_at_most_one_guest', async () => {
    for (const [path, keep] of [
        ['authorize', 'answer'],
        ['token', 'request'],
        ['token', 'answer'],
    ] as const) {
        browser = new Browser();
        const killed = hold(browser, (sent) => sent.path === path, keep);
        void open().guest.who();
        await killed.begun;
        // Its lock goes with it.
        browser.locks = new Locks();
        const next = open();
        const known = await next.guest.who();
        expect(next.guest.state).toBe('known');
        const exchanged = browser.sent.filter(({ path, status }) => path === 'token' && status === 200);
        expect(exchanged.length).toBe(keep === 'answer' && path === 'token' ? 2 : 1);
        browser.takeSent();
        expect(await open().guest.who()).toEqual(known);
        expect(browser.takeSent()).toEqual([]);
    }
    // Before `setItem`.
    browser = new Browser();
    let begin = () => {};
    const begun = new Promise<void>((resolve) => (begin = resolve));
    const setItem = (key: string, value: string) => {
        if (!value.startsWith('{')) return void browser.storage.set(key, value);
        begin();
        return new Promise(() => {});
    };
    void open({ storage: { ...browser.localStorage, setItem } }).guest.who();
    await begun;
    browser.locks = new Locks();
    expect(await open().guest.who()).not.toBeNull();
    expect(authorized()).toBe(2);
});

test('c354_a_refusal_makes_one_new_guest_unless_another_tab_has_gone_on', async () => {
    // It has ended for good.
    const first = await open().guest.who();
    await end(stored().r);
    makeStale();
    browser.takeSent();
    const second = await open().guest.who();
    expect(second!.sub).not.toBe(first!.sub);
    expect(browser.takeSent()).toEqual(['POST token refresh_token', 'GET authorize', 'POST token authorization_code']);
    expect(await open().guest.who()).toEqual(second);

    // Another tab stores newer tokens meanwhile.
    makeStale();
    const before = browser.storage.get(KEY)!;
    await end(stored().r);
    const held = hold(browser, ({ path }) => path === 'token');
    const late = open();
    const answer = late.guest.who();
    await held.begun;
    const otherBrowser = new Browser();
    otherBrowser.storage.set('guestpass.shop-page', before);
    await otherBrowser.open({ clientId: 'shop-page', storage: otherBrowser.localStorage }).guest.who();
    browser.storage.set(KEY, otherBrowser.storage.get(KEY)!);
    browser.takeSent();
    held.release();
    expect((await answer)!.sub).toBe(stored().sub);
    expect(await late.guest.token()).toBe(stored().token);
    expect(browser.takeSent()).toEqual([]);

    // Twice in a row.
    const said = vi.spyOn(console, 'error').mockImplementation(() => {});
    makeStale();
    browser.network = async (sent, send) => {
        if (sent.path !== 'token') return send();
        return new Response('{"error":"invalid_grant"}', { status: 400 });
    };
    const { guest } = open();
    expect(await guest.who()).toBeNull();
    expect(await guest.who()).toBeNull();
    expect(guest.state).toBe('misconfigured');
    expect(said).toHaveBeenCalledTimes(1);
    expect(authorized()).toBe(1);
});

test('only_400_invalid_grant_makes_a_new_guest', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {});
    for (const [status, error] of [
        [400, 'invalid_request'],
        [401, 'invalid_grant'],
        [401, 'invalid_client'],
        [403, 'x'],
    ] as const) {
        browser = new Browser();
        browser.network = working;
        await open().guest.who();
        makeStale();
        const before = browser.storage.get(KEY);
        browser.takeSent();
        browser.network = async () => new Response(JSON.stringify({ error }), { status });
        const { guest } = open();
        await guest.who();
        expect(guest.state).toBe('misconfigured');
        expect(browser.takeSent()).toEqual(['POST token refresh_token']);
        expect(browser.storage.get(KEY)).toBe(before);
    }
});

test('a_lost_answer_is_repeated', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const { guest } = open();
    const known = await guest.who();
    vi.setSystemTime(Date.now() + 0.8 * DAY);
    browser.network = async (_, send) => {
        await send();
        throw new TypeError('no network');
    };
    expect(await guest.who()).toEqual(known);
    expect(guest.state).toBe('waiting');
    browser.network = working;
    vi.setSystemTime(Date.now() + 2000);
    expect(await guest.who()).toEqual(known);
    expect(guest.state).toBe('known');
});

test('a_late_answer_never_replaces_a_newer_one', async () => {
    browser.locks = undefined;
    const known = await open().guest.who();
    makeStale();
    const held = hold(browser, ({ path }) => path === 'token', 'answer');
    const slow = open();
    const answer = slow.guest.who();
    await held.begun;
    const other = open();
    await other.guest.who();
    makeStale();
    const newest = open();
    await newest.guest.who();
    const kept = browser.storage.get(KEY);
    held.release();
    expect(await answer).toEqual(known);
    expect(browser.storage.get(KEY)).toBe(kept);
});

test('six_tabs_at_once_are_one_guest', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    for (const locks of [new Locks(), undefined]) {
        browser = new Browser();
        browser.locks = locks;
        const asked: Promise<{ sub: string } | null>[] = [];
        for (let tab = 0; tab < 6; tab++) {
            asked.push(open().guest.who());
            await new Promise(setImmediate);
        }
        const known = Promise.all(asked);
        if (!locks) {
            // They wait for who was last to write, and then for what has come of it.
            await browser.settled();
            await vi.advanceTimersByTimeAsync(150);
            while (!browser.storage.get(KEY)?.startsWith('{')) await new Promise(setImmediate);
            await vi.advanceTimersByTimeAsync(150);
        }
        expect(new Set((await known).map((answer) => answer!.sub)).size).toBe(1);
        expect(authorized()).toBe(1);
    }
});

test('what_was_removed_meanwhile_is_not_written_again', async () => {
    await open().guest.who();
    makeStale();
    const held = hold(browser, ({ path }) => path === 'token', 'answer');
    const { guest } = open();
    const late = guest.who();
    await held.begun;
    browser.storage.clear();
    held.release();
    expect(await late).toBeNull();
    expect(guest.state).toBe('withdrawn');
    expect([...browser.storage]).toEqual([]);
});

test('withdrawing_revokes_and_may_erase', async () => {
    for (const erase of [false, true]) {
        browser = new Browser();
        let consent = true;
        const { guest } = open({ consent: () => consent });
        const first = await guest.who();
        const { r, token } = stored();
        const changes: unknown[] = [];
        guest.onChange((now) => changes.push(now));
        consent = false;
        await guest.withdraw({ erase });
        expect(guest.state).toBe('withdrawn');
        expect([...browser.storage]).toEqual([]);
        expect(await refreshes(r)).toBe('invalid_grant');
        if (erase) expect(await profile(token)).toBe(401);
        expect(await guest.who()).toBeNull();
        expect(await guest.token()).toBeNull();
        consent = true;
        expect((await guest.who())!.sub).not.toBe(first!.sub);
        expect(changes).toEqual([null, expect.anything()]);
    }
});

test('withdrawing_that_fails_can_be_repeated', async () => {
    const { guest } = open();
    await guest.who();
    const { r } = stored();
    for (const failing of ['token', 'profile', 'revoke']) {
        browser.network = async (sent, send) => (sent.path === failing ? offline(sent, send, null!) : send());
        await expect(guest.withdraw({ erase: true })).rejects.toMatchObject({ code: 'temporarily_unavailable' });
        expect(await guest.who()).toBeNull();
        expect(guest.state).toBe('withdrawn');
    }
    browser.network = working;
    await guest.withdraw({ erase: true });
    expect(await refreshes(r)).toBe('invalid_grant');
    expect([...browser.storage]).toEqual([]);
});

test('a_ticket_comes_from_the_refresh_token_and_is_adopted_where_nobody_is', async () => {
    const app = browser.open({ clientId: 'shop-app', storage: browser.localStorage });
    const known = await app.guest.who();
    const ticket = await app.guest.ticket('shop-page');
    const page = open();
    expect(await page.guest.adopt(ticket)).toEqual(known);
    expect(page.guest.state).toBe('known');
    expect(stored()).toMatchObject(known!);
    expect(await open().guest.who()).toEqual(known);
    const second = await app.guest.ticket('shop-page');
    await expect(page.guest.adopt(second)).rejects.toMatchObject({ code: 'invalid_grant' });
    expect(await page.guest.who()).toEqual(known);
    // It is still good.
    const other = new Browser();
    const elsewhere = other.open({ clientId: 'shop-page', storage: other.localStorage });
    expect(await elsewhere.guest.adopt(second)).toEqual(known);
    await expect(
        new Browser().open({ clientId: 'shop-page', storage: new Browser().localStorage }).guest.adopt(second),
    ).rejects.toMatchObject({ code: 'invalid_grant' });
});

test('what_is_stored_by_others_is_nobody', async () => {
    for (const text of ['', 'null', '17', '"r"', '{}', '[]', '{"r":7', 'x'.repeat(5000)]) {
        browser = new Browser();
        browser.storage.set(KEY, text);
        expect(await open().guest.who()).not.toBeNull();
        expect(stored().r).toHaveLength(64);
    }
});

function makeStale(): void {
    browser.storage.set(KEY, JSON.stringify({ ...stored(), at: Date.now() - 0.8 * DAY }));
}

const claims = (token: string) => JSON.parse(atob(token.split('.')[1]!));

const post = (path: string, parameters: Record<string, string>) =>
    fetch(`${inject('server')}/oauth/${path}`, {
        method: 'POST',
        body: new URLSearchParams({ client_id: 'shop-page', ...parameters }),
    });

const end = (token: string) => post('revoke', { token });

async function refreshes(refresh_token: string): Promise<unknown> {
    const answer = await (await post('token', { grant_type: 'refresh_token', refresh_token })).json();
    return answer.error;
}

async function profile(token: string): Promise<number> {
    const headers = { authorization: `Bearer ${token}` };
    return (await fetch(`${inject('server')}/oauth/profile`, { headers })).status;
}
