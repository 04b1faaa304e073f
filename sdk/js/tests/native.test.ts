import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { afterEach, beforeEach, expect, inject, test, vi } from 'vitest';
import { createGuest, secureStore, sha256 } from '../src/index.js';
import * as mapp from '../mapp/index.js';

const DAY = 86_400_000;
const DOMAIN = 'shop.example';
const plainFetch = globalThis.fetch;
// Node loads its own when it is first needed, and needs more of the Web than an app has.
new Response();

beforeEach(() => {
    // As in an app: there is no page, and of the platform of the Web only a part.
    vi.stubGlobal('btoa', undefined);
    vi.stubGlobal('atob', undefined);
    vi.stubGlobal('TextEncoder', undefined);
    vi.stubGlobal('crypto', undefined);
    vi.stubGlobal('navigator', { product: 'ReactNative' });
    vi.stubGlobal('BroadcastChannel', undefined);
    vi.stubGlobal('addEventListener', undefined);
    vi.stubGlobal(
        'URLSearchParams',
        class {
            set() {
                throw new Error('URLSearchParams.set is not implemented');
            }
        },
    );
});

afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
});

/** Is expo-secure-store, as far as it matters. */
function keychain() {
    const items = new Map<string, string>();
    const checked = (key: string) => {
        if (!/^[\w.-]+$/.test(key)) throw new Error(`Invalid key ${key}`);
        return key;
    };
    return {
        items,
        getItemAsync: async (key: string) => items.get(checked(key)) ?? null,
        async setItemAsync(key: string, value: string) {
            if (new Blob([value]).size > 2048) throw new Error('more than 2048 bytes');
            items.set(checked(key), value);
        },
        async deleteItemAsync(key: string) {
            items.delete(checked(key));
        },
    };
}

const random = async (count: number) => new Uint8Array(randomBytes(count));
const digest = async (data: Uint8Array) => Uint8Array.from(createHash('sha256').update(data).digest()).buffer;

test('c358_an_app_keeps_its_guest_in_the_keychain', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    for (const hash of [digest, sha256]) {
        const store = keychain();
        const sent: string[] = [];
        let lengthen = false;
        const fetch = async (url: string | URL | Request, init?: RequestInit) => {
            sent.push(`${url}`.replace(/.*\/oauth\/|\?.*/g, ''));
            const response = await plainFetch(url, init);
            if (!lengthen) return response;
            const answer = await response.json();
            return Response.json({ ...answer, access_token: answer.access_token + 'x'.repeat(1500) });
        };
        const start = () =>
            createGuest({
                server: inject('serverOfLongTokens'),
                clientId: 'shop-app',
                storage: secureStore(store),
                sha256: hash,
                random,
                fetch,
            });
        const first = start();
        const known = await first.who();
        expect(first.state).toBe('known');
        expect(sent.splice(0)).toEqual(['authorize', 'token']);
        const token = await first.token();
        expect(store.items.size).toBe(1);
        expect(JSON.parse(store.items.get('guestpass.shop-app')!)).toMatchObject({ ...known, token });

        // The next start of the app, and the next day.
        const second = start();
        expect(await second.token()).toBe(token);
        expect(sent).toEqual([]);
        vi.setSystemTime(Date.now() + DAY);
        expect(await second.who()).toEqual(known);
        expect(await second.token()).not.toBe(token);
        expect(sent.splice(0)).toEqual(['token']);

        // A token that is too long is kept in memory alone.
        lengthen = true;
        vi.setSystemTime(Date.now() + DAY);
        const long = await second.token();
        expect(long!.length).toBeGreaterThan(2048);
        expect(await second.token()).toBe(long);
        expect(sent.splice(0)).toEqual(['token']);
        const stored = JSON.parse(store.items.get('guestpass.shop-app')!);
        expect(stored).toEqual({ r: expect.any(String), ...known, ttl: 86_400, at: expect.any(Number) });
        lengthen = false;
        const third = start();
        expect(await third.who()).toEqual(known);
        expect(await third.token()).not.toBeNull();
        expect(sent.splice(0)).toEqual(['token']);

        await third.withdraw({ erase: true });
        expect(store.items.size).toBe(0);
    }

    await dropInUnderTheSdk();
});

