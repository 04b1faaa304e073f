import { cookieMode, type Migration } from './cookie-mode.js';
import { attempted, type Failure, failure } from './failure.js';
import { withLock } from './lock.js';
import type { Attempt } from './mode.js';
import type { Crypto } from './oauth.js';
import { activation, watch } from './page.js';
import { type Send, sender } from './request.js';
import { type Identity, isFresh, isWithin, type Session } from './session.js';
import { type Storage, storageMode } from './storage-mode.js';

export type State = 'idle' | 'known' | 'waiting' | 'blocked' | 'withdrawn' | 'misconfigured';

export interface Options extends Crypto {
    /** The server: `''` or `'/api'` on this host, else an origin with its base path, without a slash at its end. */
    server?: string;
    clientId: string;
    /** Keeps the tokens. Without it, the guest is kept in cookies. */
    storage?: Storage | undefined;
    /** Is asked before every request. Without it, consent is given. */
    consent?: (() => boolean | Promise<boolean>) | undefined;
    /** Moves a guest from where the page has kept its refresh token into cookies. */
    migrate?: Migration | undefined;
    fetch?: typeof globalThis.fetch | undefined;
}

export type Listener = (guest: Identity | null) => void;

export interface Guest {
    /** Returns who the guest is, or null for nobody; `state` says why. Never throws. */
    who(): Promise<Identity | null>;
    /** Returns an access token that hasn't expired, if the page may have one. Never throws. */
    token(): Promise<string | null>;
    /** Calls `listener` when the guest is another one than before. Returns what ends that. */
    onChange(listener: Listener): () => void;
    /** Forgets the guest, also on the server; rejects with `{ code }` if that wasn't to be reached: call it again. */
    withdraw(options?: { erase?: boolean }): Promise<void>;
    /** Returns a ticket by which `target`, a client, takes over this guest. Rejects with `{ code }`. */
    ticket(target: string): Promise<string>;
    /** Becomes the guest of a ticket. Rejects with `{ code }`; then everything is as before. */
    adopt(ticket: string): Promise<Identity | null>;
    readonly state: State;
}

const MAX_BACKOFF = 300;

/** Recognises the guest of this page or app. Asks nothing of the server before it is asked itself. */
export function createGuest(options: Options): Guest {
    const { server = '', clientId, storage, consent, migrate, fetch = globalThis.fetch } = options;
    const key = `guestpass.${clientId.replace(/[^\w.-]/g, '_')}`;
    const page = globalThis.document;
    // On a server, without a page and a storage, there is nowhere to keep a guest.
    const send: Send =
        storage || page
            ? sender(server, clientId, storage ? 'omit' : 'include', fetch)
            : () => Promise.reject(failure('', 'no_browser'));
    const mode = storage ? storageMode(key, send, storage, options) : cookieMode(send, migrate);
    const listeners = new Set<Listener>();

    let state: State = 'idle';
    let known: Session | null = null;
    let isStale = false;
    let renewal: Promise<void> | undefined;
    let adoption: Promise<unknown> | undefined;
    let withdrawals = 0;
    let isLeaving = false;
    let failures = 0;
    let failedAt = 0;
    let backoff = 0;

    const tell = watch(
        page,
        key,
        (sub) => {
            if (sub === null) leave();
            else if (sub !== known?.sub) isStale = true;
        },
        (isRestored) => {
            // What other tabs have said meanwhile is lost.
            isStale ||= isRestored;
            void ensure();
        },
    );

    /** Makes one request for all callers, if any is due. Never rejects. */
    async function ensure(): Promise<void> {
        await adoption;
        if (state === 'blocked' || state === 'misconfigured' || isLeaving) return;
        if (state === 'waiting' ? isWithin(failedAt, backoff) : known && !isStale && isFresh(known)) return;
        const joined = (renewal ||= attempt(mode.renew, fail));
        await joined;
        if (renewal === joined) renewal = undefined;
    }

    /** Has `work` get a session in the lock, unless consent is withdrawn meanwhile. */
    async function attempt(
        work: (attempt: Attempt) => Promise<Session>,
        fail: (error: Failure) => void,
    ): Promise<void> {
        const begun = withdrawals;
        const isOver = () => begun !== withdrawals;
        try {
            await activation(page);
            if (globalThis.navigator?.cookieEnabled === false) throw failure('blocked');
            await permit(isOver);
            const session = await withLock(key, async (isAlone) => {
                await permit(isOver);
                return work({
                    isOver,
                    // Without a page there are no tabs.
                    isAlone: isAlone || !page,
                    async send(...request) {
                        await permit(isOver);
                        return send(...request);
                    },
                });
            });
            if (isOver()) {
                await mode.discard(session, () => permit(() => false));
            } else {
                failures = 0;
                become(session, 'known');
                tell(session.sub);
            }
        } catch (error) {
            if (!isOver()) fail(error as Failure);
        }
    }

    async function permit(isOver: () => boolean): Promise<void> {
        if ((consent && !(await attempted(consent))) || isOver()) throw failure('', 'consent_required');
    }

    function fail(error: Failure): void {
        // What isn't a failure of ours is the storage's, or the page's.
        const { leadsTo = 'blocked', code = error, retryAfter } = error;
        if (leadsTo === 'misconfigured' || code === error) console.error('guestpass:', code);
        if (leadsTo === 'waiting') {
            state = leadsTo;
            failedAt = Date.now();
            backoff = Math.max(retryAfter, Math.min(MAX_BACKOFF, 2 ** failures++) * (1 + Math.random() / 4));
        } else if (leadsTo) {
            become(null, leadsTo);
        }
    }

    function become(session: Session | null, next: State): void {
        const isOther = session?.sub !== known?.sub;
        known = session;
        state = next;
        isStale = false;
        if (isOther) for (const listener of listeners) void Promise.resolve(identity()).then(listener);
    }

    function leave(): void {
        withdrawals++;
        renewal = undefined;
        become(null, 'withdrawn');
    }

    const identity = (): Identity | null => known && { sub: known.sub, subn: known.subn };

    return {
        async who() {
            await ensure();
            return identity();
        },
        async token() {
            await ensure();
            return (known && isWithin(known.at, known.ttl) && known.token) || null;
        },
        onChange(listener) {
            listeners.add(listener);
            return () => listeners.delete(listener);
        },
        async withdraw({ erase } = {}) {
            leave();
            isLeaving = true;
            tell(null);
            await withLock(key, () => mode.end(erase));
            isLeaving = false;
            tell(null);
        },
        async ticket(target) {
            await ensure();
            await permit(() => !known);
            const { ticket } = await send('ticket', { target, refresh_token: await mode.refreshToken?.() });
            return ticket!;
        },
        async adopt(ticket) {
            const adopting = attempt(
                (attempt) => mode.redeem(attempt, ticket),
                (error) => {
                    throw error;
                },
            );
            // Who asks meanwhile is answered afterwards.
            adoption = attempted(() => adopting);
            await adopting;
            return identity();
        },
        get state() {
            return state;
        },
    };
}
