import { attempted, failure } from './failure.js';
import { type Mode, settling } from './mode.js';
import type { Send } from './request.js';
import { session } from './session.js';

/** Is where a page has kept its refresh token before it used cookies. */
export interface Migration {
    get(): string | null | Promise<string | null>;
    remove(): unknown;
}

/** Keeps the guest in cookies that no script can read, so that the server says who it is. */
export function cookieMode(send: Send, migration?: Migration): Mode {
    const end = (erase?: boolean) => send('session', { erase: erase ? 'yes' : undefined }, 'DELETE');

    return {
        // An answer without a guest has brought a cookie: the guest is made once that has come back.
        async renew({ send, isAlone }) {
            const ask = (refresh_token?: string) => send('session', { refresh_token });
            // It counts only where a cookie came back with it. With each request: the cookie may be there already.
            const old = (await attempted(() => migration?.get())) || undefined;
            let answer = await ask(old);
            if (answer.again) {
                // Tabs overwrite each other's cookie. A moment later they all come back with the same one.
                if (!isAlone) await settling();
                answer = await ask(old);
                if (answer.again) throw failure('blocked');
            }
            const known = session(answer);
            // The old token goes when the cookie alone has brought its guest. If the cookie was lost, that has made
            // another guest, which must go instead: the old token goes on working.
            if (old) {
                await attempted(async () => {
                    const proof = await ask();
                    if (proof.sub === known.sub) await migration!.remove();
                    else if (proof.new) await end(true);
                });
            }
            return known;
        },
        redeem: async ({ send }, ticket) => session(await send('session', { ticket })),
        end,
        // With consent, the cookies may be those of another guest by now.
        discard: (_, permit) => permit().catch(() => end()),
    };
}
