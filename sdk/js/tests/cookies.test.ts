import { afterEach, expect, inject, test, vi } from 'vitest';
import { createGuest } from 'guestpass';
import { Browser, hold, Locks, offline, working } from './browser.js';

const DAY = 86_400_000;

afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
});

test('the_first_visit_asks_twice_and_each_load_once', async () => {
    const browser = new Browser();
    const tab = browser.open();
    expect(tab.guest.state).toBe('idle');
    expect(browser.sent).toEqual([]);
    const first = await tab.guest.who();
    expect(first).toEqual({ sub: expect.stringMatching(/^\d+$/), subn: expect.stringMatching(/^[0-9a-f-]{36}$/) });
    expect(tab.guest.state).toBe('known');
    expect(browser.takeSent()).toEqual(['POST session', 'POST session']);
    expect(await tab.guest.who()).toEqual(first);
    expect(browser.sent).toEqual([]);
    for (const again of [browser.open(), browser.open()]) {
        expect(await again.guest.who()).toEqual(first);
        expect(browser.sent[0]!.setCookie).toEqual([]);
        expect(browser.takeSent()).toEqual(['POST session']);
    }
});

test('many_callers_share_one_request', async () => {
    const browser = new Browser();
    const { guest } = browser.open();
    const answers = await Promise.all(Array.from({ length: 20 }, () => guest.who()));
    expect(new Set(answers.map((answer) => answer!.sub)).size).toBe(1);
    expect(browser.takeSent()).toHaveLength(2);
});

test('scripts_see_no_token_unless_the_client_says_so', async () => {
    const browser = new Browser();
    const { guest } = browser.open();
    expect(await guest.token()).toBeNull();
    const spa = browser.open({ clientId: 'shop-spa' });
    const token = await spa.guest.token();
    expect(token).toBe(browser.cookies.get('spa'));
    expect(await spa.guest.token()).toBe(token);
});

test('no_request_without_consent', async () => {
    const browser = new Browser();
    let consent: boolean | Error = false;
    const asked = vi.fn(async () => {
        if (consent instanceof Error) throw consent;
        return consent;
    });
    const { guest } = browser.open({ consent: asked });
    expect(await guest.who()).toBeNull();
    consent = new Error('the consent tool is broken');
    expect(await guest.who()).toBeNull();
    expect(guest.state).toBe('idle');
    await expect(guest.ticket('shop-backend')).rejects.toMatchObject({ code: 'consent_required' });
    await expect(guest.adopt('code.verifier')).rejects.toMatchObject({ code: 'consent_required' });
    expect(browser.sent).toEqual([]);
    consent = true;
    // Between the two requests of a first visit it is asked as well.
    const held = hold(browser, () => true, 'answer');
    const known = guest.who();
    await held.begun;
    consent = false;
    held.release();
    expect(await known).toBeNull();
    expect(browser.takeSent()).toEqual(['POST session']);
});

test('cookies_that_are_off_or_blocked_make_no_guest', async () => {
    const browser = new Browser();
    browser.cookieEnabled = false;
    const off = browser.open();
    expect(await off.guest.who()).toBeNull();
    expect(off.guest.state).toBe('blocked');
    expect(browser.sent).toEqual([]);

    browser.cookieEnabled = true;
    browser.keepsCookies = false;
    for (let load = 0; load < 20; load++) {
        const { guest } = browser.open();
        expect(await guest.who()).toBeNull();
        expect(await guest.token()).toBeNull();
        expect(guest.state).toBe('blocked');
        expect(browser.takeSent()).toEqual(['POST session', 'POST session']);
    }
    expect(browser.made).toEqual([]);
});

test('servers_and_imports_do_nothing', async () => {
    const fetch = vi.fn();
    vi.stubGlobal('fetch', fetch);
    const guest = createGuest({ server: inject('server'), clientId: 'shop-web' });
    expect(await guest.who()).toBeNull();
    expect(await guest.token()).toBeNull();
    expect(guest.state).toBe('idle');
    await expect(guest.withdraw()).rejects.toMatchObject({ code: 'no_browser' });
    await expect(guest.ticket('shop-backend')).rejects.toMatchObject({ code: expect.any(String) });
    await expect(guest.adopt('code.verifier')).rejects.toMatchObject({ code: 'no_browser' });
    expect(fetch).not.toHaveBeenCalled();
});

