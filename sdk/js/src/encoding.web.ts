// Takes the place of `encoding.ts` in browsers, which have most of it.

/** Encodes without padding (RFC 4648 §5). */
export const encode = (bytes: Uint8Array): string =>
    btoa(String.fromCharCode(...bytes))
        .replace(/\+/g, '-')
        .replace(/\//g, '_')
        .replace(/=/g, '');

/** Decodes to a string of bytes. */
export const decode = (text: string): string => atob(text.replace(/-/g, '+').replace(/_/g, '/'));

/** Encodes what has a value, as a form. Only through JSON do the others go. */
export const form = (parameters: Record<string, string | undefined>): URLSearchParams =>
    new URLSearchParams(JSON.parse(JSON.stringify(parameters)));

/** Are none, for the browser says what URLSearchParams are. */
export const formHeaders = undefined;
