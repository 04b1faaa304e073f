import { unavailable } from './failure.js';
import type { Answer } from './request.js';

export interface Identity {
    sub: string;
    subn: string;
}

/** Is what one answer has said of the guest: what is stored of it, too. */
export interface Session extends Identity {
    /** The refresh token, unless that is in a cookie. */
    r: string | undefined;
    token: string | undefined;
    /** How many seconds the token lives. */
    ttl: number;
    /** When it was received, in milliseconds. */
    at: number;
}

/** Reads an answer about a guest, who is named in the answer itself or beside it. */
export function session(answer: Answer, { sub, subn }: Partial<Identity> = answer): Session {
    const { refresh_token: r, access_token: token, expires_in: ttl } = answer;
    if (!sub || !ttl) throw unavailable();
    return { r, token, sub, subn: subn!, ttl, at: Date.now() };
}

/** Tells whether less than `seconds` have passed since `at`. By a clock that was set back, they have. */
export function isWithin(at: number, seconds: number): boolean {
    const age = (Date.now() - at) / 1000;
    return age >= 0 && age < seconds;
}

export const isFresh = ({ at, ttl }: Session): boolean => isWithin(at, ttl * 0.75);
