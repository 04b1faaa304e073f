// Takes the place of `services/auth` of the React Native SDK 0.1.5, by an alias of the bundler. All that depends on the
// SDK is here. Unlike it, a guest that has ended makes way for a new one, and verifiers can't be guessed.
import { endsGrant, type Failure } from '../src/failure.js';
import { authorize, exchange, refresh } from '../src/oauth.js';
import { sender } from '../src/request.js';
import { sha256 } from '../src/sha256.js';

/** Is what the SDK stores, and replaces with each answer. */
export interface AuthCredentials {
    access_token: string;
    refresh_token: string;
    token_type: string;
    expires_in: number;
}

const api = (clientId: string, domain: string) => sender(`https://${domain}/api`, clientId, 'omit', fetch);

/** Makes a new guest. */
export async function authenticate(clientId: string, domain: string): Promise<AuthCredentials> {
    const send = api(clientId, domain);
    return (await exchange(send, await authorize(send, { sha256 }))) as AuthCredentials;
}

/** Continues the guest of `credentials`, or makes a new one if that is over for good. */
export async function refreshToken(
    credentials: AuthCredentials,
    clientId: string,
    domain: string,
): Promise<AuthCredentials> {
    try {
        return (await refresh(api(clientId, domain), credentials.refresh_token)) as AuthCredentials;
    } catch (error) {
        if (endsGrant(error as Failure)) return authenticate(clientId, domain);
        throw error;
    }
}
