import { inject, vi } from 'vitest';
import { createGuest } from 'guestpass';
import type { Guest, Options } from '../src/guest.js';
import { ORIGIN } from './server.js';

const plainFetch = globalThis.fetch;

export interface Sent {
    method: string;
    /** Below `/oauth/`. */
    path: string;
    parameters: Record<string, string>;
    /** What was answered, unless nothing was. */
    status?: number;
    answer?: Record<string, unknown>;
    setCookie?: string[];
    /** Whether the page has the answer. */
    isDone?: boolean;
}

/** Passes a request on, or doesn't, and shows the page an answer, or none. */
export type Network = (sent: Sent, send: () => Promise<Response>, signal: AbortSignal) => Promise<Response>;

export const working: Network = (_, send) => send();

/** Is a browser as far as a guest needs one: cookies, a storage, locks and channels, which all its tabs share. */
export class Browser {
    readonly cookies = new Map<string, string>();
    readonly storage = new Map<string, string>();
    readonly sent: Sent[] = [];
    keepsCookies = true;
    network: Network = working;
    locks: unknown = new Locks();
    cookieEnabled = true;
    readonly #channels = new Set<Channel>();

    constructor(readonly server = inject('server')) {}

    /** Is `localStorage`. */
    get localStorage() {
        return {
            getItem: (key: string) => this.storage.get(key) ?? null,
            setItem: (key: string, value: string) => void this.storage.set(key, value),
            removeItem: (key: string) => void this.storage.delete(key),
        };
    }

    /** Opens a page that makes a guest of itself. */
    open(options: Partial<Options> = {}): Tab {
        const page = Object.assign(new EventTarget(), { hidden: false, prerendering: false });
        const window = new EventTarget();
        this.enter(page, window);
        const guest = createGuest({ server: this.server, clientId: 'shop-web', fetch: this.fetch, ...options });
        return new Tab(guest, page, window);
    }

    /** Makes the globals those of a page. */
    enter(page: EventTarget, window: EventTarget): void {
        const browser = this;
        vi.stubGlobal('document', page);
        vi.stubGlobal('navigator', {
            get locks() {
                return browser.locks;
            },
            get cookieEnabled() {
                return browser.cookieEnabled;
            },
        });
        vi.stubGlobal('addEventListener', window.addEventListener.bind(window));
        const channels = this.#channels;
        vi.stubGlobal(
            'BroadcastChannel',
            class extends Channel {
                constructor(name: string) {
                    super(name, channels);
                }
            },
        );
    }

    /** Sends as a page's `fetch` does, preflights included, and shows it only what is meant for it. */
    readonly fetch = async (input: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
        const url = new URL(input as string, ORIGIN);
        const { method = 'GET', credentials, signal } = init;
        const isPost = method === 'POST';
        const form = new URLSearchParams(isPost ? `${init.body}` : url.search);
        const path = url.pathname.replace(/^.*\/oauth\//, '');
        const sent: Sent = { method, path, parameters: Object.fromEntries(form) };
        this.sent.push(sent);
        const send = async (): Promise<Response> => {
            const headers = new Headers(init.headers);
            if (method === 'DELETE' || headers.has('authorization'))
                await this.#preflight(url, method, headers, credentials);
            headers.set('origin', ORIGIN);
            if (credentials === 'include' && this.cookies.size > 0) {
                headers.set('cookie', [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; '));
            }
            const response = await plainFetch(url, {
                method,
                headers,
                body: isPost ? (init.body as BodyInit) : null,
                signal: signal ?? null,
            });
            sent.status = response.status;
            sent.setCookie = response.headers.getSetCookie();
            sent.answer = await response
                .clone()
                .json()
                .catch(() => undefined);
            return response;
        };
        const response = await this.network(sent, send, signal!);
        if (credentials === 'include' && this.keepsCookies) this.#store(response);
        sent.isDone = true;
        return response;
    };

    async #preflight(url: URL, method: string, headers: Headers, credentials?: RequestCredentials): Promise<void> {
        const names = [...headers.keys()].join(',');
        const answer = await plainFetch(url, {
            method: 'OPTIONS',
            headers: {
                origin: ORIGIN,
                'access-control-request-method': method,
                ...(names && { 'access-control-request-headers': names }),
            },
        });
        const allowed = answer.headers.get('access-control-allow-methods') ?? '';
        const withCredentials = answer.headers.get('access-control-allow-credentials') === 'true';
        if (!answer.ok || !allowed.includes(method) || (credentials === 'include' && !withCredentials)) {
            throw new TypeError('the preflight has failed');
        }
    }

    #store(response: Response): void {
        for (const cookie of response.headers.getSetCookie()) {
            const [, name, value] = /^([^=]*)=([^;]*)/.exec(cookie)!;
            if (/max-age=0/i.test(cookie)) this.cookies.delete(name!);
            else this.cookies.set(name!, value!);
        }
    }

    /** Returns the guests that were made: the `sub` of each. */
    get made(): unknown[] {
        return [...new Set(this.sent.filter(({ answer }) => answer?.new).map(({ answer }) => answer!.sub))];
    }

    /** Waits until nothing is on its way any more, while timers stand still. */
    async settled(): Promise<void> {
        for (let quiet = 0; quiet < 20; quiet++) {
            await new Promise(setImmediate);
            if (this.sent.some(({ isDone }) => !isDone)) quiet = 0;
        }
    }

    /** Returns what was sent, in short, and forgets it. */
    takeSent(): string[] {
        return this.sent
            .splice(0)
            .map(
                ({ method, path, parameters }) =>
                    `${method} ${path}${parameters.grant_type ? ` ${parameters.grant_type}` : ''}`,
            );
    }
}

export class Tab {
    constructor(
        readonly guest: Guest,
        readonly page: EventTarget & { hidden: boolean; prerendering: boolean },
        readonly window: EventTarget,
    ) {}

