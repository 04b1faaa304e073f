import { afterEach, expect, test, vi } from 'vitest';
import { answering, Browser, hold, Locks, offline, silent, working, type Network, type Tab } from './browser.js';

const DAY = 86_400_000;

afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
});

/** Opens pages in either mode, whose access token they are told. */
const modes: [string, (browser: Browser, options?: object) => Tab][] = [
    ['cookies', (browser, options) => browser.open({ clientId: 'shop-spa', ...options })],
    [
        'storage',
        (browser, options) => browser.open({ clientId: 'shop-page', storage: browser.localStorage, ...options }),
    ],
];

test('c352_a_guest_that_can_not_be_kept_is_not_made', async () => {
    const throwing = () => {
        throw new Error('denied');
    };
    const kept = new Map<string, string>();
    const working = {
        getItem: (key: string) => kept.get(key) ?? null,
        setItem: (key: string, value: string) => void kept.set(key, value),
        removeItem: (key: string) => void kept.delete(key),
    };
    const broken = {
        'throws on read': { ...working, getItem: throwing },
        'throws on write': { ...working, setItem: throwing },
        'rejects on read': { ...working, getItem: async () => throwing() },
        'rejects on write': { ...working, setItem: async () => throwing() },
        'returns nothing': { ...working, getItem: () => null },
        'returns undefined': { ...working, getItem: () => undefined },
        'is full': {
            ...working,
            setItem: (key: string, value: string) => (value.length > 500 ? throwing() : working.setItem(key, value)),
        },
    };
    const said = vi.spyOn(console, 'error').mockImplementation(() => {});
    for (const [name, storage] of Object.entries(broken)) {
        kept.clear();
        for (let load = 0; load < 20; load++) {
            const browser = new Browser();
            const { guest } = browser.open({ clientId: 'shop-page', storage });
            expect(await guest.who(), name).toBeNull();
            expect(await guest.token(), name).toBeNull();
            expect(guest.state, name).toBe('blocked');
            expect(browser.sent, name).toEqual([]);
        }
    }
    said.mockClear();

    // Cookies are off, or don't come back.
    for (const [, open] of modes) {
        const browser = new Browser();
        browser.cookieEnabled = false;
        const { guest } = open(browser);
        expect(await guest.who()).toBeNull();
        expect(guest.state).toBe('blocked');
        expect(browser.sent).toEqual([]);
    }
    const strict = new Browser();
    strict.keepsCookies = false;
    for (let load = 0; load < 20; load++) {
        const { guest } = strict.open();
        expect(await guest.who()).toBeNull();
        expect(guest.state).toBe('blocked');
    }
    expect(strict.made).toEqual([]);
    expect(said).not.toHaveBeenCalled();

    // A private window is one guest until it is closed.
    for (const [, open] of modes) {
        const window = new Browser();
        const known = await open(window).guest.who();
        expect(await open(window).guest.who()).toEqual(known);
        expect((await open(new Browser()).guest.who())!.sub).not.toBe(known!.sub);
    }
});

const portal = answering(200, '<html>Welcome to our hotel</html>', { 'content-type': 'text/html' });
const faults: [string, Network, number][] = [
    ['503', answering(503, '{"error":"temporarily_unavailable"}', { 'retry-after': '7' }), 7000],
    ['503 of a proxy', answering(503, '<html>', { 'retry-after': '7' }), 7000],
    ['429', answering(429, '{"error":"slow_down"}'), 1000],
    ['429 with Retry-After', answering(429, '{"error":"slow_down"}', { 'retry-after': '7' }), 7000],
    ['408', answering(408, '{"error":"invalid_request"}'), 1000],
    ['500', answering(500, '{"error":"invalid_grant"}'), 1000],
    ['offline', offline, 1000],
    ['captive portal', portal, 1000],
    ['another JSON', answering(200, '{"status":"ok"}'), 1000],
    ['null', answering(200, 'null'), 1000],
    ['a 400 in HTML', answering(400, '<html>invalid_grant</html>'), 1000],
    ['a 400 without error', answering(400, '{"message":"invalid_grant"}'), 1000],
];