test('a_prerendered_page_waits_until_it_is_seen', async () => {
    const browser = new Browser();
    const { guest, page } = browser.open();
    page.prerendering = true;
    const who = guest.who();
    await new Promise(setImmediate);
    expect(browser.sent).toEqual([]);
    page.prerendering = false;
    page.dispatchEvent(new Event('prerenderingchange'));
    expect(await who).not.toBeNull();
    expect(browser.takeSent()).toHaveLength(2);
});

test('what_is_misconfigured_is_said_once_and_not_tried_again', async () => {
    const browser = new Browser();
    const said = vi.spyOn(console, 'error').mockImplementation(() => {});
    const { guest, ...tab } = browser.open({ clientId: 'nobody' });
    expect(await guest.who()).toBeNull();
    expect(guest.state).toBe('misconfigured');
    expect(await guest.token()).toBeNull();
    tab.page.dispatchEvent(new Event('visibilitychange'));
    expect(browser.takeSent()).toHaveLength(1);
    expect(said.mock.calls).toEqual([['guestpass:', 'invalid_client']]);
});

test('a_tab_that_others_do_not_let_in_goes_on_without_them', async () => {
    const browser = new Browser();
    const locks = new Locks();
    browser.locks = locks;
    locks.hold();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const tabs = Array.from({ length: 6 }, () => browser.open());
    const answers = Promise.all(tabs.map(({ guest }) => guest.who()));
    await vi.advanceTimersByTimeAsync(990);
    expect(browser.sent).toEqual([]);
    await vi.advanceTimersByTimeAsync(20);
    expect(browser.sent).toHaveLength(6);
    await browser.settled();
    await vi.advanceTimersByTimeAsync(200);
    const known = await answers;
    expect(known).not.toContain(null);
    expect(browser.made.length).toBeLessThanOrEqual(2);
});

test('six_tabs_at_once_are_one_guest', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    for (const locks of [new Locks(), undefined]) {
        const browser = new Browser();
        browser.locks = locks;
        const tabs = Array.from({ length: 6 }, () => browser.open());
        const known = Promise.all(tabs.map(({ guest }) => guest.who()));
        // Without locks they wait, each for what the others have been given.
        await browser.settled();
        await vi.advanceTimersByTimeAsync(150);
        expect(new Set((await known).map((answer) => answer!.sub)).size).toBe(1);
        expect(browser.made).toHaveLength(1);
    }
});

test('a_page_that_comes_back_asks_once', async () => {
    const browser = new Browser();
    vi.useFakeTimers({ toFake: ['Date'] });
    const { guest, ...tab } = browser.open();
    const changes: unknown[] = [];
    guest.onChange((now) => changes.push(now));
    const first = await guest.who();
    browser.takeSent();
    // From the back-forward cache, two days later.
    tab.window.dispatchEvent(Object.assign(new Event('pagehide'), { persisted: true }));
    vi.setSystemTime(Date.now() + 2 * DAY);
    tab.window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
    expect(await guest.who()).toEqual(first);
    expect(browser.takeSent()).toEqual(['POST session']);
    // From another tab, an hour and a day later.
    vi.setSystemTime(Date.now() + DAY / 24);
    tab.page.dispatchEvent(new Event('visibilitychange'));
    expect(await guest.who()).toEqual(first);
    expect(browser.takeSent()).toEqual([]);
    vi.setSystemTime(Date.now() + DAY);
    tab.page.dispatchEvent(new Event('visibilitychange'));
    expect(await guest.who()).toEqual(first);
    expect(browser.takeSent()).toEqual(['POST session']);
    // With a clock that was set back.
    vi.setSystemTime(Date.now() - DAY);
    expect(await guest.who()).toEqual(first);
    expect(await guest.who()).toEqual(first);
    expect(browser.takeSent()).toEqual(['POST session']);
    expect(changes).toEqual([first]);
});

test('a_page_in_the_cache_has_no_channel', async () => {
    const browser = new Browser();
    const [left, right] = [browser.open(), browser.open()];
    const first = await left.guest.who();
    expect(await right.guest.who()).toEqual(first);
    left.leave();
    await right.guest.withdraw();
    expect(left.guest.state).toBe('known');
    left.comeBack();
    const anew = await left.guest.who();
    expect(anew!.sub).not.toBe(first!.sub);
    // And hears again.
    await right.guest.who();
    await left.guest.withdraw();
    expect(right.guest.state).toBe('withdrawn');
});

