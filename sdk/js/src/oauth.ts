import { decode, encode } from './encoding.js';
import { attempted, unavailable } from './failure.js';
import type { Answer, Send } from './request.js';
import { type Identity, type Session, session } from './session.js';

/** Hashes for PKCE (RFC 7636 §4.2), as `crypto.subtle.digest` does. */
export type Sha256 = (data: Uint8Array) => ArrayBuffer | Uint8Array | Promise<ArrayBuffer | Uint8Array>;

/** Returns so many bytes that nobody can guess. */
export type Random = (count: number) => Uint8Array | Promise<Uint8Array>;

export interface Crypto {
    sha256?: Sha256 | undefined;
    random?: Random | undefined;
}

/** Is a code, and the verifier that redeems it (RFC 7636). */
export type Grant = [code: string, verifier: string];

const redirect_uri = 'urn:ietf:wg:oauth:2.0:oob:auto';

const webSha256: Sha256 = (data) => crypto.subtle.digest('SHA-256', data as BufferSource);
const webRandom: Random = (count) => crypto.getRandomValues(new Uint8Array(count));

/** Makes a new guest, and gets a code for it. */
export async function authorize(send: Send, { sha256 = webSha256, random = webRandom }: Crypto): Promise<Grant> {
    const verifier = encode(await random(32));
    const state = encode(await random(32));
    const hash = await sha256(Uint8Array.from(verifier, (letter) => letter.charCodeAt(0)));
    const parameters = {
        response_type: 'code',
        redirect_uri,
        state,
        code_challenge: encode(new Uint8Array(hash)),
        code_challenge_method: 'S256',
    };
    const answer = await send('authorize', parameters, 'GET');
    if (!answer.code || answer.state !== state) throw unavailable();
    return [answer.code, verifier];
}

/** Redeems a code. */
export const exchange = (send: Send, [code, code_verifier]: Grant): Promise<Answer> =>
    send('token', { grant_type: 'authorization_code', redirect_uri, code, code_verifier });

export const refresh = (send: Send, refresh_token: string | undefined): Promise<Answer> =>
    send('token', { grant_type: 'refresh_token', refresh_token });

/** Reads an answer of the token endpoint, whose access token names the guest. */
export async function tokens(answering: Promise<Answer>): Promise<Session> {
    const answer = await answering;
    const claims = await attempted<Identity>(() => JSON.parse(decode(answer.access_token!.split('.')[1]!)));
    return session(answer, claims || {});
}
