import { attempted, endsGrant, type Failure, failure } from './failure.js';
import { type Attempt, type Mode, settling } from './mode.js';
import { authorize, type Crypto, exchange, type Grant, refresh, tokens } from './oauth.js';
import type { Answer, Send } from './request.js';
import { isFresh, type Session } from './session.js';

/** Is `localStorage`, AsyncStorage, or whatever keeps texts by name. */
export interface Storage {
    getItem(key: string): string | null | undefined | Promise<string | null | undefined>;
    setItem(key: string, value: string): unknown;
    removeItem(key: string): unknown;
}

/** The most that expo-secure-store keeps. */
const MAX_BYTES = 2048;

/** Keeps the guest's tokens in `storage`, under `key`. */
export function storageMode(key: string, send: Send, storage: Storage, crypto: Crypto): Mode {
    async function read(): Promise<Session | undefined> {
        const text = await storage.getItem(key);
        // What can't be read is none of ours.
        const stored = await attempted<Session>(() => JSON.parse(text!));
        return stored?.r ? stored : undefined;
    }

    // What can't be written is left: the token before goes on working.
    const write = (known: Session) =>
        attempted(() => {
            const text = JSON.stringify(known);
            return storage.setItem(
                key,
                text.length > MAX_BYTES ? JSON.stringify({ ...known, token: undefined }) : text,
            );
        });

    // `refused` is the refresh token that has ended, or empty when a code was refused.
    async function renew(attempt: Attempt, refused?: string): Promise<Session> {
        const stored = await read();
        if (stored?.token && isFresh(stored)) return stored;
        const isNew = !stored || stored.r === refused;
        try {
            return await (isNew ? create(attempt) : keep(attempt, refresh(attempt.send, stored.r), stored));
        } catch (error) {
            if (!endsGrant(error as Failure) || attempt.isOver() || (isNew && refused !== undefined)) throw error;
            // Another tab may have gone on meanwhile. If none has, one new guest, and no second one.
            return renew(attempt, stored?.r || '');
        }
    }

    // The storage proves that it keeps what it is given, before a guest is made that it can't keep. Of tabs that have
    // begun at once, without a lock, the one that has written last goes first.
    async function create(attempt: Attempt): Promise<Session> {
        const claim = `${Math.random()}`.padEnd(MAX_BYTES);
        await storage.setItem(key, claim);
        // It may be another tab's by now.
        if ((await storage.getItem(key))?.length !== MAX_BYTES) throw failure('blocked');
        if (!attempt.isAlone) {
            await settling();
            if ((await storage.getItem(key)) !== claim) await settling();
        }
        return (await read()) || keep(attempt, exchange(attempt.send, await authorize(attempt.send, crypto)));
    }

    // Stores what has come of `before`, unless the guest was withdrawn, or another tab has gone on meanwhile.
    async function keep(attempt: Attempt, answering: Promise<Answer>, before?: Session): Promise<Session> {
        const known = await tokens(answering);
        if (attempt.isOver()) return known;
        const stored = await read();
        if (before && !stored) throw failure('withdrawn');
        if (stored && stored.r !== before?.r) return stored;
        await write(known);
        return known;
    }

    // As the server does for cookies: who has a guest becomes no other.
    async function redeem(attempt: Attempt, ticket: string): Promise<Session> {
        if (await read()) throw failure('', 'invalid_grant');
        return keep(attempt, exchange(attempt.send, ticket.split('.') as Grant));
    }

    async function end(erase?: boolean): Promise<void> {
        const stored = await read();
        if (stored && erase) {
            // With a new access token if there is one to be had.
            Object.assign(stored, await unlessGone(tokens(refresh(send, stored.r))));
            await unlessGone(send('profile', {}, 'DELETE', stored.token));
        }
        if (stored) await revoke(stored);
        await storage.removeItem(key);
    }

    const revoke = ({ r }: Session) => send('revoke', { token: r });

    return {
        renew,
        redeem,
        refreshToken: async () => (await read())?.r,
        end,
        discard: revoke,
    };
}

/** Does without an answer that there is no such guest any more. */
const unlessGone = <T>(answering: Promise<T>) =>
    answering.catch((error: Failure) => {
        if (!endsGrant(error) && error.code !== 'invalid_token') throw error;
    });
