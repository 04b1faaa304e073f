import { form, formHeaders } from './encoding.js';
import { attempted, failure, unavailable } from './failure.js';

type Parameters = Record<string, string | undefined>;

/** Is what our server's JSON may have. */
export interface Answer {
    again?: boolean;
    new?: boolean;
    code?: string;
    state?: string;
    sub?: string;
    subn?: string;
    access_token?: string;
    refresh_token?: string;
    expires_in?: number;
    ticket?: string;
    error?: string;
}

/** Sends `parameters` and the client's id, as a form in a POST, else in the query. Rejects with a `Failure`. */
export type Send = (
    path: string,
    parameters?: Parameters,
    method?: 'GET' | 'POST' | 'DELETE',
    accessToken?: string,
) => Promise<Answer>;

export type Fetch = typeof globalThis.fetch;

const TIMEOUT = 10_000;

/** Returns what sends the requests of one client to one server. */
export function sender(server: string, client_id: string, credentials: RequestCredentials, fetch: Fetch): Send {
    return async (path, parameters, method = 'POST', accessToken) => {
        const encoded = form({ client_id, ...parameters });
        const isPost = method === 'POST';
        const abort = new AbortController();
        const timer = setTimeout(() => abort.abort(), TIMEOUT);
        const response = await attempted(() =>
            fetch(`${server}/oauth/${path}${isPost ? '' : `?${encoded}`}`, {
                method,
                credentials,
                signal: abort.signal,
                // The origin alone: an address of the page may hold what is nobody's business.
                referrerPolicy: 'origin',
                headers: accessToken ? { Authorization: `Bearer ${accessToken}` } : formHeaders,
                body: isPost ? encoded : null,
            } as RequestInit),
        );
        // A proxy's HTML is no answer.
        const answer: Answer | undefined = await attempted(async () => JSON.parse((await response!.text()) || '{}'));
        clearTimeout(timer);
        return judge(response, answer);
    };
}

function judge(response: Response | undefined, answer: Answer | undefined): Answer {
    if (answer) {
        const { ok, status } = response!;
        if (ok) return answer;
        const isRefusal = status < 500 && status !== 408 && status !== 429;
        if (isRefusal && answer.error) throw failure('misconfigured', answer.error, status);
    }
    throw unavailable(Number(response?.headers.get('Retry-After')) || 0);
}
