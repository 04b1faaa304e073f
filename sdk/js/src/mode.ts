import type { Send } from './request.js';
import type { Session } from './session.js';

/** Is one attempt to get something of the server. */
export interface Attempt {
    /** Asks for consent before it sends. */
    send: Send;
    /** Tells whether consent was withdrawn since the attempt began. */
    isOver(): boolean;
    /** Tells whether other tabs wait meanwhile. */
    isAlone: boolean;
}

/** Is where a guest is kept: in cookies, or in a storage. */
export interface Mode {
    /** Returns the guest that is known here, or a new one. */
    renew(attempt: Attempt): Promise<Session>;
    redeem(attempt: Attempt, ticket: string): Promise<Session>;
    /** Returns the refresh token, unless it is in a cookie. */
    refreshToken?(): Promise<string | undefined>;
    /** Has the server end the guest that is kept here, and removes it. */
    end(erase?: boolean): Promise<unknown>;
    /** Ends a guest that has come after consent was withdrawn. `permit` rejects unless consent was given again. */
    discard(late: Session, permit: () => Promise<void>): Promise<unknown>;
}

/** Lets tabs that have begun at once, without a lock, see what each of them has done. */
export const settling = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 150));