test('c353_trouble_keeps_the_guest_and_the_token', async () => {
    for (const [mode, open] of modes) {
        for (const [name, network, pause] of [...faults, ['silence', silent, 1000] as const]) {
            const hint = `${name}, ${mode}`;
            const browser = new Browser();
            vi.useFakeTimers({ toFake: ['Date'] });
            const { guest, page } = open(browser);
            const known = await guest.who();
            const token = await guest.token();
            expect(token, hint).not.toBeNull();

            // Stale, but not expired.
            vi.setSystemTime(Date.now() + 0.8 * DAY);
            const authorized = browser.sent.length;
            browser.network = network;
            if (network === silent) {
                vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'], now: Date.now() });
                const answer = guest.token();
                await vi.advanceTimersByTimeAsync(9900);
                expect(guest.state, hint).toBe('known');
                await vi.advanceTimersByTimeAsync(200);
                expect(await answer, hint).toBe(token);
            }
            expect(await guest.token(), hint).toBe(token);
            expect(await guest.who(), hint).toEqual(known);
            expect(guest.state, hint).toBe('waiting');
            expect(browser.sent.length, hint).toBe(authorized + 1);

            // Nothing is tried again before the time, whoever asks.
            vi.setSystemTime(Date.now() + pause - 200);
            page.dispatchEvent(new Event('visibilitychange'));
            expect(await guest.token(), hint).toBe(token);
            expect(browser.sent.length, hint).toBe(authorized + 1);

            // Then it is, once.
            browser.network = working;
            vi.useRealTimers();
            vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 0.8 * DAY + pause * 1.3 + 11_000 });
            expect(await guest.who(), hint).toEqual(known);
            expect(guest.state, hint).toBe('known');
            expect(browser.sent.length, hint).toBe(authorized + 2);
            expect(browser.sent.filter(({ path }) => path === 'authorize').length, hint).toBeLessThanOrEqual(1);
            vi.useRealTimers();
        }
    }
});

test('tries_are_ever_further_apart', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    for (const random of [0, 0.999]) {
        vi.spyOn(Math, 'random').mockReturnValue(random);
        const browser = new Browser();
        browser.network = offline;
        const { guest } = browser.open();
        const pauses: number[] = [];
        let last = Date.now();
        await guest.who();
        while (pauses.length < 11) {
            const { length } = browser.sent;
            vi.setSystemTime(Date.now() + 500);
            await guest.who();
            if (browser.sent.length === length) continue;
            pauses.push((Date.now() - last) / 1000);
            last = Date.now();
        }
        pauses.forEach((pause, at) => {
            const least = Math.min(300, 2 ** at);
            expect(pause).toBeGreaterThanOrEqual(least);
            expect(pause).toBeLessThanOrEqual(least * 1.25 + 0.5);
        });
    }
});

test('a_token_that_has_expired_is_not_returned', async () => {
    for (const [, open] of modes) {
        vi.useFakeTimers({ toFake: ['Date'] });
        const browser = new Browser();
        const { guest } = open(browser);
        const known = await guest.who();
        browser.network = offline;
        vi.setSystemTime(Date.now() + 1.1 * DAY);
        expect(await guest.token()).toBeNull();
        expect(await guest.who()).toEqual(known);
        expect(guest.state).toBe('waiting');
        vi.useRealTimers();
    }
});