test('a_guest_changes_in_all_tabs', async () => {
    const browser = new Browser();
    const [left, right] = [browser.open(), browser.open()];
    const changes: unknown[] = [];
    const end = right.guest.onChange((guest) => changes.push(guest?.sub));
    const first = await left.guest.who();
    await right.guest.who();
    browser.cookies.clear();
    left.leave();
    left.comeBack();
    const second = await left.guest.who();
    expect(second!.sub).not.toBe(first!.sub);
    await new Promise(setImmediate);
    expect(await right.guest.who()).toEqual(second);
    end();
    await left.guest.withdraw();
    expect(changes).toEqual([first!.sub, second!.sub]);
});

test('a_ticket_takes_the_guest_to_another_client', async () => {
    const browser = new Browser();
    const { guest } = browser.open();
    const known = await guest.who();
    const ticket = await guest.ticket('shop-backend');
    expect(ticket).toMatch(/^[\w-]{64}\.[\w-]{43}$/);
    const [code, code_verifier] = ticket.split('.');
    const answer = await fetch(`${inject('server')}/oauth/token`, {
        method: 'POST',
        headers: { 'x-api-key': inject('apiKey') },
        body: new URLSearchParams({
            grant_type: 'authorization_code',
            client_id: 'shop-backend',
            redirect_uri: 'urn:ietf:wg:oauth:2.0:oob:auto',
            code: code!,
            code_verifier: code_verifier!,
        }),
    });
    const { access_token } = await answer.json();
    expect(JSON.parse(atob(access_token.split('.')[1]))).toMatchObject(known!);
    await expect(guest.ticket('shop-app')).rejects.toMatchObject({ code: 'unauthorized_client' });
    expect(guest.state).toBe('known');
});

test('a_ticket_is_adopted_once_and_never_over_another_guest', async () => {
    const app = appGuest();
    const known = await app.who();
    const ticket = await app.ticket('shop-web');
    const browser = new Browser();
    const { guest } = browser.open();
    const adopted = guest.adopt(ticket);
    // Who asks meanwhile hears of it.
    expect(await guest.who()).toEqual(known);
    expect(await adopted).toEqual(known);
    expect(browser.takeSent()).toEqual(['POST session']);
    expect(await browser.open().guest.who()).toEqual(known);

    const other = new Browser().open();
    await expect(other.guest.adopt(ticket)).rejects.toMatchObject({ code: 'invalid_grant' });
    expect(other.guest.state).toBe('idle');
    await expect(other.guest.adopt('')).rejects.toMatchObject({ code: expect.any(String) });
    const second = await other.guest.who();
    expect(second!.sub).not.toBe(known!.sub);
    await expect(other.guest.adopt(await app.ticket('shop-web'))).rejects.toMatchObject({ code: 'invalid_grant' });
    expect(other.guest.state).toBe('known');
    expect(await other.guest.who()).toEqual(second);
});

test('withdrawing_ends_the_guest_and_may_erase_it', async () => {
    for (const erase of [false, true]) {
        const browser = new Browser();
        const { guest } = browser.open({ consent: () => consent });
        let consent = true;
        const first = await guest.who();
        consent = false;
        await guest.withdraw({ erase });
        expect(guest.state).toBe('withdrawn');
        expect([...browser.cookies.keys()]).toEqual([]);
        expect(browser.sent.at(-1)!.parameters).toEqual({ client_id: 'shop-web', ...(erase && { erase: 'yes' }) });
        expect(await guest.who()).toBeNull();
        consent = true;
        const second = await guest.who();
        expect(second!.sub).not.toBe(first!.sub);
    }
});

test('withdrawing_that_fails_leaves_nobody_until_it_succeeds', async () => {
    const browser = new Browser();
    const { guest } = browser.open();
    const first = await guest.who();
    browser.network = offline;
    await expect(guest.withdraw()).rejects.toMatchObject({ code: 'temporarily_unavailable' });
    browser.network = working;
    browser.takeSent();
    expect(await guest.who()).toBeNull();
    expect(browser.sent).toEqual([]);
    await guest.withdraw();
    const second = await guest.who();
    expect(second!.sub).not.toBe(first!.sub);
});

function appGuest() {
    const items = new Map<string, string>();
    const storage = {
        getItem: (key: string) => items.get(key) ?? null,
        setItem: (key: string, value: string) => void items.set(key, value),
        removeItem: (key: string) => void items.delete(key),
    };
    vi.unstubAllGlobals();
    return createGuest({ server: inject('server'), clientId: 'shop-app', storage });
}