// The SDK's own hook, with the drop-in in place of its `services/auth`.
async function dropInUnderTheSdk(): Promise<void> {
    vi.unstubAllGlobals();
    vi.stubGlobal('fetch', (url: string, init: RequestInit) =>
        plainFetch(url.replace(`https://${DOMAIN}/api/`, `${inject('server')}/api/`), init),
    );
    vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true);
    const { useAuth, decode } = sdk();
    const React = createRequire(import.meta.url)('react');
    const { act, create } = createRequire(import.meta.url)('react-test-renderer');
    let credentials: mapp.AuthCredentials | null = null;
    const adapter = {
        getCredentials: async () => credentials,
        setCredentials: async (_: string, __: string, text: string) => {
            credentials = JSON.parse(text);
        },
    };
    const start = async () => {
        let state: Record<string, unknown> = {};
        const App = () => {
            state = useAuth('shop-app', DOMAIN, adapter);
            return null;
        };
        let app: { unmount(): void };
        await act(async () => {
            app = create(React.createElement(App));
        });
        while (state.isAuthenticating || !(state.isAuthenticated || state.error)) {
            await act(() => new Promise((resolve) => setTimeout(resolve, 5)));
        }
        await act(async () => app.unmount());
        return state;
    };

    const first = await start();
    expect(first).toMatchObject({ isAuthenticated: true, error: null, networkUserId: decode(credentials!).subn });
    expect(Object.keys(credentials!).sort()).toEqual(['access_token', 'expires_in', 'refresh_token', 'token_type']);

    // The next day the guest is the same.
    vi.setSystemTime(Date.now() + 1.1 * DAY);
    const before = credentials!;
    const second = await start();
    expect(second.networkUserId).toBe(first.networkUserId);
    expect(credentials).not.toEqual(before);

    // After it was erased, another one.
    const { access_token } = credentials!;
    const erased = await plainFetch(`${inject('server')}/oauth/profile`, {
        method: 'DELETE',
        headers: { authorization: `Bearer ${access_token}` },
    });
    expect(erased.status).toBe(204);
    vi.setSystemTime(Date.now() + 2.2 * DAY);
    const third = await start();
    expect(third).toMatchObject({ isAuthenticated: true, error: null, networkUserId: expect.any(String) });
    expect(third.networkUserId).not.toBe(first.networkUserId);
}

function sdk() {
    const require = createRequire(import.meta.url);
    const dist = new URL('../node_modules/mapp-fashion-react-native-sdk/dist/', import.meta.url).pathname;
    const path = `${dist}services/auth.js`;
    require.cache[path] = Object.assign(new (require('node:module'))(path), { exports: mapp, loaded: true });
    const { useAuth } = require(`${dist}hooks/useAuth.js`);
    const decode = ({ access_token }: mapp.AuthCredentials) => JSON.parse(atob(access_token.split('.')[1]!));
    return { useAuth, decode };
}

test('the_drop_in_keeps_the_guest_in_trouble_and_is_short', async () => {
    vi.unstubAllGlobals();
    const fetch = vi.fn(async () => new Response('{"error":"temporarily_unavailable"}', { status: 503 }));
    vi.stubGlobal('fetch', fetch);
    const credentials = { access_token: 'a', refresh_token: 'r', token_type: 'Bearer', expires_in: 1 };
    await expect(mapp.refreshToken(credentials, 'shop-app', DOMAIN)).rejects.toThrow('temporarily_unavailable');
    expect(fetch).toHaveBeenCalledTimes(1);
    expect(fetch.mock.calls[0]).toMatchObject([`https://${DOMAIN}/api/oauth/token`, { method: 'POST' }]);
    expect(readFileSync('mapp/index.ts', 'utf8').trimEnd().split('\n').length).toBeLessThanOrEqual(40);
});