test('c356_withdrawing_beats_requests_in_flight', async () => {
    for (const [mode, open] of modes) {
        for (const keep of ['request', 'answer'] as const) {
            for (const consents of [false, true]) {
                for (const locks of [new Locks(), undefined]) {
                    const hint = `${mode}, ${keep} held, consent ${consents}, ${locks ? 'locks' : 'no locks'}`;
                    vi.useFakeTimers({ toFake: ['Date'] });
                    const browser = new Browser();
                    browser.locks = locks;
                    let consent = true;
                    const tabs = [0, 1, 2].map(() => open(browser, { consent: () => consent }));
                    const [first, second, third] = tabs.map(({ guest }) => guest) as [
                        Tab['guest'],
                        Tab['guest'],
                        Tab['guest'],
                    ];
                    const old: unknown[] = [];
                    for (const { guest } of tabs) old.push((await guest.who())!.sub);
                    vi.setSystemTime(Date.now() + 0.8 * DAY);
                    const isRenewal = ({ method }: { method: string }) => method === 'POST';
                    const one = hold(browser, isRenewal, keep);
                    const late = [second.who()];
                    await one.begun;
                    const two = locks ? one : hold(browser, isRenewal, keep);
                    late.push(third.who());
                    await two.begun;
                    consent = consents;
                    const withdrawn = first.withdraw();
                    expect(await first.token(), hint).toBeNull();
                    await new Promise((resolve) => setTimeout(resolve, 20));
                    expect(second.state, hint).toBe('withdrawn');
                    one.release();
                    two.release();
                    await withdrawn;
                    for (const answer of await Promise.all(late)) {
                        if (answer) expect(old, hint).not.toContain(answer.sub);
                    }
                    const now = await Promise.all(tabs.map(({ guest }) => guest.who()));
                    if (consents) {
                        for (const answer of now) expect(old, hint).not.toContain(answer!.sub);
                    } else {
                        expect(now, hint).toEqual([null, null, null]);
                        expect([...browser.storage], hint).toEqual([]);
                        // What came late is ended as well: no browser that has it would be known again.
                        consent = true;
                        for (const answer of [await open(browser).guest.who()])
                            expect(old, hint).not.toContain(answer!.sub);
                    }
                    vi.useRealTimers();
                }
            }
        }
    }
});

test('a_guest_that_comes_after_a_withdrawal_is_ended', async () => {
    for (const [mode, open] of modes) {
        const browser = new Browser();
        browser.locks = undefined;
        let consent = true;
        const { guest } = open(browser, { consent: () => consent });
        const held = hold(
            browser,
            ({ parameters }) => parameters.grant_type !== undefined || browser.cookies.size > 0,
            'answer',
        );
        const late = guest.who();
        await held.begun;
        consent = false;
        await guest.withdraw();
        held.release();
        expect(await late, mode).toBeNull();
        expect(guest.state, mode).toBe('withdrawn');
        while (browser.sent.some(({ isDone }) => !isDone)) await new Promise(setImmediate);
        await browser.settled();
        expect([...browser.cookies, ...browser.storage], mode).toEqual([]);
        const made = browser.sent.find(({ answer }) => answer?.new || answer?.refresh_token)!;
        if (mode === 'storage') {
            expect(browser.sent.at(-1), mode).toMatchObject({
                path: 'revoke',
                parameters: { token: made.answer!.refresh_token },
                status: 200,
            });
        } else {
            expect(browser.sent.at(-1), mode).toMatchObject({ method: 'DELETE', status: 204 });
        }
    }
});

test('listeners_that_throw_stop_nothing', async () => {
    const browser = new Browser();
    const { guest } = browser.open();
    const thrown: unknown[] = [];
    const hear = (reason: unknown) => thrown.push(reason);
    const others = process.listeners('unhandledRejection');
    process.removeAllListeners('unhandledRejection');
    process.on('unhandledRejection', hear);
    try {
        guest.onChange(() => {
            throw new Error('a listener');
        });
        const heard = vi.fn();
        guest.onChange(heard);
        const known = await guest.who();
        await new Promise((resolve) => setTimeout(resolve, 10));
        expect(heard).toHaveBeenCalledExactlyOnceWith(known);
        expect(thrown).toEqual([new Error('a listener')]);
    } finally {
        process.removeAllListeners('unhandledRejection');
        for (const other of others) process.on('unhandledRejection', other);
    }
});
