import type { State } from './guest.js';

/** Says why a request, or a whole attempt, has come to nothing. */
export interface Failure extends Error {
    /** The state that follows. Empty: the one before stays. */
    leadsTo: State | '';
    /** The server's OAuth error, if it has given one. */
    code: string;
    /** The status of a refusal. */
    httpStatus: number | undefined;
    /** In seconds. */
    retryAfter: number;
}

export const failure = (leadsTo: State | '', code: string = leadsTo, httpStatus?: number, retryAfter = 0): Failure =>
    Object.assign(Error(code), { leadsTo, code, httpStatus, retryAfter });

export const unavailable = (retryAfter?: number): Failure =>
    failure('waiting', 'temporarily_unavailable', undefined, retryAfter);

/** Tells that a grant is over for good, which nothing but exactly this does (RFC 6749 §5.2). */
export const endsGrant = ({ code, httpStatus }: Failure): boolean => code === 'invalid_grant' && httpStatus === 400;

/** Returns what comes of `work`, or nothing if it fails. */
export async function attempted<T>(work: () => T): Promise<Awaited<T> | undefined> {
    try {
        return await work();
    } catch {
        return undefined;
    }
}