    show(): void {
        this.page.hidden = false;
        this.page.dispatchEvent(new Event('visibilitychange'));
    }

    /** Goes into the back-forward cache. */
    leave(): void {
        this.window.dispatchEvent(Object.assign(new Event('pagehide'), { persisted: true }));
    }

    comeBack(): void {
        this.window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
    }
}

type Work = (lock: object) => unknown;

/** Is Web Locks, as far as exclusive ones go. */
export class Locks {
    #last: Promise<unknown> = Promise.resolve();

    request(name: string, ...rest: [Work] | [{ signal?: AbortSignal }, Work]): Promise<unknown> {
        const work = rest.at(-1) as Work;
        const { signal } = rest.length > 1 ? (rest[0] as { signal?: AbortSignal }) : {};
        const aborted = new Promise((_, reject) => {
            signal?.addEventListener('abort', () => reject(signal.reason));
        });
        aborted.catch(() => {});
        const done = this.#last.then(() => (signal?.aborted ? undefined : work({ name })));
        this.#last = done.catch(() => {});
        return Promise.race([done, aborted]);
    }

    /** Takes the lock and keeps it. */
    hold(): () => void {
        let release = () => {};
        const held = new Promise<void>((resolve) => (release = resolve));
        this.#last = this.#last.then(() => held);
        return release;
    }
}

class Channel {
    onmessage: ((event: { data: unknown }) => void) | null = null;

    constructor(
        readonly name: string,
        readonly channels: Set<Channel>,
    ) {
        channels.add(this);
    }

    postMessage(data: unknown): void {
        for (const channel of this.channels) {
            if (channel === this || channel.name !== this.name) continue;
            queueMicrotask(() => this.channels.has(channel) && channel.onmessage?.({ data }));
        }
    }

    close(): void {
        this.channels.delete(this);
    }
}

/** Answers like a server, or what stands before it. */
export const answering =
    (status: number, body: string, headers: Record<string, string> = {}): Network =>
    async (sent) => {
        sent.status = status;
        return new Response(body, { status, headers });
    };

export const offline: Network = async () => {
    throw new TypeError('no network');
};

/** Never answers, and ends when the page gives up. */
export const silent: Network = (_, __, signal) =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));

/** Keeps the first request that fits from being sent, or its answer from arriving, until `release`. */
export function hold(browser: Browser, fits: (sent: Sent) => boolean, keep: 'request' | 'answer' = 'request') {
    let release = () => {};
    const released = new Promise<void>((resolve) => (release = resolve));
    let begin = () => {};
    const begun = new Promise<void>((resolve) => (begin = resolve));
    const before = browser.network;
    browser.network = async (sent, send, signal) => {
        if (!fits(sent)) return before(sent, send, signal);
        browser.network = before;
        if (keep === 'answer') {
            const response = await send();
            begin();
            await released;
            return response;
        }
        begin();
        await released;
        return send();
    };
    return { begun, release };
}
